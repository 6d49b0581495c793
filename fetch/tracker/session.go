package tracker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A session is one socket towards one UDP tracker address, shared by the announces to it, and so is the connection id
// got on it. The socket is connected to that address, so that the kernel drops what others send and reports a
// refusal: a dead tracker is known at once.

const (
	udpIDLife    = time.Minute // for which a connection id may be used (BEP 15)
	udpIdle      = time.Minute // for which an unused session is kept
	udpMaxKept   = 128         // unless there are more than this
	udpMaxPacket = 20 + maxPeers*compact6
	udpMaxErrors = 16 // failed reads in a row that end a session
)

// session returns the session with a tracker address, opening it if need be. The caller releases it.
func (c *Client) session(ctx context.Context, addr netip.AddrPort) (*session, error) {
	if s := c.adopt(addr, nil); s != nil {
		return s, nil
	}
	conn, err := c.openUDP(ctx, addr)
	if err != nil {
		return nil, err
	}
	s := c.adopt(addr, conn)
	if s == nil {
		return nil, ErrClosed
	}
	return s, nil
}

// adopt takes a user's share of the session with addr. Without one, a session is made of conn, if given; with one,
// conn is closed.
func (c *Client) adopt(addr netip.AddrPort, conn packetConn) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[addr]
	if s == nil && conn != nil && !c.closed {
		s = &session{
			conn:       conn,
			connecting: make(chan struct{}, 1),
			waiting:    make(map[uint32]waiter),
		}
		s.idle = time.AfterFunc(udpIdle, func() { c.expire(addr, s) })
		c.sessions[addr] = s
		c.running.Add(1)
		go func() {
			defer c.running.Done()
			s.read()
			c.expire(addr, s)
		}()
	} else if conn != nil {
		conn.Close()
	}
	if s != nil {
		s.users++
		s.idle.Stop()
	}
	return s
}

// release gives a share back.
func (c *Client) release(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	keep := udpIdle
	if len(c.sessions) > udpMaxKept {
		keep = 0
	}
	s.idle.Reset(keep)
}

// expire drops a session that nobody uses, or whose reader has ended.
func (c *Client) expire(addr netip.AddrPort, s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.users > 0 && !s.ended() {
		return
	}
	s.idle.Stop()
	s.conn.Close()
	if c.sessions[addr] == s {
		delete(c.sessions, addr)
	}
}

// packetConn is a socket towards one tracker address.
type packetConn interface {
	send(p []byte) error
	// recv returns the length of a datagram, and false if it is from somebody else.
	recv(p []byte) (n int, ours bool, err error)
	Close() error
}

// openUDP opens a socket towards addr.
func (c *Client) openUDP(ctx context.Context, addr netip.AddrPort) (packetConn, error) {
	network, local := "udp4", "0.0.0.0:0"
	if addr.Addr().Is6() {
		network, local = "udp6", "[::]:0"
	}
	if c.opt.ListenPacket != nil {
		conn, err := c.opt.ListenPacket(ctx, network, local)
		if err != nil {
			return nil, err
		}
		return &unconnected{conn, addr}, nil
	}
	conn, err := c.opt.DialContext(ctx, network, addr.String())
	if err != nil {
		return nil, err
	}
	return connected{conn}, nil
}

// connected is a socket whose peer the kernel holds it to.
type connected struct{ net.Conn }

func (c connected) send(p []byte) error {
	_, err := c.Write(p)
	return err
}

func (c connected) recv(p []byte) (int, bool, error) {
	n, err := c.Read(p)
	return n, true, err
}

// unconnected is a socket that hears from anybody, so senders are compared here.
type unconnected struct {
	net.PacketConn
	peer netip.AddrPort
}

func (u *unconnected) send(p []byte) error {
	_, err := u.WriteTo(p, net.UDPAddrFromAddrPort(u.peer))
	return err
}

func (u *unconnected) recv(p []byte) (int, bool, error) {
	n, from, err := u.ReadFrom(p)
	if err != nil {
		return 0, false, err
	}
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return n, false, nil
	}
	at := udp.AddrPort()
	return n, netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()) == u.peer, nil
}

// session is one socket towards one tracker address, and what the tracker said on it. Its reader ends when the
// socket is closed.
type session struct {
	conn packetConn

	users int         // guarded by Client.mu, as is idle
	idle  *time.Timer // runs while there are no users

	connecting chan struct{} // capacity 1: held by the one who asks for a connection id

	mu      sync.Mutex
	id      uint64
	idUntil time.Time
	waiting map[uint32]waiter // by transaction id
	broken  error             // why the reader ended
}

// waiter is a request that waits for its reply.
type waiter struct {
	action  uint32
	replies chan<- datagram // capacity 1
}

// put passes on the first of the replies.
func (w waiter) put(d datagram) {
	select {
	case w.replies <- d:
	default:
	}
}

// datagram is a reply, or why there can be none.
type datagram struct {
	p   []byte
	err error
}

// read hands replies to those who wait for them, until the socket fails for good.
func (s *session) read() {
	buf := make([]byte, udpMaxPacket)
	for failed := 0; failed < udpMaxErrors; {
		n, ours, err := s.conn.recv(buf)
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			// An ICMP answer to what we sent: the port is closed, or the host can't be reached.
			failed++
			s.failAll(err, false)
			continue
		}
		failed = 0
		if ours {
			s.handle(buf[:n])
		}
	}
	s.failAll(net.ErrClosed, true)
}

// handle passes a reply to the request of its transaction. It has to be of that request's action, or an error.
func (s *session) handle(p []byte) {
	if len(p) < 8 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	action := binary.BigEndian.Uint32(p)
	w, ok := s.waiting[binary.BigEndian.Uint32(p[4:])]
	if ok && (action == w.action || action == actionError) {
		w.put(datagram{p: bytes.Clone(p)})
	}
}

// failAll tells everyone who waits that no reply will come, and with forGood that none ever will.
func (s *session) failAll(err error, forGood bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if forGood {
		s.broken = err
	}
	for _, w := range s.waiting {
		w.put(datagram{err: err})
	}
}

func (s *session) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken != nil
}

// connect returns a connection id, asking for one unless one is at hand, which reused tells.
func (s *session) connect(ctx context.Context, wait time.Duration) (id uint64, reused bool, err error) {
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case s.connecting <- struct{}{}:
		defer func() { <-s.connecting }()
	case <-patience.C:
		return 0, false, errNoReply
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	s.mu.Lock()
	id, reused = s.id, time.Now().Before(s.idUntil)
	s.mu.Unlock()
	if reused {
		return id, true, nil
	}
	p, err := s.exchange(ctx, connectPacket(), wait)
	if err != nil {
		return 0, false, err
	}
	if id, err = parseConnect(p); err != nil {
		return 0, false, err
	}
	s.mu.Lock()
	s.id, s.idUntil = id, time.Now().Add(udpIDLife)
	s.mu.Unlock()
	return id, false, nil
}

// forget drops a connection id that the tracker no longer takes.
func (s *session) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == id {
		s.idUntil = time.Time{}
	}
}

// exchange sends a request, whose transaction id it fills in, and returns the reply to it, which is at least 8 bytes
// long. After wait it gives up with errNoReply.
func (s *session) exchange(ctx context.Context, p []byte, wait time.Duration) ([]byte, error) {
	replies := make(chan datagram, 1)
	if err := s.register(p, replies); err != nil {
		return nil, err
	}
	defer s.unregister(p)
	if err := s.conn.send(p); err != nil {
		return nil, err
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case d := <-replies:
		return d.p, d.err
	case <-patience.C:
		return nil, errNoReply
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// register draws a transaction id that can't be guessed, writes it into the request p, and has the reply to it passed
// on.
func (s *session) register(p []byte, replies chan<- datagram) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	for {
		rand.Read(p[12:16]) // never fails
		id := binary.BigEndian.Uint32(p[12:])
		if _, taken := s.waiting[id]; !taken {
			s.waiting[id] = waiter{binary.BigEndian.Uint32(p[8:]), replies}
			return nil
		}
	}
}

func (s *session) unregister(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, binary.BigEndian.Uint32(p[12:]))
}

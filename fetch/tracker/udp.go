package tracker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// The UDP tracker protocol (BEP 15). To announce, a client first asks for a connection id, which proves that it
// receives at the address it sends from, and then announces with it. Each request has a random transaction id that
// the reply repeats; a lost one is sent again, ever more patiently.
//
// A session is one socket towards one tracker address, shared by the announces to it. While it is connected to that
// address, the kernel drops what others send and reports a refusal, so that a dead tracker is known at once.

const (
	protocolMagic = 0x41727101980

	actionConnect  = 0
	actionAnnounce = 1
	actionError    = 3

	udpBaseWait  = 15 * time.Second // for a reply; doubled by every further try
	udpLastTry   = 8                // the number of doublings after which to give up
	udpIDLife    = time.Minute      // for which a connection id may be used
	udpIdle      = time.Minute      // for which an unused session is kept
	udpMaxKept   = 128              // unless there are more than this
	udpMaxPacket = 20 + maxPeers*compact6
	udpMaxErrors = 16  // failed reads in a row that end a session
	maxURLData   = 960 // bytes of path and query that are sent along (BEP 41)
)

var errNoReply = errors.New("no reply")

// announceUDP makes one announce to a UDP tracker by one family.
func (c *Client) announceUDP(ctx context.Context, u *url.URL, f family, r Request) (Response, error) {
	if f == either {
		return Response{}, errors.New("UDP trackers can't be reached through a proxy that resolves names")
	}
	port := uint64(80)
	if p := u.Port(); p != "" {
		var err error
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return Response{}, fmt.Errorf("port %q is not a port", clean(p))
		}
	}
	options, err := urlOptions(u)
	if err != nil {
		return Response{}, err
	}
	addrs, err := c.resolve(ctx, u, f, false)
	if err != nil {
		return Response{}, err
	}
	for n := range udpLastTry + 1 {
		addr := netip.AddrPortFrom(addrs[n%len(addrs)], uint16(port))
		resp, err := c.tryUDP(ctx, addr, r, options, udpBaseWait<<n)
		switch {
		case err == nil:
			resp.Peers = sift(resp.Peers, reachOf(addr.Addr()))
			return resp, nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return Response{}, errNoReply
		case ctx.Err() != nil:
			return Response{}, ctx.Err()
		case !errors.Is(err, errNoReply) && n >= len(addrs)-1:
			return Response{}, err
		}
		// Silence is met with another try, and an address that is plainly dead with the next one.
	}
	return Response{}, errNoReply
}

// tryUDP makes one try at one address: it gets a connection id unless there is one, and announces.
func (c *Client) tryUDP(ctx context.Context, addr netip.AddrPort, r Request, options []byte, wait time.Duration) (Response, error) {
	s, err := c.session(ctx, addr)
	if err != nil {
		return Response{}, err
	}
	defer c.release(s)
	for {
		id, reused, err := s.connect(ctx, wait)
		if err != nil {
			return Response{}, err
		}
		p, err := s.exchange(ctx, announcePacket(id, r, options), wait)
		if err != nil {
			return Response{}, err
		}
		resp, err := parseAnnounce(p, addr.Addr().Is6())
		var refused *RefusedError
		if reused && errors.As(err, &refused) {
			// It may have been the id that was refused.
			s.forget(id)
			continue
		}
		return resp, err
	}
}

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
	conn, err := new(net.Dialer).DialContext(ctx, network, addr.String())
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

// connectPacket is a request for a connection id, without its transaction id.
func connectPacket() []byte {
	p := binary.BigEndian.AppendUint64(make([]byte, 0, 16), protocolMagic)
	p = binary.BigEndian.AppendUint32(p, actionConnect)
	return append(p, 0, 0, 0, 0)
}

// announcePacket is an announce, without its transaction id. Its layout is the same for IPv4 and IPv6.
func announcePacket(id uint64, r Request, options []byte) []byte {
	be := binary.BigEndian
	p := be.AppendUint64(make([]byte, 0, 98+len(options)), id)
	p = be.AppendUint32(p, actionAnnounce)
	p = append(p, 0, 0, 0, 0)
	p = append(p, r.InfoHash[:]...)
	p = append(p, r.PeerID[:]...)
	p = be.AppendUint64(p, uint64(max(r.Downloaded, 0)))
	p = be.AppendUint64(p, uint64(r.left()))
	p = be.AppendUint64(p, uint64(max(r.Uploaded, 0)))
	p = be.AppendUint32(p, r.Event.code())
	p = be.AppendUint32(p, 0) // our address: the one it sees
	p = be.AppendUint32(p, r.Key)
	p = be.AppendUint32(p, uint32(r.numWant()))
	p = be.AppendUint16(p, r.Port)
	return append(p, options...)
}

// urlOptions tells the tracker the path and query of its URL (BEP 41), where there is more than a host.
func urlOptions(u *url.URL) ([]byte, error) {
	data := u.EscapedPath()
	if data == "/" {
		data = ""
	}
	if u.RawQuery != "" {
		data += "?" + u.RawQuery
	}
	if len(data) > maxURLData {
		return nil, fmt.Errorf("path of the tracker's URL is longer than %d bytes", maxURLData)
	}
	const urlData = 2
	var options []byte
	for len(data) > 0 {
		n := min(len(data), 255)
		options = append(options, urlData, byte(n))
		options = append(options, data[:n]...)
		data = data[n:]
	}
	return options, nil
}

// parseConnect reads the reply to a connectPacket, of at least 8 bytes.
func parseConnect(p []byte) (id uint64, err error) {
	if binary.BigEndian.Uint32(p) == actionError {
		return 0, refusal(p)
	}
	if len(p) < 16 {
		return 0, fmt.Errorf("connect reply of %d bytes is too short", len(p))
	}
	return binary.BigEndian.Uint64(p[8:]), nil
}

// parseAnnounce reads the reply to an announcePacket, of at least 8 bytes. The size of its peers is that of the
// family it was asked over.
func parseAnnounce(p []byte, is6 bool) (Response, error) {
	be := binary.BigEndian
	if be.Uint32(p) == actionError {
		return Response{}, refusal(p)
	}
	if len(p) < 20 {
		return Response{}, fmt.Errorf("announce reply of %d bytes is too short", len(p))
	}
	size := compact4
	if is6 {
		size = compact6
	}
	// The numbers are signed on the wire; a negative one is nonsense and counts as none.
	return Response{
		Interval: seconds(int64(int32(be.Uint32(p[8:])))),
		Leechers: count(int64(int32(be.Uint32(p[12:])))),
		Seeders:  count(int64(int32(be.Uint32(p[16:])))),
		Peers:    compactPeers(p[20:], size),
	}, nil
}

func refusal(p []byte) error {
	reason := clean(string(p[8:]))
	if reason == "" {
		reason = "no reason given"
	}
	return &RefusedError{Reason: reason}
}

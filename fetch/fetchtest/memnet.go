package fetchtest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Network joins peers and their readers in memory: addresses, listeners, connections over links with a delay and a rate.
// It needs nothing of the kernel, so it works under testing/synctest, where hours of a slow swarm pass in a moment and the
// same way each time.
type Network struct {
	mu    sync.Mutex
	hosts map[netip.AddrPort]*host
	ports uint16  // given to dialling sides, counted up
	pipes []*pipe // of all connections so far
	split bool
}

// NewNetwork makes a network without hosts.
func NewNetwork() *Network { return &Network{hosts: make(map[netip.AddrPort]*host), ports: 20000} }

// Split cuts every connection without a word to either side, as an address that is gone does, and lets nobody connect until
// Rejoin.
func (n *Network) Split() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.split = true
	for _, p := range n.pipes {
		p.lose()
	}
	n.pipes = nil
}

// Rejoin lets everybody connect again; what was cut stays cut.
func (n *Network) Rejoin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.split = false
}

// Listen lets others connect to addr over a link. The rate belongs to the host, whatever the number of connections.
func (n *Network) Listen(addr netip.AddrPort, link Link) net.Listener {
	h := &host{network: n, addr: addr, link: link, queue: make(chan net.Conn), done: make(chan struct{})}
	h.up.link, h.down.link = link, link
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = h
	return h
}

// Dialer returns a dial function for somebody at an IP address, as swarm.Config wants it.
func (n *Network) Dialer(from netip.Addr) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		h := n.hosts[to]
		n.ports++
		local := netip.AddrPortFrom(from, n.ports)
		split := n.split
		n.mu.Unlock()
		if split {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if h == nil {
			return nil, syscall.ECONNREFUSED
		}
		return h.join(ctx, local)
	}
}

// host is an address that can be connected to.
type host struct {
	network  *Network
	addr     netip.AddrPort
	link     Link
	up, down cable
	queue    chan net.Conn
	done     chan struct{}
	once     sync.Once
}

// join opens a connection, which takes a round trip.
func (h *host) join(ctx context.Context, local netip.AddrPort) (net.Conn, error) {
	if err := sleep(ctx, time.Now().Add(2*h.link.Delay)); err != nil {
		return nil, err
	}
	near := &memConn{local: local, remote: h.addr, in: newPipe(&h.down), out: newPipe(&h.up)}
	far := &memConn{local: h.addr, remote: local, in: near.out, out: near.in}
	select {
	case h.queue <- far:
		h.network.mu.Lock()
		defer h.network.mu.Unlock()
		h.network.pipes = append(h.network.pipes, near.in, near.out)
		return near, nil
	case <-h.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.queue:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *host) Close() error {
	h.once.Do(func() {
		close(h.done)
		h.network.mu.Lock()
		defer h.network.mu.Unlock()
		if h.network.hosts[h.addr] == h {
			delete(h.network.hosts, h.addr)
		}
	})
	return nil
}

// Addr implements net.Listener.
func (h *host) Addr() net.Addr { return net.TCPAddrFromAddrPort(h.addr) }

// cable is one direction of a host's link; all of its connections share the rate.
type cable struct {
	link Link
	mu   sync.Mutex
	free time.Time // when the last byte given to it has left
}

// send gives the cable n bytes and says when they arrive.
func (c *cable) send(n int) time.Time {
	now := time.Now()
	if c.link.Rate == 0 {
		return now.Add(c.link.Delay)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.free.Before(now) {
		c.free = now
	}
	c.free = c.free.Add(time.Duration(float64(n) / float64(c.link.Rate) * float64(time.Second)))
	return c.free.Add(c.link.Delay)
}

const (
	packet   = 16 << 10 // bytes that arrive as one
	roomLeft = 64 << 10 // bytes that a sender may be ahead of the link
)

// pipe is one direction of a connection.
type pipe struct {
	cable *cable
	room  int // bytes that may be under way

	mu       sync.Mutex
	queue    []packets
	size     int
	ended    bool          // by the writer: what is under way still arrives
	broken   bool          // by the reader
	lost     bool          // what is written goes nowhere, and neither end hears of the other
	changed  chan struct{} // closed and made anew with each change
	deadline [2]time.Time  // of reading, of writing
}

// packets are bytes under way.
type packets struct {
	bytes  []byte
	arrive time.Time
}

func newPipe(c *cable) *pipe {
	room := 1 << 20
	if c.link.Rate > 0 {
		room = roomLeft + int(float64(c.link.Rate)*c.link.Delay.Seconds())
	}
	return &pipe{cable: c, room: room, changed: make(chan struct{})}
}

const (
	reading = 0
	writing = 1
)

// tell wakes whoever waits. The caller holds mu.
func (p *pipe) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait gives mu up until something changes or until a time (zero: none) has come.
func (p *pipe) wait(until time.Time) {
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	if until.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

// expired reports whether a deadline has passed. The caller holds mu.
func (p *pipe) expired(side int) bool {
	d := p.deadline[side]
	return !d.IsZero() && !time.Now().Before(d)
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		until := p.deadline[reading]
		switch {
		case p.broken:
			return 0, net.ErrClosed
		case p.expired(reading):
			return 0, os.ErrDeadlineExceeded
		case len(p.queue) > 0:
			full := p.size >= p.room
			if n := p.take(b); n > 0 {
				if full {
					p.tell()
				}
				return n, nil
			}
			if at := p.queue[0].arrive; until.IsZero() || at.Before(until) {
				until = at
			}
		case p.ended && !p.lost:
			return 0, io.EOF
		}
		p.wait(until)
	}
}

// take copies what has arrived. The caller holds mu.
func (p *pipe) take(b []byte) (n int) {
	now := time.Now()
	for n < len(b) && len(p.queue) > 0 && !now.Before(p.queue[0].arrive) {
		first := &p.queue[0]
		k := copy(b[n:], first.bytes)
		n += k
		if first.bytes = first.bytes[k:]; len(first.bytes) == 0 {
			p.queue = p.queue[1:]
		}
	}
	p.size -= n
	return n
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		switch {
		case p.ended:
			return n, net.ErrClosed
		case p.lost:
			return n + len(b), nil
		case p.broken:
			return n, syscall.ECONNRESET
		case p.expired(writing):
			return n, os.ErrDeadlineExceeded
		case p.size >= p.room:
			p.wait(p.deadline[writing])
			continue
		}
		k := min(len(b), p.room-p.size)
		if p.cable.link.Rate > 0 {
			k = min(k, packet)
		}
		p.queue = append(p.queue, packets{append([]byte(nil), b[:k]...), p.cable.send(k)})
		if p.size += k; len(p.queue) == 1 {
			p.tell()
		}
		b = b[k:]
		n += k
	}
	return n, nil
}

// lose cuts the pipe.
func (p *pipe) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = true
	p.queue, p.size = nil, 0
	p.tell()
}

// end closes the pipe from one side.
func (p *pipe) end(side int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if side == reading {
		p.broken = true
		p.queue, p.size = nil, 0
	} else {
		p.ended = true
	}
	p.tell()
}

func (p *pipe) setDeadline(side int, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline[side] = t
	p.tell()
}

// memConn is one end of a connection.
type memConn struct {
	local, remote netip.AddrPort
	in, out       *pipe
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }

func (c *memConn) Close() error {
	c.in.end(reading)
	c.out.end(writing)
	return nil
}

func (c *memConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *memConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(reading, t)
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(writing, t)
	return nil
}

// Pipe is a connection in memory between two addresses, without delay.
func Pipe(a, b netip.AddrPort) (atA, atB net.Conn) {
	to, from := newPipe(new(cable)), newPipe(new(cable))
	return &memConn{local: a, remote: b, in: from, out: to}, &memConn{local: b, remote: a, in: to, out: from}
}

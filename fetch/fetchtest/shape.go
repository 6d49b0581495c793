// Package fetchtest makes swarms to download from, for tests and benchmarks: scripted peers, honest and hostile, and
// what lies between a reader and its peers. Nothing shipped imports it.
package fetchtest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
)

// Link is what lies between a reader and one peer: a line each way with its delay and its rate.
//
// The delay is that of a real line, pipelined: bytes leave one after the other at the line's rate and each
// arrives Delay later, however many are under way. The rate belongs to the peer, so that a reader gains
// nothing by opening a second connection to it.
type Link struct {
	Delay time.Duration // one way: a round trip takes twice that
	Rate  int64         // bytes a second, each way; 0: unlimited
}

const (
	// linkBurst is how much unused time an idle line makes up for: next to nothing.
	linkBurst = 10 * time.Millisecond
	// linkLate is how much a line makes up for that had bytes waiting all along, while the machine was
	// too busy to carry them.
	linkLate = 250 * time.Millisecond
	// linkWait is the wait for bytes, or for room, from which on a line counts as idle.
	linkWait = 2 * time.Millisecond
	// linkSlice bounds the bytes that leave a line as one, in line time: what a reader sees as jitter.
	linkSlice = 5 * time.Millisecond
	// linkSlack is the shortest wait worth a timer.
	linkSlack = time.Millisecond

	segment   = 1448     // bytes of payload in an Ethernet packet: the least that leaves a line as one
	maxParcel = 64 << 10 // bytes
)

// A Proxy is a peer's address as seen from behind a Link: what connects to it is joined to the peer.
// The opening of a connection takes its round trip too: a connection is accepted at once, since nothing but
// the kernel could delay that, but what is sent on it first arrives as if it had not been.
type Proxy struct {
	addr, target string
	link         Link
	up, down     line
	delivered    atomic.Int64 // bytes written towards readers

	mu     sync.Mutex
	listen net.Listener  // nil while dead
	open   chan struct{} // closed unless silent
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Shape listens on addr (of the form 127.0.0.2:0) and joins what connects there to the peer at target.
func Shape(addr, target string, link Link) (*Proxy, error) {
	p := &Proxy{addr: addr, target: target, link: link, open: make(chan struct{})}
	p.up.rate, p.down.rate = link.Rate, link.Rate
	close(p.open)
	if err := p.Revive(); err != nil {
		return nil, err
	}
	return p, nil
}

// Addr is where the proxy listens, as host:port. It stays the same over Die and Revive.
func (p *Proxy) Addr() string { return p.addr }

// Delivered is the number of bytes of all kinds handed to readers so far.
func (p *Proxy) Delivered() int64 { return p.delivered.Load() }

// Die closes every connection and refuses new ones, as when the peer's process ends.
func (p *Proxy) Die() {
	p.mu.Lock()
	listen, cancel := p.listen, p.cancel
	p.listen = nil
	p.mu.Unlock()
	if listen == nil {
		return
	}
	listen.Close()
	cancel()
	p.wg.Wait()
}

// Silence keeps every connection and lets nothing through, as when the peer's machine loses its power.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

// Revive undoes Die and Silence.
func (p *Proxy) Revive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
	if p.listen != nil {
		return nil
	}
	listen, err := (&net.ListenConfig{Control: segmented}).Listen(context.Background(), "tcp", p.addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.addr, p.listen, p.cancel = listen.Addr().String(), listen, cancel
	p.wg.Go(func() { p.accept(ctx, listen) })
	return nil
}

// Close ends the proxy and all of its connections.
func (p *Proxy) Close() error {
	p.Die()
	return nil
}

func (p *Proxy) accept(ctx context.Context, listen net.Listener) {
	for {
		reader, err := listen.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.join(ctx, reader) })
	}
}

// join carries one connection until both of its directions have ended.
func (p *Proxy) join(ctx context.Context, reader net.Conn) {
	defer reader.Close()
	accepted := time.Now()
	peer, err := (&net.Dialer{Control: p.down.small}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer peer.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { reader.Close(); peer.Close() })
	defer stop()

	var wg sync.WaitGroup
	carry := func(dst, src net.Conn, l *line, handshake time.Duration, count *atomic.Int64) {
		d := direction{line: l, delay: p.link.Delay, from: accepted.Add(handshake), gate: p.gate, count: count}
		if err := d.carry(ctx, dst, src); err != nil {
			cancel() // a broken connection is broken both ways
		}
	}
	wg.Go(func() { carry(peer, reader, &p.up, 2*p.link.Delay, nil) })
	wg.Go(func() { carry(reader, peer, &p.down, 3*p.link.Delay, &p.delivered) })
	wg.Wait()
}

// gate waits while the proxy is silent.
func (p *Proxy) gate(ctx context.Context) error {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A line is the bottleneck of one direction of a link, shared by all connections over it.
type line struct {
	rate int64 // bytes a second; 0: unlimited

	mu   sync.Mutex
	free time.Time // when the last byte it was given has left
}

// book gives the line n bytes at now and says when the last of them leaves it. Time that the line did not
// use is lost but for grace.
func (l *line) book(n int, now time.Time, grace time.Duration) time.Time {
	if l.rate <= 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lost := now.Add(-grace); l.free.Before(lost) {
		l.free = lost
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	if l.free.Before(now) {
		return now
	}
	return l.free
}

// parcel is the most that leaves the line as one.
func (l *line) parcel() int {
	if l.rate <= 0 {
		return maxParcel
	}
	return min(max(int(float64(l.rate)*linkSlice.Seconds()), segment), maxParcel)
}

// under is how many bytes may be under way before the receiver's not reading holds the sender back.
func (l *line) under(delay time.Duration) int64 {
	if l.rate <= 0 {
		return 64 << 20
	}
	return int64(float64(l.rate)*delay.Seconds()) + 4*maxParcel
}

// A direction carries one way of one connection over a line.
type direction struct {
	line  *line
	delay time.Duration
	from  time.Time // no byte enters the line earlier
	gate  func(context.Context) error
	count *atomic.Int64
}

type parcel struct {
	bytes  []byte
	arrive time.Time
}

// carry copies src to dst over the line until src ends, which it passes on (nil), or either breaks.
func (d direction) carry(ctx context.Context, dst, src net.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := d.line.under(d.delay)
	queue, held := make(chan parcel, room/segment+1), semaphore.NewWeighted(room)

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(queue)
		if err := d.fill(ctx, src, queue, held); err != nil {
			cancel(err)
		}
	})
	for p := range queue {
		err := sleep(ctx, p.arrive)
		if err == nil {
			err = d.gate(ctx)
		}
		if err == nil {
			_, err = dst.Write(p.bytes)
		}
		if err != nil {
			src.Close() // so that fill ends
			cancel(err)
			return err
		}
		if d.count != nil {
			d.count.Add(int64(len(p.bytes)))
		}
		held.Release(int64(len(p.bytes)))
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return dst.Close()
}

// fill reads src at the line's rate and queues what it read, each parcel with its time of arrival.
func (d direction) fill(ctx context.Context, src net.Conn, queue chan<- parcel, held *semaphore.Weighted) error {
	buf := make([]byte, d.line.parcel())
	for grace := linkBurst; ; grace = linkLate {
		asked := time.Now()
		n, err := src.Read(buf)
		if n > 0 {
			if err := held.Acquire(ctx, int64(n)); err != nil {
				return err
			}
			now := time.Now()
			if now.Sub(asked) > linkWait {
				grace = linkBurst
			}
			if now.Before(d.from) {
				now = d.from
			}
			left := d.line.book(n, now, grace)
			select {
			case queue <- parcel{append([]byte(nil), buf[:n]...), left.Add(d.delay)}:
			case <-ctx.Done():
				return ctx.Err()
			}
			// What the line can't take yet stays with the sender, who may still think better of it.
			if time.Until(left) > linkSlack {
				if err := sleep(ctx, left); err != nil {
					return err
				}
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// sleep waits until t.
func sleep(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// segmented gives a socket Ethernet's segment size. With the 64 KiB segments of the loopback the kernel
// would buffer megabytes at either end, seconds of a slow line.
func segmented(_, _ string, c syscall.RawConn) error {
	return setInt(c, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, segment)
}

// small is segmented with a small receive buffer: a peer's backlog waits on its side of the line, as in life.
func (l *line) small(network, address string, c syscall.RawConn) error {
	return errors.Join(segmented(network, address, c), setInt(c, syscall.SOL_SOCKET, syscall.SO_RCVBUF, max(l.parcel(), 8<<10)))
}

func setInt(c syscall.RawConn, level, option, value int) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), level, option, value) }); cerr != nil {
		return cerr
	}
	return err
}

package fetch

import (
	"math"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// burstsPerSecond says how much of a limit may be made up for, a fortieth of ten seconds' worth: what was not used in the time
// that one burst takes, since the process had to wait for a processor, a peer for its next request, or TCP for a window.
const burstsPerSecond = 4

// A connection reads as much at a time as a limit lets through in a 256th of a second, and no fewer bytes than minRead: so
// dozens that begin at once read little too much, and who has little to say waits behind the others for a moment only.
const (
	readsPerSecond = 256
	minRead        = 64
)

// maxDebt is how many seconds' worth of the limit those wait at most who come after much that did not wait. It is the time over
// which a limit is to hold; without a bound, a fast download's requests would keep uploads back for hours after its end.
const maxDebt = 10

// limiter is a budget of traffic, in bytes a second, which all connections to peers share.
type limiter struct {
	rate  *rate.Limiter
	quick *rate.Limiter // what may be charged of that which does not wait

	mu   sync.Mutex // also held while the rate is charged, so that what is reserved lies in one stretch of time
	paid int        // bytes that were charged when they were reserved, and are now being sent
}

// newLimiter returns a limiter, nil for no limit.
func newLimiter(bytesPerSecond int64) *limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	bytesPerSecond = min(bytesPerSecond, math.MaxInt64/maxDebt)
	limit := rate.Limit(bytesPerSecond)
	return &limiter{
		rate:  rate.NewLimiter(limit, int(max(bytesPerSecond/burstsPerSecond, minRead))),
		quick: rate.NewLimiter(limit, int(maxDebt*bytesPerSecond)),
	}
}

// spend charges n bytes and returns when the limit has let them through.
func (l *limiter) spend(n int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var wait time.Duration
	for burst := l.rate.Burst(); n > 0; n -= burst {
		wait = l.rate.ReserveN(now, min(n, burst)).DelayFrom(now)
	}
	return now.Add(wait)
}

// Reserve implements peer.Pacer.
func (l *limiter) Reserve(n int) (from, until time.Time) {
	until = l.spend(n)
	return until.Add(-time.Duration(float64(n) / float64(l.rate.Limit()) * float64(time.Second))), until
}

// Return implements peer.Pacer. Those who have reserved already keep their time.
func (l *limiter) Return(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate.ReserveN(time.Now(), -n)
}

// Reserved implements peer.Pacer.
func (l *limiter) Reserved(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paid += n
}

// sent charges n bytes that were sent. What was reserved among them is paid for; the rest is little, and reads depend on it: it
// did not wait, and others will have to.
func (l *limiter) sent(n int) {
	l.mu.Lock()
	paid := min(n, l.paid)
	l.paid -= paid
	l.mu.Unlock()
	now := time.Now()
	if n = min(n-paid, int(l.quick.TokensAt(now))); n > 0 && l.quick.AllowN(now, n) {
		l.spend(n)
	}
}

// limited is a connection that reads no faster than a limit, and charges what it writes to another. What it may not read yet
// waits in the kernel, so that the peer's TCP slows down. What it has read it gives at once, and waits before it reads on: a
// word of a peer's does not wait behind the blocks of others.
type limited struct {
	net.Conn
	down, up *limiter  // nil: no limit
	due      time.Time // when it may read on; the reader's

	closing sync.Once
	closed  chan struct{}
}

// limit has a connection to a peer keep to the limits.
func (c *Client) limit(nc net.Conn) net.Conn {
	if c.download == nil && c.upload == nil {
		return nc
	}
	return &limited{Conn: nc, down: c.download, up: c.upload, closed: make(chan struct{})}
}

func (c *limited) Read(p []byte) (int, error) {
	if c.down == nil {
		return c.Conn.Read(p)
	}
	if wait := time.Until(c.due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	step := max(int(c.down.rate.Limit())/readsPerSecond, minRead)
	n, err := c.Conn.Read(p[:min(len(p), step)])
	if n > 0 {
		c.due = c.down.spend(n)
	}
	return n, err
}

func (c *limited) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.up != nil && n > 0 {
		c.up.sent(n)
	}
	return n, err
}

func (c *limited) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

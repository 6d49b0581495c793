package fetch

import (
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// burstsPerSecond says how much of a limit may be made up for: what was not used in the time that one burst takes, since
// the process had to wait for a processor or a peer for its next request.
const burstsPerSecond = 20

// A connection reads as much at a time as a limit lets through in a 64th of a second, within these bounds in bytes: so twenty
// that begin at once read a twentieth of ten seconds' worth too much at most, those with little to say wait behind the
// others for a moment only, and a limit of gigabytes a second is met with few waits.
const (
	readsPerSecond = 64
	minRead        = 256
	maxRead        = 64 << 10
)

// maxDebt is for how many seconds blocks have to wait at most for what was sent without waiting. The requests of a fast download can
// alone be more than a small limit; without a bound, nothing would be uploaded for as long again after its end.
const maxDebt = 10

// limiter is a budget of traffic, in bytes a second, which all connections to peers share.
type limiter struct{ *rate.Limiter }

// newLimiter returns a limiter, nil for no limit.
func newLimiter(bytesPerSecond int64) *limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &limiter{rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(bytesPerSecond/burstsPerSecond, minRead)))}
}

// Charge implements peer.Pacer.
func (l *limiter) Charge(n int) {
	if l.Tokens() > -maxDebt*float64(l.Limit()) {
		l.Spend(n)
	}
}

// Spend implements peer.Pacer.
func (l *limiter) Spend(n int) (wait time.Duration) {
	now := time.Now()
	for burst := l.Burst(); n > 0; n -= burst {
		wait = l.ReserveN(now, min(n, burst)).DelayFrom(now)
	}
	return wait
}

// limited is a connection that reads no faster than a limit. What it may not read yet waits in the kernel, so that the peer's
// TCP slows down. What it has read it gives at once, and waits before it reads on: a word of a peer's does not wait
// behind the blocks of others.
type limited struct {
	net.Conn
	limit *limiter
	step  int       // bytes read at a time
	due   time.Time // when it may read on; the reader's

	closing sync.Once
	closed  chan struct{}
}

// limit has a connection keep to a limit of what is read; nil is none.
func (l *limiter) limit(nc net.Conn) net.Conn {
	if l == nil {
		return nc
	}
	step := min(max(int(l.Limit())/readsPerSecond, minRead), maxRead)
	return &limited{Conn: nc, limit: l, step: step, closed: make(chan struct{})}
}

func (c *limited) Read(p []byte) (int, error) {
	if wait := time.Until(c.due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	n, err := c.Conn.Read(p[:min(len(p), c.step)])
	if n > 0 {
		c.due = time.Now().Add(c.limit.Spend(n))
	}
	return n, err
}

func (c *limited) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

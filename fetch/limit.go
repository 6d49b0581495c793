package fetch

import (
	"context"
	"net"

	"golang.org/x/time/rate"
)

// limits are the process's budgets of traffic, in bytes a second, which all its connections to peers share.
type limits struct{ down, up *rate.Limiter }

// limitStep is how many bytes pass between two looks at a limit: enough that a limit of gigabytes a second is met with few
// waits, and less than a limit of a few kilobytes lets through in the time that people watch.
const limitStep = 64 << 10

// burstsPerSecond says how much of a limit may be made up for: what was not used in the time that one burst takes, since
// the process had to wait for a processor or a peer for its next request.
const burstsPerSecond = 20

func newLimiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(bytesPerSecond/burstsPerSecond, limitStep)))
}

// wrap has a connection keep to the limits. ctx ends its waits.
func (l limits) wrap(ctx context.Context, nc net.Conn) net.Conn {
	if l.down == nil && l.up == nil {
		return nc
	}
	return &limited{Conn: nc, limits: l, ctx: ctx}
}

// limited is a connection that keeps to limits. What it is not allowed to read yet waits in the kernel, so that the peer's
// TCP slows down.
type limited struct {
	net.Conn
	limits
	ctx context.Context //nolint:containedctx // net.Conn's methods have none
}

func (c *limited) Read(p []byte) (int, error) {
	if c.down == nil {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), limitStep)])
	if n > 0 {
		if e := c.down.WaitN(c.ctx, n); e != nil && err == nil {
			err = e
		}
	}
	return n, err
}

func (c *limited) Write(p []byte) (written int, err error) {
	if c.up == nil {
		return c.Conn.Write(p)
	}
	for len(p) > 0 && err == nil {
		part := p[:min(len(p), limitStep)]
		if err = c.up.WaitN(c.ctx, len(part)); err != nil {
			return written, err
		}
		var n int
		n, err = c.Conn.Write(part)
		written += n
		p = p[n:]
	}
	return written, err
}

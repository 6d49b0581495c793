package fetch

import (
	"context"
	"net"

	"golang.org/x/time/rate"
)

// limits are the process's budgets of traffic, in bytes a second, which all its connections to peers share.
type limits struct{ down, up *rate.Limiter }

// limitBurst is how many bytes may pass at once: enough that a limit of gigabytes a second is met with few waits, and
// less than a limit of a few kilobytes lets through in the time that people watch.
const limitBurst = 64 << 10

func newLimiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), limitBurst)
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
	n, err := c.Conn.Read(p[:min(len(p), limitBurst)])
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
		part := p[:min(len(p), limitBurst)]
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

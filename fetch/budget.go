package fetch

import (
	"context"
	"net"
	"sync"
	"time"
)

// defaultMaxConnections bounds the connections of a process, those under way included.
const defaultMaxConnections = 500

// hunger is for how long a torrent that was refused a connection is remembered to want one.
const hunger = 2 * time.Second

// budget bounds the connections to peers of all torrents together. Whoever comes takes what is free; when nothing is, those
// that have more than an equal share give way to those that have less.
type budget struct {
	limit int

	mu     sync.Mutex
	used   int
	shares map[*share]struct{}
}

// share is one torrent's part of a budget.
type share struct {
	budget *budget

	// Guarded by the budget's mutex.
	used   int
	hungry time.Time // when it was last refused what it has a right to
	// shed asks the torrent to close a connection, retry to try again to open one; both return at once. Nil: nobody listens.
	shed, retry func()
}

func newBudget(limit int) *budget {
	return &budget{limit: limit, shares: make(map[*share]struct{})}
}

// join gives a torrent its share. It has to be left.
func (b *budget) join() *share {
	s := &share{budget: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shares[s] = struct{}{}
	return s
}

// leave gives the share up. Connections that are still open count until they are closed.
func (s *share) leave() {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.shed, s.retry = nil, nil
	delete(s.budget.shares, s)
}

// listen says who is asked to close connections, and told to try again.
func (s *share) listen(shed, retry func()) {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.shed, s.retry = shed, retry
}

// take reserves a connection, or returns false: it is then worth trying again when retry is called.
func (s *share) take() bool {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	fair := max(b.limit/max(len(b.shares), 1), 1)
	now := time.Now()
	if b.used < b.limit && (s.used < fair || b.starving(now) == nil) {
		b.used++
		s.used++
		s.hungry = time.Time{}
		return true
	}
	if s.used < fair {
		s.hungry = now
		if r := b.richest(); r != nil && r.used > fair && r.shed != nil {
			r.shed()
		}
	}
	return false
}

// release gives a connection back, to whom it is owed.
func (s *share) release() {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used--
	s.used--
	if h := b.starving(time.Now()); h != nil && h.retry != nil {
		h.retry()
	}
}

// starving is the poorest of the torrents that lack a connection they have a right to, nil if there is none. The caller
// holds mu.
func (b *budget) starving(now time.Time) (poorest *share) {
	for s := range b.shares {
		if now.Sub(s.hungry) < hunger && (poorest == nil || s.used < poorest.used) {
			poorest = s
		}
	}
	return poorest
}

// richest is the torrent with the most connections. The caller holds mu.
func (b *budget) richest() (richest *share) {
	for s := range b.shares {
		if richest == nil || s.used > richest.used {
			richest = s
		}
	}
	return richest
}

// counted is a connection that is given back to its share, if it has one, when it is closed.
type counted struct {
	net.Conn
	share *share
	once  sync.Once
}

// enter takes a connection that is open already; false: there is no room for it.
func (c *counted) enter(s *share) bool {
	if !s.take() {
		return false
	}
	c.share = s
	return true
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	if c.share != nil {
		c.once.Do(c.share.release)
	}
	return err
}

// dialer returns what dials on a connection that was taken: the connection is given back when that fails, or when it is
// closed.
func (s *share) dialer(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := dial(ctx, addr)
		if err != nil {
			s.release()
			return nil, err
		}
		return &counted{Conn: nc, share: s}, nil
	}
}

package swarm

import (
	"context"
	"net"
	"net/netip"
	"time"

	"torrentfs/fetch/peer"
)

const (
	maxCandidates = 2000
	maxDials      = 30 // under way at once
	dialTimeout   = 8 * time.Second
	firstPause    = 2 * time.Second // before a peer that failed is tried again; doubles with each failure
	longestPause  = 10 * time.Minute
	longPause     = 9 // failures that make the pause the longest
)

// candidate is an address at which a peer is said to be.
type candidate struct {
	addr      netip.AddrPort
	source    string
	member    *member // connected
	dialling  bool
	failures  int
	notBefore time.Duration
	delivered bool // has given us a block before
	banned    bool
}

// candidates is the bounded list of addresses to try.
type candidates struct {
	byAddr map[netip.AddrPort]*candidate
	dials  int
}

func newCandidates() candidates {
	return candidates{byAddr: make(map[netip.AddrPort]*candidate)}
}

// AddPeers tells the swarm of addresses; source says who named them, for logs and statistics.
func (s *Swarm) AddPeers(source string, addrs []netip.AddrPort) {
	s.call(func(l *loop) {
		for _, a := range addrs {
			l.pool.add(source, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		}
		l.dial()
	})
}

// add lists an address, unless it is known or the list is full of better ones.
func (p *candidates) add(source string, addr netip.AddrPort) {
	if !addr.IsValid() || addr.Port() == 0 || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
		return
	}
	if c := p.byAddr[addr]; c != nil {
		return
	}
	if len(p.byAddr) >= maxCandidates && !p.forgetOne() {
		return
	}
	p.byAddr[addr] = &candidate{addr: addr, source: source}
}

// forgetOne makes room by forgetting an address that failed.
func (p *candidates) forgetOne() bool {
	var worst *candidate
	for _, c := range p.byAddr {
		if c.member == nil && !c.dialling && !c.banned && c.failures > 0 && (worst == nil || c.failures > worst.failures) {
			worst = c
		}
	}
	if worst != nil {
		delete(p.byAddr, worst.addr)
	}
	return worst != nil
}

// next is the candidate to be dialled first, nil when there is none to be dialled now.
func (p *candidates) next(now time.Duration) (best *candidate) {
	for _, c := range p.byAddr {
		if c.member != nil || c.dialling || c.banned || now < c.notBefore {
			continue
		}
		if best == nil || c.better(best) {
			best = c
		}
	}
	return best
}

// better orders candidates by promise: those that delivered before, then those that failed less.
func (c *candidate) better(o *candidate) bool {
	switch {
	case c.delivered != o.delivered:
		return c.delivered
	case c.failures != o.failures:
		return c.failures < o.failures
	default:
		return c.addr.Compare(o.addr) < 0
	}
}

// left notes that a connection to a candidate ended, or never came to be.
func (p *candidates) left(c *candidate, useful bool, now time.Duration) {
	if c == nil {
		return
	}
	c.member, c.dialling = nil, false
	if useful {
		c.failures = 0
	}
	c.notBefore = now + min(firstPause<<min(c.failures, 10), longestPause)
	c.failures++
}

// banned reports whether an address has sent wrong bytes.
func (p *candidates) banned(addr netip.AddrPort) bool {
	c := p.byAddr[addr]
	return c != nil && c.banned
}

// ban shuts an address out for as long as the swarm lives.
func (p *candidates) ban(addr netip.AddrPort) {
	c := p.byAddr[addr]
	if c == nil {
		c = &candidate{addr: addr}
		p.byAddr[addr] = c
	}
	c.banned = true
}

// dial starts as many dials as there is room for.
func (l *loop) dial() {
	for l.pool.dials < maxDials && len(l.members.all)+l.pool.dials < l.cfg.MaxPeers {
		c := l.pool.next(l.now)
		if c == nil {
			return
		}
		c.dialling = true
		l.pool.dials++
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			conn, err := l.connect(c.addr)
			known := l.call(func(l *loop) {
				l.pool.dials--
				c.dialling = false
				if err != nil {
					l.cfg.Logger.Debug("cannot connect", "peer", c.addr, "source", c.source, "err", err)
					l.pool.left(c, false, l.now)
					return
				}
				l.join(conn, c)
			})
			if !known && conn != nil {
				conn.Close()
			}
		}()
	}
}

// connect dials a peer and shakes hands.
func (s *Swarm) connect(addr netip.AddrPort) (*peer.Conn, error) {
	ctx, cancel := context.WithTimeout(s.loop.ctx, dialTimeout)
	defer cancel()
	dial := s.cfg.Dial
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	nc, err := dial(ctx, addr.String())
	if err != nil {
		return nil, err
	}
	return peer.Initiate(ctx, nc, s.link)
}

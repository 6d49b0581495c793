package swarm

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"

	"torrentfs/fetch/peer"
	"torrentfs/fetch/reach"
)

const (
	maxCandidates = 2000
	maxHearsay    = maxCandidates / 2 // of these, how many that only other peers named
	maxTold       = 100               // named by one of them and not found to be there yet
	maxAtHome     = 10                // at one IP address, or of IPv6 in one /64, unless that is our own
	maxDials      = 30                // under way at once, those aside that linger
	maxLingering  = 100               // dials that go on beside them
	lingers       = time.Second       // after which a dial does: most addresses that don't answer never will
	hearsayDials  = 20                // of these, to addresses that only other peers named: made-up ones take long to fail
	dialTimeout   = 8 * time.Second
	firstPause    = 2 * time.Second // before a peer that failed is tried again; doubles with each failure
	longestPause  = 10 * time.Minute
	longPause     = 9 // failures that make the pause the longest
	// A peer whose round trip is not known may be about so far away.
	usualRTT = 100 * time.Millisecond
)

// The sources of addresses that others than our user and trackers can fill at will are tried later, and hold less.
const (
	byHand    = "by hand"
	byTracker = "tracker"
	byDHT     = "dht"
	byPEX     = "pex"
)

// candidate is an address at which a peer is said to be.
type candidate struct {
	addr      netip.AddrPort
	source    string
	teller    netip.Addr    // of a peer's word: whose
	priority  uint32        // canonical (BEP 40); 0 of what only peers named, or while our own address is not known
	order     uint64        // by chance: whoever names addresses must not decide which is first
	rtt       time.Duration // of the latest handshake; 0 unknown
	member    *member       // connected
	dialling  bool
	dialled   time.Duration // when that began
	lingering bool          // dialling for long: it holds nobody else up
	failures  int
	last      time.Duration // when a connection ended or did not come to be
	notBefore time.Duration
	delivered bool // has given us a block before
}

// candidates is the bounded list of addresses to try.
type candidates struct {
	byAddr  map[netip.AddrPort]*candidate
	homes   map[netip.Prefix]int // addresses listed of each home
	told    map[netip.Addr]int   // addresses that each peer named and that were not found to be there yet
	hearsay int                  // addresses that only peers named
	dials   int
	linger  int // of the dials, those that do
	guesses int // and those to hearsay
	bans    bans
	self    [2]netip.AddrPort // our own, as others see it, of IPv4 and IPv6; not valid while unknown
}

func newCandidates() candidates {
	return candidates{
		byAddr: make(map[netip.AddrPort]*candidate), homes: make(map[netip.Prefix]int), told: make(map[netip.Addr]int),
		bans: newBans(),
	}
}

// AddPeers tells the swarm of addresses; source says who named them, for logs and for the order in which they are tried.
func (s *Swarm) AddPeers(source string, addrs []netip.AddrPort) {
	s.call(func(l *loop) {
		l.locate()
		for _, a := range addrs {
			l.pool.add(&candidate{addr: netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), source: source})
		}
		l.dial()
	})
}

// Retry has every address tried as if none had failed: the network was gone, which says nothing about the peers.
func (s *Swarm) Retry() {
	s.call(func(l *loop) {
		for _, c := range l.pool.byAddr {
			c.failures, c.notBefore = 0, 0
		}
		l.dial()
	})
}

// locate notes at which address others see us.
func (l *loop) locate() {
	if l.cfg.Outside != nil {
		l.pool.locate(l.cfg.Outside(), l.cfg.Port)
	}
}

// locate notes our own addresses, of IPv4 and IPv6, by which the canonical priority of others goes.
func (p *candidates) locate(ips [2]netip.Addr, port uint16) {
	self := [2]netip.AddrPort{netip.AddrPortFrom(ips[0], port), netip.AddrPortFrom(ips[1], port)}
	if self == p.self {
		return
	}
	p.self = self
	for _, c := range p.byAddr {
		p.rank(c)
	}
}

// rank gives a candidate its canonical priority. Peers that name addresses could choose those with a high one, so there it
// does not count.
func (p *candidates) rank(c *candidate) {
	c.priority = 0
	if c.hearsay() {
		return
	}
	self := p.self[0]
	if c.addr.Addr().Is6() {
		self = p.self[1]
	}
	c.priority = priority(self, c.addr)
}

// atHome reports whether an IP address is in the same IPv6 network as we are: a rack of machines is not one of them.
func (p *candidates) atHome(ip netip.Addr) bool {
	self, ok := reach.Home(p.self[1].Addr())
	return ok && ip.Is6() && self.Contains(ip)
}

// add lists an address, unless it is known or there is no room for its like.
func (p *candidates) add(c *candidate) {
	ip := c.addr.Addr()
	if !c.addr.IsValid() || c.addr.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || p.bans.addr(c.addr) {
		return
	}
	if known := p.byAddr[c.addr]; known != nil {
		if known.hearsay() && !c.hearsay() { // a better word for it
			p.unlist(known)
			known.source, known.teller = c.source, c.teller
			p.list(known)
		}
		return
	}
	if home, ok := reach.Home(ip); ok && c.source != byHand && !p.atHome(ip) && p.homes[home] >= maxAtHome {
		return
	}
	if c.hearsay() && p.told[c.teller] >= maxTold {
		return
	}
	if c.hearsay() && p.hearsay >= maxHearsay || len(p.byAddr) >= maxCandidates {
		if !p.forgetOne(c) {
			return
		}
	}
	c.order = rand.Uint64()
	p.list(c)
}

// hear lists an address that a peer named.
func (p *candidates) hear(teller netip.Addr, addr netip.AddrPort) {
	if reach.MayName(teller, addr.Addr()) {
		p.add(&candidate{addr: addr, source: byPEX, teller: teller})
	}
}

func (c *candidate) hearsay() bool { return c.source == byPEX }

// list enters a candidate in the tables, unlist takes it out.
func (p *candidates) list(c *candidate) {
	p.byAddr[c.addr] = c
	if home, ok := reach.Home(c.addr.Addr()); ok {
		p.homes[home]++
	}
	p.rank(c)
	if c.hearsay() {
		p.hearsay++
		p.told[c.teller]++
	}
}

func (p *candidates) unlist(c *candidate) {
	delete(p.byAddr, c.addr)
	if home, ok := reach.Home(c.addr.Addr()); ok {
		release(p.homes, home)
	}
	if c.hearsay() {
		p.hearsay--
		p.believe(c)
	}
}

// believe credits whoever named a candidate: somebody is there.
func (p *candidates) believe(c *candidate) {
	if c.teller.IsValid() {
		release(p.told, c.teller)
		c.teller = netip.Addr{}
	}
}

// release counts down, and forgets what has come to nothing.
func release[K comparable](counts map[K]int, k K) {
	if counts[k]--; counts[k] <= 0 {
		delete(counts, k)
	}
}

// forgetOne makes room for a newcomer by forgetting an address that promises less; hearsay makes room for hearsay.
func (p *candidates) forgetOne(newcomer *candidate) bool {
	var worst *candidate
	for _, c := range p.byAddr {
		switch {
		case c.member != nil, c.dialling, c.delivered, c.source == byHand, newcomer.hearsay() && !c.hearsay():
		case worst == nil || worst.better(c):
			worst = c
		}
	}
	if worst == nil || worst.misses() <= newcomer.misses() {
		return false
	}
	p.unlist(worst)
	return true
}

// next is the candidate to be dialled first, nil when there is none to be dialled now.
func (p *candidates) next(now time.Duration) *candidate {
	for {
		var best *candidate
		for _, c := range p.byAddr {
			if c.taken() || c.dialling || now < c.notBefore || c.hearsay() && p.guesses >= hearsayDials {
				continue
			}
			if best == nil || c.better(best) {
				best = c
			}
		}
		if best == nil || !p.bans.addr(best.addr) {
			return best
		}
		p.unlist(best)
	}
}

// misses is how often dialling a candidate has failed; to be named by strangers counts as some failures.
func (c *candidate) misses() int {
	switch c.source {
	case byPEX:
		return c.failures + 2
	case byDHT:
		return c.failures + 1
	}
	return c.failures
}

// distance is how far away a candidate is, in doublings of the round trip, so that a lucky handshake decides nothing.
func (c *candidate) distance() int {
	rtt := c.rtt
	if rtt == 0 {
		rtt = usualRTT
	}
	return bits.Len64(uint64(rtt / (5 * time.Millisecond)))
}

// better orders candidates by promise: those that delivered before, those that failed less, those that are near, and then
// by canonical priority (BEP 40).
func (c *candidate) better(o *candidate) bool {
	switch {
	case c.delivered != o.delivered:
		return c.delivered
	case c.misses() != o.misses():
		return c.misses() < o.misses()
	case c.distance() != o.distance():
		return c.distance() < o.distance()
	case c.priority != o.priority:
		return c.priority > o.priority
	default:
		return c.order < o.order
	}
}

// taken reports whether there is a connection to the candidate that nobody doubts.
func (c *candidate) taken() bool { return c.member != nil && !c.member.doubted }

// left notes that the connection m to a candidate ended, or with nil that one never came to be.
func (p *candidates) left(c *candidate, m *member, useful bool, now time.Duration) {
	if c == nil {
		return
	}
	if c.member == m {
		c.member = nil
	}
	if useful {
		c.failures = 0
	}
	c.last = now
	c.notBefore = now + min(firstPause<<min(c.failures, 10), longestPause)
	c.failures++
	if p.bans.addr(c.addr) && p.byAddr[c.addr] == c {
		p.unlist(c)
	}
}

// banned reports whether an address is shut out.
func (p *candidates) banned(addr netip.AddrPort) bool { return p.bans.addr(addr) }

// ended notes that a dial, which was to hearsay or not, has ended.
func (p *candidates) ended(c *candidate, guess bool) {
	p.dials--
	if guess {
		p.guesses--
	}
	if c.lingering {
		p.linger--
	}
	c.dialling, c.lingering = false, false
}

// wait notes which dials linger.
func (p *candidates) wait(now time.Duration) {
	for _, c := range p.byAddr {
		if c.dialling && !c.lingering && now-c.dialled >= lingers {
			c.lingering = true
			p.linger++
		}
	}
}

// dial starts as many dials as there is room for.
func (l *loop) dial() {
	for l.pool.dials < maxDials+maxLingering {
		if dials := l.pool.dials - l.pool.linger; dials >= maxDials || len(l.members.all)+dials >= l.cfg.MaxPeers {
			return
		}
		c := l.pool.next(l.now)
		if c == nil || l.cfg.Room != nil && !l.cfg.Room() {
			return
		}
		c.dialling, c.dialled = true, l.now
		l.pool.dials++
		guess := c.hearsay()
		if guess {
			l.pool.guesses++
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			conn, err := l.connect(c.addr)
			known := l.call(func(l *loop) {
				l.pool.ended(c, guess)
				if err != nil {
					l.cfg.Logger.Debug("cannot connect", "peer", c.addr, "source", c.source, "err", err)
					l.pool.left(c, nil, false, l.now)
					return
				}
				l.pool.believe(c)
				l.join(conn, c)
				n, until := l.pool.coming(l.now-c.dialled, l.now)
				l.members.picker.Expect(n, until)
			})
			if !known && conn != nil {
				conn.Close()
			}
		}()
	}
}

// coming is how many of the peers that are being dialled should be here soon, and until when, if they take little longer
// than one that took so long.
func (p *candidates) coming(took, now time.Duration) (n int, until time.Duration) {
	slack := took/4 + 20*time.Millisecond
	for _, c := range p.byAddr {
		if c.dialling && now-c.dialled < took+slack {
			n++
		}
	}
	return n, now + slack
}

// resume takes a connection in as if it had been dialled.
func (l *loop) resume(source string, addr netip.AddrPort, conn *peer.Conn) {
	l.pool.add(&candidate{addr: addr, source: source})
	c := l.pool.byAddr[addr]
	if c != nil && (c.member != nil || c.dialling) {
		conn.Close()
		return
	}
	l.join(conn, c)
}

// connect dials a peer and shakes hands.
func (s *Swarm) connect(addr netip.AddrPort) (*peer.Conn, error) {
	ctx, cancel := context.WithTimeout(s.loop.ctx, dialTimeout)
	defer cancel()
	for again := false; ; again = true {
		nc, err := s.cfg.Dial(ctx, addr.String())
		if err != nil {
			return nil, err
		}
		conn, err := peer.Initiate(ctx, nc, s.link)
		if err == nil || again || ctx.Err() != nil || s.cfg.Redial == nil || !s.cfg.Redial(addr.String()) {
			return conn, err
		}
	}
}

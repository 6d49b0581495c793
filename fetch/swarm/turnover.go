package swarm

import "time"

// Connections are few, and a peer that takes one and gives nothing keeps a better one out. When all are taken and somebody
// else wants in, the one that has been of no use for the longest time goes.

const (
	mutePatience  = 30 * time.Second // for a peer that does not answer requests
	chokePatience = 2 * time.Minute  // for one that does not serve us: BEP 3's optimistic turn comes to each in time
)

// service is what a member has done for us.
type service struct {
	given   bool          // blocks, ever
	at      time.Duration // when the last one came
	asked   int           // times that it was asked since, a second apart at least
	first   time.Duration // the first of these
	last    time.Duration // and the last
	dropped bool          // it went to make room
}

// ask notes a request.
func (s *service) ask(now time.Duration) {
	if s.asked == 0 {
		s.first = now
	}
	if s.asked == 0 || now-s.last >= time.Second {
		s.asked++
		s.last = now
	}
}

// mute reports whether the peer has been asked again and again and not delivered. (Once is not enough: what was asked may
// have been cancelled.)
func (s *service) mute(now time.Duration) bool { return s.asked >= 3 && now-s.first > mutePatience }

// served notes a block.
func (m *member) served(now time.Duration) {
	m.service.given, m.service.at, m.service.asked = true, now, 0
	if m.candidate != nil {
		m.candidate.delivered = true
	}
}

// idle is for how long a member has been of no use beyond what one should bear with; negative when it is not.
func (l *loop) idle(m *member) time.Duration {
	since := max(m.joined, m.service.at)
	// Saying that one wants something costs nothing: who is served and takes nothing does not count as wanting.
	wants := m.theyWant && m.trade.unused < unusedRounds
	switch {
	case wants && (l.cfg.Seed || m.unchoked):
		return -1
	case l.cfg.Seed:
		return l.now - since - chokePatience
	case m.service.mute(l.now):
		return l.now - m.service.first + chokePatience // the worst: it keeps blocks that others could deliver
	case m.choking || !m.has:
		return l.now - since - chokePatience
	}
	return -1
}

// Shed asks for a connection to be closed that another torrent has more right to. It returns at once.
func (s *Swarm) Shed() {
	s.sheds.Add(1)
	s.RoomFreed()
}

// RoomFreed says that there may be room for more connections now. It returns at once.
func (s *Swarm) RoomFreed() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// makeWay closes connections for other torrents: of useless members first, then of those that give, or take, the least.
func (l *loop) makeWay() {
	direction := 0
	if l.cfg.Seed {
		direction = 1
	}
	for range l.sheds.Swap(0) {
		if l.evict() {
			continue
		}
		var least *member
		for _, m := range l.members.all {
			if !m.service.dropped && (least == nil || m.rate[direction].perSecond < least.rate[direction].perSecond) {
				least = m
			}
		}
		if least == nil {
			return
		}
		least.service.dropped = true
		least.conn.Close()
	}
}

// evict makes room for a peer; false when all there are have their use.
func (l *loop) evict() bool {
	var worst *member
	for _, m := range l.members.all {
		if idle := l.idle(m); idle > 0 && !m.service.dropped && (worst == nil || idle > l.idle(worst)) {
			worst = m
		}
	}
	if worst == nil {
		return false
	}
	worst.service.dropped = true
	worst.conn.Close()
	return true
}

// turnover gives the place of a useless member to a candidate that was never tried or delivered before, if one waits.
func (l *loop) turnover() {
	if len(l.members.all) < l.cfg.MaxPeers {
		return
	}
	if c := l.pool.next(l.now); c != nil && (c.failures == 0 || c.delivered) {
		l.evict()
	}
}

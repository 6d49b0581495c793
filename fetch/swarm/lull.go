package swarm

import "time"

// A network that goes away says nothing: an interface is down, an address has changed, a router has forgotten us. The
// connections stay, and TCP finds out in minutes, since it waits twice as long after each attempt. Nobody can wait for that
// who waits for a block. So when a reader waits and nothing comes from anybody, every connection is doubted: its peer is
// dialled again beside it, and addresses that failed are tried more often than their failures allow. A doubted connection
// that speaks again is one like others; a peer that connects anew is worth more than its old connection.
const (
	lullAfter  = 5 * time.Second  // a reader waits and nothing comes for so long, and nothing from a peer that was asked
	doubtAfter = 30 * time.Second // nothing comes from a peer that was not
	staleAfter = 10 * time.Second // a peer that connects again after such a silence has lost its connection to us

	// The longest pauses between attempts at an address in a lull.
	lullPause  = 4 * time.Second  // one that was of use, or that our user named
	lullBeside = 8 * time.Second  // one that there is a doubted connection to
	lullOthers = 20 * time.Second // any other
)

// lull is the silence of all peers while a reader waits.
type lull struct {
	heard time.Duration // when anything came from anybody
	calm  time.Duration // when no reader waited
}

// listen looks for a lull, and has everybody dialled again while there is one.
func (l *loop) listen() {
	if !l.awaited() {
		l.lull.calm = l.now
	}
	if l.now-max(l.lull.calm, l.lull.heard) < lullAfter {
		return
	}
	for _, m := range l.members.all {
		silent := l.now - m.heard
		m.doubted = silent >= doubtAfter || silent >= lullAfter && m.service.asked > 0
	}
	for _, c := range l.pool.byAddr {
		pause := lullOthers
		switch {
		case c.member != nil:
			pause = lullBeside
		case c.delivered, c.source == byHand:
			pause = lullPause
		}
		c.notBefore = min(c.notBefore, c.last+pause)
	}
}

// awaited reports whether a reader waits for anything.
func (l *loop) awaited() bool {
	for _, t := range l.demand.targets {
		if len(t.waiters) > 0 {
			return true
		}
	}
	return false
}

// stale reports whether a connection may be given up for a new one of the same peer.
func (l *loop) stale(m *member) bool { return m.doubted || l.now-m.heard >= staleAfter }

package swarm

import (
	"cmp"
	"math"
	"slices"
	"time"

	"torrentfs/fetch/picker"
)

const (
	firstSlots      = 8                // peers served at once, until it shows how much we send
	fewestSlots     = 4                // of them, however little that is
	mostSlots       = 64               // and however much
	slotStep        = 4 << 10          // bytes a second: the n-th peer served has to take n times as much, or its place goes
	rechokeEvery    = 10 * time.Second // BEP 3
	optimisticEvery = 30 * time.Second // BEP 3
	snubAfter       = time.Minute      // without a block that we asked for
	unusedRounds    = 3                // that a peer may be served and take nothing, before another may have its connection
)

// choker decides whom we serve. Places go to the peers that give us most; among those that give nothing, as all do when we
// want nothing, to those that take most. One more goes round among the others, who have no other way to show what they
// are worth. Between rounds nobody is choked (BEP 3 calls that fibrillation): a peer that has all we have wants nothing
// until we have another piece, which may be a moment, and it would find its place taken.
type choker struct {
	slots      int // with the one that goes round
	last       time.Duration
	turned     time.Duration
	optimistic *member
}

// trade is what goes to and fro between a member and us, as the choker looks at it.
type trade struct {
	gave, took float64       // bytes of late: those of earlier rounds count half as much with each
	given      int64         // since the last round, of what we asked for: anything can be sent unasked
	taken      int64         // in all, as of the last round
	rate       float64       // bytes a second that it takes when served
	served     time.Duration // when it was last chosen to be served, or was until; 0 never
	unused     int           // rounds for which it was served since it last took something
}

// round takes in what was exchanged since the last one. served says that the peer was served all that time.
func (t *trade) round(taken int64, served bool) {
	last := float64(taken - t.taken)
	t.gave = t.gave/2 + float64(t.given)
	if t.gave < picker.BlockSize {
		t.gave = 0 // halved for ever it would go before all that others take
	}
	t.took = t.took/2 + last
	t.rate = max(last, t.took/2) / rechokeEvery.Seconds() // no less for one bad round, or for having been served for one only
	t.given, t.taken = 0, taken
	switch {
	case last > 0:
		t.unused = 0
	case served:
		t.unused++
	}
}

// snubs reports whether the peer has let us wait for a block for so long that it is not to be served in return.
func (m *member) snubs(now time.Duration) bool {
	return m.service.asked >= 3 && now-m.service.first > snubAfter
}

// admit serves a peer that has become interested, if a place is free.
func (l *loop) admit(m *member) {
	if l.cfg.Upload && !m.unchoked && l.served() < l.choker.slots {
		l.unchoke(m, true)
	}
}

// served is how many peers take up places.
func (l *loop) served() (n int) {
	for _, m := range l.members.all {
		if m.unchoked && m.theyWant {
			n++
		}
	}
	return n
}

// fillSlots gives free places to the peers that have waited longest for one.
func (l *loop) fillSlots() {
	if !l.cfg.Upload || l.served() >= l.choker.slots {
		return
	}
	waiting := l.wanting()
	slices.SortFunc(waiting, patience)
	for _, m := range waiting {
		l.admit(m)
	}
}

// wanting are the peers that want something of us.
func (l *loop) wanting() (list []*member) {
	for _, m := range l.members.all {
		if m.theyWant {
			list = append(list, m)
		}
	}
	return list
}

// patience orders peers by how long they have not been served.
func patience(a, b *member) int {
	return cmp.Or(cmp.Compare(a.trade.served, b.trade.served), cmp.Compare(a.id, b.id))
}

func (l *loop) unchoke(m *member, yes bool) {
	if m.unchoked != yes {
		m.unchoked = yes
		m.trade.served = l.now
		m.conn.Unchoke(yes)
	}
}

// untried reports whether a peer got its place since the round before this, so that what it took says nothing yet.
func (l *loop) untried(m *member) bool { return m.unchoked && l.now-m.trade.served < rechokeEvery }

// rechoke redistributes the places every ten seconds.
func (l *loop) rechoke() {
	if !l.cfg.Upload || l.now-l.choker.last < rechokeEvery {
		return
	}
	l.choker.last = l.now
	for _, m := range l.members.all {
		m.trade.round(m.conn.Uploaded(), m.unchoked && m.theyWant && !l.untried(m))
	}
	l.choker.slots = l.slots()
	wanting := l.wanting()
	regular := l.choker.slots
	if len(wanting) > regular {
		regular--
	}
	// Who wants nothing now and would have a place if it did takes up none and stays unchoked: as many as there are places.
	idle := l.choker.slots
	ranked := slices.AppendSeq(wanting, func(yield func(*member) bool) {
		for _, m := range l.members.all {
			if m.unchoked && !m.theyWant && !yield(m) {
				return
			}
		}
	})
	slices.SortFunc(ranked, l.worth)
	var waiting []*member
	for _, m := range ranked {
		switch {
		case m.theyWant && regular > 0:
			regular--
			l.unchoke(m, true)
		case m.theyWant:
			waiting = append(waiting, m)
		case regular > 0 && idle > 0:
			idle--
		default:
			l.unchoke(m, false)
		}
	}
	if len(waiting) > 0 {
		l.turn(waiting)
	}
	for _, m := range waiting {
		l.unchoke(m, m == l.choker.optimistic)
	}
}

// worth orders peers by what they are worth to us, the best first.
func (l *loop) worth(a, b *member) int {
	return cmp.Or(
		last(a.snubs(l.now), b.snubs(l.now)),
		cmp.Compare(b.trade.gave, a.trade.gave),
		-last(l.untried(a), l.untried(b)),
		cmp.Compare(b.trade.took, a.trade.took),
		patience(a, b),
	)
}

// last puts what is true behind what is not.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// turn gives the place that goes round to the peer that has waited longest, of those that have earned none.
func (l *loop) turn(waiting []*member) {
	c := &l.choker
	if slices.Contains(waiting, c.optimistic) && l.now-c.turned < optimisticEvery {
		return
	}
	c.turned = l.now
	others := slices.DeleteFunc(slices.Clone(waiting), func(m *member) bool { return m == c.optimistic })
	if len(others) > 0 { // else it stays
		c.optimistic = slices.MinFunc(others, patience)
	}
}

// slots is how many peers to serve at once: more for as long as those served take enough. Each place more makes the others
// smaller, so that what is enough grows with their number.
func (l *loop) slots() int {
	now := l.choker.slots
	var rates []float64 // bytes a second
	untried, sum := 0, 0.0
	for _, m := range l.members.all {
		switch {
		case !m.unchoked || !m.theyWant:
		case l.untried(m):
			untried++
		default:
			rates = append(rates, m.trade.rate)
			sum += m.trade.rate
		}
	}
	if untried >= max(len(rates), 1) {
		return now // too little is known
	}
	return slotsFor(now, slices.Concat(rates, slices.Repeat([]float64{sum / float64(len(rates))}, untried)))
}

// slotsFor is how many slots there are to be in the place of now, from the rates at which those served take.
func slotsFor(now int, rates []float64) int {
	if len(rates) < now {
		return now // free places say nothing
	}
	slices.SortFunc(rates, func(a, b float64) int { return cmp.Compare(b, a) })
	n, sum := 0, 0.0
	for _, r := range rates {
		sum += r
	}
	for n < len(rates) && rates[n] >= float64(n+1)*slotStep {
		n++
	}
	if n < len(rates) {
		if n+1 == now-1 {
			return now // or it would be one more the next time
		}
		return max(n+1, fewestSlots)
	}
	// Many more at once, but no more than the same sum would do for: where our line is the limit they would have to go again.
	enough := math.Sqrt(sum / slotStep)
	return min(max(n+1, int(min(enough, float64(now+now/2)))), mostSlots)
}

package swarm

import (
	"cmp"
	"slices"
	"time"
)

const (
	firstSlots      = 8                // peers served at once, until it shows how much we send
	fewestSlots     = 4                // of them, however little that is
	mostSlots       = 64               // and however much
	slotStep        = 4 << 10          // bytes a second: the n-th peer served has to take n times as much, or its place goes
	rechokeEvery    = 10 * time.Second // BEP 3
	optimisticEvery = 30 * time.Second // BEP 3
	snubAfter       = time.Minute      // without a block that we asked for
)

// choker decides whom we serve. Places go to the peers that give us most; among those that give nothing, as all do when we
// want nothing, to those that take most. One more goes round among the others, who have no other way to show what they
// are worth.
type choker struct {
	slots      int // with the one that goes round
	last       time.Duration
	turned     time.Duration
	optimistic *member
}

// trade is what goes to and fro between a member and us, as the choker looks at it.
type trade struct {
	gave, took   float64       // bytes of late: those of earlier rounds count half as much with each
	given, taken int64         // in all, as of the last round
	served       time.Duration // when it was last chosen to be served, or was until; 0 never
}

// round takes in what was exchanged since the last one.
func (t *trade) round(given, taken int64) {
	t.gave = t.gave/2 + float64(given-t.given)
	t.took = t.took/2 + float64(taken-t.taken)
	t.given, t.taken = given, taken
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

func (l *loop) served() (n int) {
	for _, m := range l.members.all {
		if m.unchoked {
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

// rechoke redistributes the places every ten seconds.
func (l *loop) rechoke() {
	if !l.cfg.Upload || l.now-l.choker.last < rechokeEvery {
		return
	}
	l.choker.last = l.now
	for _, m := range l.members.all {
		m.trade.round(m.downloaded, m.conn.Uploaded())
	}
	l.choker.slots = l.slots()
	wanting := l.wanting()
	slices.SortFunc(wanting, l.worth)
	regular := min(len(wanting), l.choker.slots)
	if len(wanting) > regular {
		regular--
		l.turn(wanting[regular:])
	}
	for i, m := range wanting {
		l.unchoke(m, i < regular || m == l.choker.optimistic)
	}
}

// worth orders peers by what they are worth to us, the best first.
func (l *loop) worth(a, b *member) int {
	snubs := func(m *member) int {
		if m.snubs(l.now) {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(snubs(a), snubs(b)),
		cmp.Compare(b.trade.gave, a.trade.gave),
		cmp.Compare(b.trade.took, a.trade.took),
		patience(a, b),
	)
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
	var rates []float64 // bytes a second
	for _, m := range l.members.all {
		if m.unchoked {
			rates = append(rates, m.trade.took/2/rechokeEvery.Seconds())
		}
	}
	return slotsFor(l.choker.slots, rates)
}

// slotsFor is how many slots there are to be in the place of now, from the rates at which those served take.
func slotsFor(now int, rates []float64) int {
	if len(rates) < now {
		return now // free places say nothing
	}
	slices.SortFunc(rates, func(a, b float64) int { return cmp.Compare(b, a) })
	n := 0
	for n < len(rates) && rates[n] >= float64(n+1)*slotStep {
		n++
	}
	if n == len(rates) {
		return min(now+now/2, mostSlots)
	}
	return max(n+1, fewestSlots)
}

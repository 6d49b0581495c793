package swarm

import (
	"cmp"
	"slices"
	"time"
)

const (
	slots           = 8                // peers served at once
	rechokeEvery    = 10 * time.Second // BEP 3
	optimisticEvery = 30 * time.Second
)

// choker decides whom we serve: those who serve us best, or whom we serve best when we want nothing; one place goes round.
type choker struct {
	last       time.Duration
	turned     time.Duration
	optimistic *member
}

// admit serves a peer that has become interested, if a place is free.
func (l *loop) admit(m *member) {
	if l.cfg.Upload && !m.unchoked && l.served() < slots {
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

// fillSlots gives free places to peers that wait for one.
func (l *loop) fillSlots() {
	for _, m := range l.members.all {
		if m.theyWant {
			l.admit(m)
		}
	}
}

func (l *loop) unchoke(m *member, yes bool) {
	if m.unchoked != yes {
		m.unchoked = yes
		m.conn.Unchoke(yes)
	}
}

// rechoke redistributes the places every ten seconds.
func (l *loop) rechoke() {
	if !l.cfg.Upload || l.now-l.choker.last < rechokeEvery {
		return
	}
	l.choker.last = l.now
	var wanting []*member
	for _, m := range l.members.all {
		if m.theyWant {
			wanting = append(wanting, m)
		}
	}
	direction := 0 // by what they give us
	if l.cfg.Seed {
		direction = 1 // by what they take
	}
	slices.SortFunc(wanting, func(a, b *member) int {
		return cmp.Or(-cmp.Compare(a.rate[direction].perSecond, b.rate[direction].perSecond), cmp.Compare(a.id, b.id))
	})
	if len(wanting) > slots {
		l.turn(wanting[slots-1:])
	}
	served := 0
	for _, m := range wanting {
		yes := m == l.choker.optimistic || served < slots-1 || len(wanting) <= slots
		if yes && m != l.choker.optimistic {
			served++
		}
		l.unchoke(m, yes)
	}
}

// turn gives the optimistic place to the next of those who have not earned one.
func (l *loop) turn(waiting []*member) {
	if l.choker.optimistic != nil && !l.choker.optimistic.gone && l.now-l.choker.turned < optimisticEvery {
		return
	}
	l.choker.turned = l.now
	next := waiting[0]
	for _, m := range waiting {
		if l.choker.optimistic == nil || m.id > l.choker.optimistic.id && (next.id <= l.choker.optimistic.id || m.id < next.id) {
			next = m
		}
	}
	l.choker.optimistic = next
}

package swarm

import (
	"encoding/binary"
	"slices"
	"sync"

	"torrentfs/fetch/wire"
)

// What we tell peers of the pieces that we hold: all of them when a connection begins, each that comes (BEP 3), and each
// that the store has evicted to make room (BEP 54). A peer that does not know that last message has its requests rejected
// (BEP 6).

// bits are the pieces that we say we have; nil for none.
func (l *loop) bits() []byte {
	if !l.cfg.Upload {
		return nil
	}
	n := l.members.pieces
	bits := make([]byte, (n+7)/8)
	some := false
	for i := range n {
		if l.store.Has(i) {
			bits[i/8] |= 0x80 >> (i % 8)
			some = true
		}
	}
	if !some {
		return nil
	}
	return bits
}

// announceHave tells peers of a piece that we hold now, but for those that have it themselves.
func (l *loop) announceHave(index int) {
	if !l.cfg.Upload {
		return
	}
	for _, m := range l.members.all {
		if !l.members.picker.Has(m.id, index) {
			m.conn.Send(wire.Message{ID: wire.Have, Index: uint32(index)})
		}
	}
}

// lossTable holds the pieces that the store has lost, until the loop looks. So whoever makes room in the store never waits
// to say so.
type lossTable struct {
	mu     *sync.Mutex
	pieces []int
	wake   chan struct{} // capacity 1
}

func newLossTable() lossTable {
	return lossTable{mu: new(sync.Mutex), wake: make(chan struct{}, 1)}
}

// Lost says that the store may hold a piece no more, so that peers are told. It never blocks and calls nobody.
func (s *Swarm) Lost(piece int) {
	if !s.cfg.Upload {
		return
	}
	s.losses.mu.Lock()
	s.losses.pieces = append(s.losses.pieces, piece)
	s.losses.mu.Unlock()
	select {
	case s.losses.wake <- struct{}{}:
	default:
	}
}

// disclaim tells peers of the pieces that were lost, unless they are here again.
func (l *loop) disclaim() {
	l.losses.mu.Lock()
	lost := l.losses.pieces
	l.losses.pieces = nil
	l.losses.mu.Unlock()
	slices.Sort(lost)
	for _, index := range slices.Compact(lost) {
		if l.store.Has(index) {
			continue
		}
		for _, m := range l.members.all {
			m.disclaim(index)
		}
	}
}

// disclaim tells a peer that we have a piece no more, if it knows the message; until it has said so, that waits.
func (m *member) disclaim(index int) {
	switch ext := m.hello.Messages[wire.ExtDontHave]; {
	case ext != 0:
		m.conn.Send(wire.Message{ID: wire.Extended, Ext: ext, Data: binary.BigEndian.AppendUint32(nil, uint32(index))})
	case m.hello.Messages == nil && m.conn.Features().Extended:
		m.unsaid = append(m.unsaid, index)
	}
}

// catchUp tells a peer that has just said what messages it knows of the pieces lost before, unless they are here again.
func (l *loop) catchUp(m *member) {
	lost := m.unsaid
	m.unsaid = nil
	for _, index := range lost {
		if !l.store.Has(index) {
			m.disclaim(index)
		}
	}
}

package swarm

import (
	"encoding/binary"
	"slices"
	"sync"

	"torrentfs/fetch/wire"
)

// What we hold, which is what trackers are told, and what we tell peers of it: all of it when a connection begins, each piece
// that comes (BEP 3), and each that the store has evicted to make room (BEP 54). A peer that does not know that last message
// has its requests rejected (BEP 6).

// auditStep is how many pieces are compared with the store in one second: a disk that comes back has pieces that nobody has
// told of.
const auditStep = 1 << 12

// holdings are the pieces that the store has, as far as it has told us.
type holdings struct {
	bits    []byte // as in BEP 3
	count   int    // of pieces
	left    int64  // bytes of the others
	whole   bool   // it had all at some time
	audited int    // the piece to compare next
}

func newHoldings(cfg Config) holdings {
	n := cfg.Torrent.NumPieces()
	h := holdings{bits: make([]byte, (n+7)/8), left: cfg.Torrent.Length}
	for i := range n {
		if cfg.Store.Has(i) {
			h.set(i, true, cfg.Torrent.PieceSize(i))
		}
	}
	h.whole = h.count == n
	return h
}

func (h *holdings) has(index int) bool { return wire.HasBit(h.bits, index) }

// set notes that a piece of some size is held, or no more, and reports whether that is news.
func (h *holdings) set(index int, held bool, size int64) bool {
	if h.has(index) == held {
		return false
	}
	if held {
		h.count++
		h.left -= size
	} else {
		h.count--
		h.left += size
	}
	wire.SetBit(h.bits, index, held)
	return true
}

// bits are the pieces that we say we have; nil for none.
func (l *loop) bits() []byte {
	if !l.cfg.Upload || l.holdings.count == 0 {
		return nil
	}
	return slices.Clone(l.holdings.bits)
}

// hold notes a piece that the store has now, and tells peers of it, but for those that have it themselves.
func (l *loop) hold(index int) {
	l.holdings.set(index, true, l.cfg.Torrent.PieceSize(index))
	if !l.cfg.Upload {
		return
	}
	for _, m := range l.members.all {
		if !l.members.picker.Has(m.id, index) {
			m.conn.Send(wire.Message{ID: wire.Have, Index: uint32(index)})
		}
	}
}

// fetched notes a piece that has come from peers.
func (l *loop) fetched(index int) {
	h := &l.holdings
	l.hold(index)
	if h.whole || h.left > 0 {
		return
	}
	l.disclaim() // its room may have been another's
	for i := 0; h.left == 0 && i < l.members.pieces; i++ {
		l.auditOne(i)
	}
	if h.left == 0 {
		h.whole = true
		close(l.completed)
	}
}

// Completed is closed once all pieces are held at the same time, the last of them having come from a peer; never when all
// were there at the start.
func (s *Swarm) Completed() <-chan struct{} { return s.completed }

// miss takes in that a peer has a piece no more. While it had it, it was not told whether we do.
func (l *loop) miss(m *member, index int) {
	if !l.members.picker.Has(m.id, index) {
		return
	}
	l.members.picker.DropHave(m.id, index, l.members.pieces)
	if l.cfg.Upload && l.holdings.has(index) {
		m.conn.Send(wire.Message{ID: wire.Have, Index: uint32(index)})
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
	s.losses.mu.Lock()
	s.losses.pieces = append(s.losses.pieces, piece)
	s.losses.mu.Unlock()
	select {
	case s.losses.wake <- struct{}{}:
	default:
	}
}

// disclaim takes in what was lost, unless it is here again.
func (l *loop) disclaim() {
	l.losses.mu.Lock()
	lost := l.losses.pieces
	l.losses.pieces = nil
	l.losses.mu.Unlock()
	for _, index := range lost {
		if !l.store.Has(index) {
			l.lose(index)
		}
	}
}

// lose notes that a piece is held no more, and tells peers.
func (l *loop) lose(index int) {
	if !l.holdings.set(index, false, l.cfg.Torrent.PieceSize(index)) || !l.cfg.Upload {
		return
	}
	for _, m := range l.members.all {
		m.disclaim(index, l.members.pieces)
	}
}

// audit compares some of what we believe to hold with what the store says.
func (l *loop) audit() {
	h := &l.holdings
	for range min(auditStep, l.members.pieces) {
		l.auditOne(h.audited)
		h.audited = (h.audited + 1) % l.members.pieces
	}
	h.whole = h.whole || h.left == 0
}

func (l *loop) auditOne(index int) {
	switch has := l.store.Has(index); {
	case has && !l.holdings.has(index):
		l.hold(index)
	case !has:
		l.lose(index)
	}
}

// disclaim tells a peer that we have a piece no more, of pieces in all, if it knows the message; until it has said so, that waits.
func (m *member) disclaim(index, pieces int) {
	switch ext := m.hello.Messages[wire.ExtDontHave]; {
	case ext != 0:
		m.conn.Send(wire.Message{ID: wire.Extended, Ext: ext, Data: binary.BigEndian.AppendUint32(nil, uint32(index))})
	case m.hello.Messages == nil && m.conn.Features().Extended:
		if m.unsaid == nil {
			m.unsaid = make([]byte, (pieces+7)/8)
		}
		wire.SetBit(m.unsaid, index, true)
	}
}

// catchUp tells a peer that has just said what messages it knows of the pieces lost before, unless they are here again.
func (l *loop) catchUp(m *member) {
	unsaid := m.unsaid
	m.unsaid = nil
	if unsaid == nil {
		return
	}
	for i := range l.members.pieces {
		if wire.HasBit(unsaid, i) && !l.holdings.has(i) {
			m.disclaim(i, l.members.pieces)
		}
	}
}

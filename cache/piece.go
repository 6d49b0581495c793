package cache

import (
	"container/list"
	"slices"
)

// piece is one verified piece in memory. All fields are guarded by memory.mu; the bytes of buf are not
// written by anyone for as long as the piece exists.
//
//	Alloc'ed ── Add ──> in a segment, pinned <──> in a segment, idle ──> evicted: buffer recycled
//	                          │ torrent closed, or a duplicate
//	                          v
//	                    in no segment, pinned ── last release ──> buffer recycled
type piece struct {
	s      *shelf
	n      int
	buf    []byte
	seg    *segment // nil: in no list, gone with its last pin
	loaded bool     // from disk
	// used is memory.clock when somebody last got the piece, -1 when nobody has yet.
	used int64

	// pins holds one ticket for each release function outstanding. Tickets are never used twice, so that a
	// second call of one release can't take the pin of somebody else.
	pins []uint64
	few  [4]uint64 // pins' first backing, to save an allocation

	fresh *list.Element // in memory.fresh while it waits to be written to disk
}

func newPiece(s *shelf, n int, buf []byte) *piece {
	p := &piece{s: s, n: n, buf: buf, used: -1}
	p.pins = p.few[:0]
	return p
}

func (p *piece) key() uint64 { return key(p.s, p.n) }

func key(s *shelf, n int) uint64 { return uint64(s.id)<<32 | uint64(uint32(n)) }

// pin keeps p's buffer from being recycled until the function it returns is called, and lets that function
// be called again for nothing. The closure is all that Get allocates.
func (m *memory) pin(p *piece) (release func()) {
	m.lastTicket++
	ticket := m.lastTicket
	if len(p.pins) == 0 {
		m.pinned += int64(len(p.buf))
	}
	p.pins = append(p.pins, ticket)
	return func() { m.unpin(p, ticket) }
}

func (m *memory) unpin(p *piece, ticket uint64) {
	m.mu.Lock()
	i := slices.Index(p.pins, ticket)
	if i < 0 {
		m.mu.Unlock()
		return
	}
	last := len(p.pins) - 1
	p.pins[i] = p.pins[last]
	p.pins = p.pins[:last]
	if last == 0 {
		m.pinned -= int64(len(p.buf))
		if p.seg == nil {
			m.recycle(p)
		} else {
			m.shrink()
		}
	}
	m.unlock()
}

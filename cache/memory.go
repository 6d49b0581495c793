package cache

import (
	"container/list"
	"fmt"
	"math"
	"slices"
	"sync"
	"unsafe"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// memory is the tier in memory: the budget, the buffers and the order of eviction.
//
// Every buffer is in one of three states, and their bytes together stay within limit:
//
//	in flight   given out by alloc, being written by somebody
//	cached      the buffer of a piece, written by nobody
//	spare       on the free list: nobody can read or write it (invariant 2)
//
// # Which piece goes first
//
// A plain LRU loses everything to one sequential read longer than the budget, and the head, index and tail of
// a film that its player returns to are lost to the film. So, as in 2Q, pieces are in two segments:
//
//	probation   first in, first out. Being read does not move a piece here: a reader takes a piece of 1 MiB
//	            in a burst of eight reads, which says nothing about its being wanted again; and were read
//	            pieces moved up, the read-ahead that is not read yet would be evicted before them.
//	protected   least recently used first.
//
// A piece is protected when its use shows that it is not just a part of a scan: it was first got within limit/32 bytes
// of the place where a reader landed (a head, an index, a tail, a random read; a scan contributes only its start), or
// it was got again when limit/8 bytes had been added since its last use (somebody came back to it). What nobody gets,
// such as what is fetched in the background or loaded for a peer, is never protected.
//
// Eviction takes from probation while that holds more than half the budget, otherwise from protected. So
// fresh pieces always have half the budget to live in, less only what is in flight beyond the other half,
// and what is protected has the rest.
type memory struct {
	limit int64
	wake  chan struct{} // holds a token after a piece became fresh

	mu        sync.Mutex // guards everything below; never held over I/O or callbacks
	probation segment
	protected segment
	inFlight  map[*byte]int // size of each buffer given out by alloc, by its first byte
	spare     spares
	gone      []loss    // happened while mu was held, to be told of once it is not
	fresh     list.List // of *piece: those to be written to disk, the oldest first

	flying     int64 // bytes in flight
	cached     int64 // bytes of pieces, orphans included
	pinned     int64 // bytes of cached ones that are pinned
	unwritten  int64 // bytes of fresh ones
	clock      int64 // bytes ever cached
	lastTicket uint64

	hits, misses, overruns, unsaved int64
}

// segment is one list of pieces and their bytes.
type segment struct {
	list  *simplelru.LRU[uint64, *piece]
	bytes int64
}

func newSegment() segment {
	list, err := simplelru.NewLRU[uint64, *piece](math.MaxInt, nil) // bounded by bytes, not by entries
	if err != nil {
		panic(err) // only for a size <= 0
	}
	return segment{list: list}
}

func (s *segment) add(p *piece) {
	p.seg = s
	s.list.Add(p.key(), p)
	s.bytes += int64(len(p.buf))
}

func (s *segment) remove(p *piece) {
	p.seg = nil
	s.list.Remove(p.key())
	s.bytes -= int64(len(p.buf))
}

// oldest returns the first piece to evict, or nil when all are pinned. Pinned ones it meets it moves to the
// young end: they are in use, and so the next call doesn't meet them again.
func (s *segment) oldest() *piece {
	for range s.list.Len() {
		k, p, _ := s.list.GetOldest()
		if len(p.pins) == 0 {
			return p
		}
		s.list.Get(k)
	}
	return nil
}

func newMemory(limit int64) *memory {
	return &memory{
		limit:     limit,
		wake:      make(chan struct{}, 1),
		probation: newSegment(),
		protected: newSegment(),
		inFlight:  make(map[*byte]int),
		spare:     spares{bySize: make(map[int][][]byte)},
	}
}

// loss is a piece that left the cache, and somebody to be told of it.
type loss struct {
	to *listener
	n  int
}

// unlock releases mu and then tells of the pieces lost while it was held.
func (m *memory) unlock() {
	gone := m.gone
	m.gone = nil
	m.mu.Unlock()
	for _, l := range gone {
		l.to.evicted(l.n)
	}
}

// lose notes that a piece is in no tier any more.
func (m *memory) lose(s *shelf, n int) {
	for _, to := range s.listeners {
		m.gone = append(m.gone, loss{to, n})
	}
}

func (m *memory) lookup(s *shelf, n int) *piece {
	k := key(s, n)
	if p, ok := m.protected.list.Peek(k); ok {
		return p
	}
	p, _ := m.probation.list.Peek(k)
	return p
}

// get returns a piece, pinned. use says that a reader wants it, which counts in the order of eviction.
func (m *memory) get(s *shelf, n int, use bool) ([]byte, func(), bool) {
	m.mu.Lock()
	p := m.lookup(s, n)
	if p == nil {
		if use {
			m.misses++
		}
		m.mu.Unlock()
		return nil, nil, false
	}
	follow := false
	if use {
		m.hits++
		follow = m.touch(p)
	}
	buf, release := p.buf, m.pin(p)
	m.mu.Unlock()
	if follow {
		s.loadAhead(n)
	}
	return buf, release, true
}

// use is the part of get that notes a use.
func (m *memory) use(s *shelf, n int) {
	m.mu.Lock()
	p := m.lookup(s, n)
	follow := p != nil && m.touch(p)
	m.mu.Unlock()
	if follow {
		s.loadAhead(n)
	}
}

func (m *memory) has(s *shelf, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lookup(s, n) != nil
}

// touch notes a use of p. It says whether the pieces after p should be loaded ahead: p came from disk, this is its
// first use, and the piece before it is here as well.
func (m *memory) touch(p *piece) (follow bool) {
	first := p.used < 0
	switch {
	case p.seg == &m.protected:
		p.seg.list.Get(p.key())
	case first && m.early(p.s, p.n), !first && m.clock-p.used > m.limit/8:
		p.seg.remove(p)
		m.protected.add(p)
	}
	p.used = m.clock
	return first && p.loaded && m.lookup(p.s, p.n-1) != nil
}

// add caches a buffer that alloc gave and pins it. loaded says that it came from disk.
func (m *memory) add(s *shelf, n int, buf []byte, loaded bool) (release func()) {
	m.mu.Lock()
	defer m.unlock()
	m.land(buf, "Add")
	p := newPiece(s, n, buf)
	p.loaded = loaded
	m.cached += int64(len(buf))
	if !s.dropped && m.lookup(s, n) == nil {
		m.clock += int64(len(buf))
		m.probation.add(p)
		m.freshen(p)
	}
	return m.pin(p)
}

// early says whether a piece that is got for the first time lies within limit/32 bytes of the place where its run began.
func (m *memory) early(s *shelf, n int) bool {
	near := m.limit / 32 / s.spec.PieceLength // pieces
	return int64(s.runs.place(n, int(max(near, 4)))) <= near
}

// alloc returns a buffer of size bytes, in flight.
func (m *memory) alloc(size int) []byte {
	m.mu.Lock()
	defer m.unlock()
	var buf []byte
	for buf == nil {
		if buf = m.spare.take(size); buf != nil {
			break
		}
		if m.total()+int64(size) > m.limit && (m.spare.drop() || m.evict()) {
			continue
		}
		if m.total()+int64(size) > m.limit {
			m.overruns++
		}
		buf = make([]byte, size)
	}
	m.inFlight[unsafe.SliceData(buf)] = size
	m.flying += int64(size)
	return buf
}

// free makes a buffer of alloc spare.
func (m *memory) free(buf []byte) {
	m.mu.Lock()
	defer m.unlock()
	m.land(buf, "Free")
	m.keep(buf)
}

// land takes buf off the buffers in flight. Two owners of one buffer would break invariant 2 silently, so one
// that alloc did not give, or that is back already, ends the program loudly.
func (m *memory) land(buf []byte, op string) {
	at := unsafe.SliceData(buf)
	if size, ok := m.inFlight[at]; !ok || size != len(buf) {
		panic(fmt.Sprintf("cache: %s of a buffer of %d bytes that is not in flight: freed or added twice?", op, len(buf)))
	}
	delete(m.inFlight, at)
	m.flying -= int64(len(buf))
}

// recycle makes the buffer of a piece that is in no segment and unpinned spare.
func (m *memory) recycle(p *piece) {
	buf := p.buf
	p.buf = nil
	m.cached -= int64(len(buf))
	m.keep(buf)
}

// keep puts a buffer on the free list and holds that to an eighth of the budget, or one buffer: it is room that
// could hold pieces, and alloc finds most of its buffers by evicting anyway.
func (m *memory) keep(buf []byte) {
	for m.spare.bytes+int64(len(buf)) > m.limit/8 && m.spare.drop() {
	}
	m.spare.put(buf)
	m.shrink()
}

// evict makes the least useful piece's buffer spare; false when there is none to evict.
func (m *memory) evict() bool {
	first, second := &m.protected, &m.probation
	if m.probation.bytes > m.limit/2 {
		first, second = second, first
	}
	p := first.oldest()
	if p == nil {
		p = second.oldest()
	}
	if p == nil {
		return false
	}
	p.seg.remove(p)
	if p.fresh != nil {
		m.unsaved += int64(len(p.buf))
		m.stale(p)
	}
	if v := p.s.vol.Load(); v != nil {
		v.touch(p.n) // as recently used on disk as it was here
	}
	if !p.s.onDisk(p.n) {
		m.lose(p.s, p.n)
	}
	m.cached -= int64(len(p.buf))
	m.spare.put(p.buf)
	p.buf = nil
	return true
}

// shrink goes back under the limit after an overrun, as far as pins allow.
func (m *memory) shrink() {
	for m.total() > m.limit && (m.spare.drop() || m.evict()) {
	}
}

func (m *memory) total() int64 { return m.flying + m.cached + m.spare.bytes }

// drop takes all pieces of a torrent out of memory, for good.
func (m *memory) drop(s *shelf) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.dropped = true
	for _, seg := range []*segment{&m.probation, &m.protected} {
		for _, p := range seg.list.Values() {
			if p.s != s {
				continue
			}
			seg.remove(p)
			m.stale(p)
			if v := s.vol.Load(); v != nil {
				v.touch(p.n)
			}
			if len(p.pins) == 0 {
				m.recycle(p)
			}
		}
	}
}

func (m *memory) listen(s *shelf, to *listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.listeners = append(s.listeners, to)
}

func (m *memory) forget(s *shelf, to *listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.listeners = slices.DeleteFunc(s.listeners, func(l *listener) bool { return l == to })
}

func (m *memory) stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{
		Memory: m.total(), MemoryLimit: m.limit, InFlight: m.flying, Pinned: m.pinned, Spare: m.spare.bytes,
		Overruns: m.overruns, Hits: m.hits, Misses: m.misses, Unwritten: m.unwritten, Unsaved: m.unsaved,
	}
}

// spares are buffers nobody uses, by size. Torrents differ in piece length, so sizes rarely fit each other;
// what doesn't fit is dropped first when room is needed.
type spares struct {
	bySize map[int][][]byte
	bytes  int64
}

func (s *spares) put(buf []byte) {
	s.bySize[len(buf)] = append(s.bySize[len(buf)], buf)
	s.bytes += int64(len(buf))
}

func (s *spares) take(size int) []byte {
	bufs := s.bySize[size]
	if len(bufs) == 0 {
		return nil
	}
	last := len(bufs) - 1
	buf := bufs[last]
	bufs[last] = nil // or the garbage collector would keep it
	s.bySize[size] = bufs[:last]
	s.bytes -= int64(size)
	return buf
}

// drop leaves one buffer, of any size, to the garbage collector; false when there is none.
func (s *spares) drop() bool {
	for size := range s.bySize {
		if s.take(size) != nil {
			return true
		}
		delete(s.bySize, size)
	}
	return false
}

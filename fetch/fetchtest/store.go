package fetchtest

import (
	"bytes"
	"container/list"
	"crypto/sha1"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"torrentfs/fetch/metainfo"
)

// Store keeps verified pieces in memory for a swarm under test and watches how it is used: a buffer once added never
// changes, one given back is never written to again, nothing is added that is not what the torrent says, and each pin is
// released once. What it finds amiss is collected for Check.
type Store struct {
	torrent *metainfo.Torrent
	limit   int64

	mu     sync.Mutex
	pieces map[int]*kept
	order  list.List       // of *kept, the next to be evicted first
	size   int64           // bytes of pieces
	out    map[*byte]int64 // bytes of each buffer that was given out and not come back
	flying int64           // bytes of those
	peak   int64           // the most that flying ever was
	pins   int             // not released
	given  [][]byte        // back: nobody may write to them
	behind bool            // KeepsUp says no
	faults []error
}

// kept is a piece in the store.
type kept struct {
	index int
	buf   []byte
	pins  int
	gone  bool // evicted while pinned
	at    *list.Element
}

// blank are bytes as they are in a buffer that was given back, enough for any piece. A loop over each byte would take
// seconds under the race detector.
func blank(n int) []byte {
	blanks.Lock()
	defer blanks.Unlock()
	if len(blanks.bytes) < n {
		blanks.bytes = bytes.Repeat([]byte{spent}, n)
	}
	return blanks.bytes[:n]
}

var blanks struct {
	sync.Mutex
	bytes []byte
}

// NewStore makes a store that keeps pieces of up to limit bytes in all, and those that are pinned.
func NewStore(t *metainfo.Torrent, limit int64) *Store {
	return &Store{torrent: t, limit: limit, pieces: make(map[int]*kept), out: make(map[*byte]int64)}
}

const (
	fresh = 0xa5 // what a buffer holds that was just given out
	spent = 0x5a // and one that was given back
)

// fault notes that a rule was broken. The caller holds mu.
func (s *Store) fault(format string, args ...any) {
	if len(s.faults) < 20 {
		s.faults = append(s.faults, fmt.Errorf(format, args...))
	}
}

// Get implements swarm.Store.
func (s *Store) Get(piece int) (data []byte, release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.pieces[piece]
	if k == nil {
		return nil, nil, false
	}
	s.order.MoveToBack(k.at)
	return k.buf, s.pin(k), true
}

// pin keeps a piece until the func returned is called. The caller holds mu.
func (s *Store) pin(k *kept) (release func()) {
	k.pins++
	s.pins++
	released := false
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if released {
			s.fault("piece %d was released twice", k.index)
			return
		}
		released = true
		k.pins--
		s.pins--
		s.evict()
		if k.gone && k.pins == 0 {
			s.bury(k)
		}
	}
}

// Has implements swarm.Store.
func (s *Store) Has(piece int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieces[piece] != nil
}

// AppendBlock implements swarm.Store.
func (s *Store) AppendBlock(dst []byte, piece int, begin, length uint32) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.pieces[piece]
	if k == nil {
		return dst, false
	}
	return append(dst, k.buf[begin:begin+length]...), true
}

// Load implements swarm.Store.
func (s *Store) Load(piece int) (data []byte, release func(), ok bool) { return s.Get(piece) }

// Alloc implements swarm.Store.
func (s *Store) Alloc(piece int) []byte {
	buf := bytes.Repeat([]byte{fresh}, int(s.torrent.PieceSize(piece)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out[unsafe.SliceData(buf)] = int64(len(buf))
	s.flying += int64(len(buf))
	s.peak = max(s.peak, s.flying)
	return buf
}

// Free implements swarm.Store.
func (s *Store) Free(piece int, buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back("freed", piece, buf) {
		s.spend(buf)
	}
}

// back takes a buffer back that was given out.
func (s *Store) back(verb string, piece int, buf []byte) bool {
	n, ok := s.out[unsafe.SliceData(buf)]
	if !ok || n != int64(len(buf)) || n != s.torrent.PieceSize(piece) {
		s.fault("a buffer of %d bytes was %s for piece %d that was not given out for it", len(buf), verb, piece)
		return false
	}
	delete(s.out, unsafe.SliceData(buf))
	s.flying -= n
	return true
}

// spend marks a buffer that nobody may write to any more, and keeps the last few to see whether somebody does. (The race
// detector sees it too, if both happen at about the same time.)
func (s *Store) spend(buf []byte) {
	copy(buf, blank(len(buf)))
	if s.given = append(s.given, buf); len(s.given) > 64 {
		s.untouched(s.given[0])
		s.given = s.given[1:]
	}
}

func (s *Store) untouched(buf []byte) {
	if !bytes.Equal(buf, blank(len(buf))) {
		s.fault("a buffer of %d bytes was written to after it was given back", len(buf))
	}
}

// Add implements swarm.Store.
func (s *Store) Add(piece int, buf []byte) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back("added", piece, buf)
	k := &kept{index: piece, buf: buf}
	s.intact(k)
	if s.pieces[piece] != nil {
		s.fault("piece %d was added twice", piece)
		k.gone = true
		return s.pin(k)
	}
	release = s.pin(k)
	s.pieces[piece] = k
	k.at = s.order.PushBack(k)
	s.size += int64(len(buf))
	s.evict()
	return release
}

// intact checks that a piece holds what the torrent says. The caller holds mu.
func (s *Store) intact(k *kept) {
	if sha1.Sum(k.buf) != s.torrent.Pieces[k.index] {
		s.fault("piece %d does not hold its bytes", k.index)
	}
}

// evict makes the store as small as it should be, as far as what is pinned allows. The caller holds mu.
func (s *Store) evict() {
	for e := s.order.Front(); e != nil && s.size > s.limit; {
		k := e.Value.(*kept)
		if e = e.Next(); k.pins == 0 {
			s.drop(k)
		}
	}
}

// drop evicts a piece. The caller holds mu.
func (s *Store) drop(k *kept) {
	s.order.Remove(k.at)
	delete(s.pieces, k.index)
	s.size -= int64(len(k.buf))
	k.gone = true
	if k.pins == 0 {
		s.bury(k)
	}
}

// bury ends a piece that nobody reads. The caller holds mu.
func (s *Store) bury(k *kept) {
	if k.buf != nil {
		s.intact(k)
		s.spend(k.buf)
		k.buf = nil
	}
}

// Evict drops every piece, those that are pinned too: they stay readable until they are released.
func (s *Store) Evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.order.Len() > 0 {
		s.drop(s.order.Front().Value.(*kept))
	}
}

// Lose drops some pieces, as a store does whose disk could not take them or was tampered with.
func (s *Store) Lose(pieces ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, piece := range pieces {
		if k := s.pieces[piece]; k != nil {
			s.drop(k)
		}
	}
}

// FallBehind has KeepsUp say that the store does not.
func (s *Store) FallBehind(behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = behind
}

// Persists is a part of swarm.Store that a store may have.
func (s *Store) Persists() bool { return true }

// KeepsUp is a part of swarm.Store that a store may have.
func (s *Store) KeepsUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.behind
}

// Peak is the most bytes that were ever given out and not come back.
func (s *Store) Peak() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

// Pins is the number of releases that are owed.
func (s *Store) Pins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pins
}

// Check returns what was done wrong so far.
func (s *Store) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.pieces {
		s.intact(k)
	}
	for _, buf := range s.given {
		s.untouched(buf)
	}
	return errors.Join(s.faults...)
}

// CheckClosed is Check for a store whose swarm was closed: nothing may be out or pinned either.
func (s *Store) CheckClosed() error {
	err := s.Check()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) > 0 || s.pins != 0 {
		err = errors.Join(err, fmt.Errorf("%d buffers are still out and %d pins held", len(s.out), s.pins))
	}
	return err
}

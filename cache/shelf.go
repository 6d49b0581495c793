package cache

import "fmt"

// shelf is what the cache holds of one torrent, however many views on it are open.
type shelf struct {
	// Written once.
	c    *Cache
	spec Spec
	id   uint32 // never used for another torrent in this process

	views int // guarded by c.mu

	// Guarded by c.mem.mu.
	runs      runs
	listeners []*listener
	dropped   bool // the last view is closed: nothing is put here any more
}

// listener is a view's wish to know of lost pieces; a pointer, so that it can be found again.
type listener struct{ evicted func(piece int) }

func (s *shelf) valid(piece int) bool { return piece >= 0 && piece < len(s.spec.Hashes) }

// size returns the bytes of a piece, and panics when there is no such piece.
func (s *shelf) size(piece int) int64 {
	if !s.valid(piece) {
		panic(fmt.Sprintf("cache: piece %d of a torrent of %d", piece, len(s.spec.Hashes)))
	}
	return s.spec.pieceSize(piece)
}

package swarm

import (
	"context"
	"fmt"
	"sync"
)

// want is one read's missing pieces.
type want struct {
	pieces []int
	ready  chan delivery // capacity len(pieces): the loop never waits to answer
}

// delivery is a piece that a read waited for.
type delivery struct {
	piece   int
	data    []byte
	release func()
}

// ReadAt fills p with the verified bytes of the torrent from off on; it waits for what is missing until ctx ends or the
// swarm is closed, and then returns their error. A partial read is never a success.
func (s *Swarm) ReadAt(ctx context.Context, p []byte, off int64) error {
	t := s.cfg.Torrent
	if off < 0 || off > t.Length-int64(len(p)) {
		return fmt.Errorf("read of %d bytes at %d in a torrent of %d bytes", len(p), off, t.Length)
	}
	var missing []int
	for sp := range t.Spans(off, int64(len(p))) {
		if data, release, ok := s.store.Get(sp.Piece); ok {
			place(p, off, data, sp.Piece, t.PieceLength)
			release()
		} else {
			missing = append(missing, sp.Piece)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return s.await(ctx, p, off, missing)
}

// View returns the n bytes at off if they lie in one piece that is in memory, until release is called. It never blocks.
func (s *Swarm) View(off, n int64) (data []byte, release func(), ok bool) {
	length := s.cfg.Torrent.PieceLength
	if n <= 0 || off < 0 || off+n > s.cfg.Torrent.Length || off/length != (off+n-1)/length {
		return nil, nil, false
	}
	data, release, ok = s.store.Get(int(off / length))
	if !ok {
		return nil, nil, false
	}
	return data[off%length:][:n], release, true
}

// place copies the part of a piece that a read of p at off wants.
func place(p []byte, off int64, data []byte, piece int, pieceLength int64) {
	at := int64(piece)*pieceLength - off // of the piece's first byte within p
	if at >= 0 {
		copy(p[at:], data)
	} else {
		copy(p, data[-at:])
	}
}

// await fills in the pieces that are not in memory: from the store's slower tier where that has them, otherwise from the
// swarm.
func (s *Swarm) await(ctx context.Context, p []byte, off int64, missing []int) error {
	length := s.cfg.Torrent.PieceLength
	absent := missing[:0]
	for _, piece := range missing {
		if s.store.Has(piece) {
			if data, release, ok := s.store.Load(piece); ok {
				place(p, off, data, piece, length)
				release()
				continue
			}
		}
		absent = append(absent, piece)
	}
	if len(absent) == 0 {
		return nil
	}
	w := &want{pieces: absent, ready: make(chan delivery, len(absent))}
	select {
	case s.wants <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrClosed
	}
	for range absent {
		select {
		case d := <-w.ready:
			place(p, off, d.data, d.piece, length)
			d.release()
		case <-ctx.Done():
			s.giveUp(w)
			return ctx.Err()
		case <-s.done:
			w.drain()
			return ErrClosed
		}
	}
	return nil
}

// giveUp tells the loop that nobody waits for w any more.
func (s *Swarm) giveUp(w *want) {
	select {
	case s.leaves <- w:
	case <-s.done:
		w.drain()
	}
}

// drain releases what was delivered and not taken. The loop must not deliver any more.
func (w *want) drain() {
	for {
		select {
		case d := <-w.ready:
			d.release()
		default:
			return
		}
	}
}

// window is what a cursor will read soon.
type window struct {
	off, n int64 // bytes of the torrent; n 0: nothing
	rate   int64 // bytes a second; 0: as fast as they come
}

// aheadTable holds what cursors said last, until the loop looks. So a reader never waits to say what comes next, and the
// loop sees the newest word only.
type aheadTable struct {
	mu   *sync.Mutex
	said map[uint64]window
	wake chan struct{} // capacity 1
}

func newAheadTable() aheadTable {
	return aheadTable{mu: new(sync.Mutex), said: make(map[uint64]window), wake: make(chan struct{}, 1)}
}

// Ahead says that the bytes [off, off+n) of the torrent are likely to be read soon, in order, at rate bytes a second (0:
// as fast as they come). It replaces what the same cursor said before; n 0 withdraws it. It never blocks.
func (s *Swarm) Ahead(cursor uint64, off, n, rate int64) {
	off = max(off, 0)
	n = min(n, s.cfg.Torrent.Length-off)
	s.ahead.mu.Lock()
	s.ahead.said[cursor] = window{off: off, n: max(n, 0), rate: rate}
	s.ahead.mu.Unlock()
	select {
	case s.ahead.wake <- struct{}{}:
	default:
	}
}

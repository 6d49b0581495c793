package cache

import "sync"

// ahead loads the pieces that follow those a reader takes from the disk in order, so that they are read and hashed
// on another core while the reader is busy with what it has. Without it a reader would stand still at the
// beginning of every piece.
type ahead struct {
	mu          sync.Mutex
	next, until int // pieces to load: [next, until)
	running     bool
	closed      bool
	ended       sync.WaitGroup
}

// aheadBytes is how much is loaded ahead: enough to cover the time that hashing a piece takes.
const aheadBytes = 4 << 20

// loadAhead has the pieces after n loaded. It does not wait.
func (s *shelf) loadAhead(n int) {
	size := s.spec.PieceLength
	if 4*size > s.c.mem.limit { // would take the room that the reader's own pieces need
		return
	}
	until := min(n+1+max(1, int(aheadBytes/size)), len(s.spec.Hashes))
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	if n+1 > a.next || until < a.next { // elsewhere, or behind the reader already
		a.next = n + 1
	}
	a.until = until
	if a.next >= a.until || a.running || a.closed {
		return
	}
	a.running = true
	a.ended.Go(s.loadingAhead)
}

func (s *shelf) loadingAhead() {
	for {
		a := &s.ahead
		a.mu.Lock()
		n := a.next
		v := s.vol.Load()
		if n >= a.until || a.closed || v == nil || !v.has(n) {
			a.running = false
			a.mu.Unlock()
			return
		}
		a.next++
		a.mu.Unlock()
		if n+1 < len(s.spec.Hashes) {
			willNeed(v.data, int64(n+1)*s.spec.PieceLength, s.spec.pieceSize(n+1))
		}
		if _, release, ok := s.load(n, false); ok {
			release()
		}
	}
}

// stop ends what runs and keeps more from starting.
func (a *ahead) stop() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.ended.Wait()
}

package cache

import (
	"runtime"
	"sync"
)

// ahead loads the pieces that follow those a reader takes from the disk in order, so that they are read and hashed on
// all cores while the reader is busy with what it has. Without it a reader would stand still at the beginning of every
// piece.
type ahead struct {
	mu          sync.Mutex
	next, until int // pieces to load: [next, until)
	running     int // goroutines that load them
	closed      bool
	ended       sync.WaitGroup
}

// aheadBytes is how much is loaded ahead: enough to cover the time that hashing a piece takes on every core.
const aheadBytes = 8 << 20

// loaders is how many goroutines load pieces ahead for one torrent, at most: hashing keeps a core busy.
func loaders() int { return runtime.GOMAXPROCS(0) }

// aheadPieces returns how many pieces are loaded ahead of a reader: 0 where they would take the room that its own
// pieces, or those that arrive, need.
func (s *shelf) aheadPieces() int {
	size := s.spec.PieceLength
	room := s.c.mem.limit / 2 / size
	return int(min(room, max(aheadBytes/size, 2*int64(loaders()))))
}

// loadAhead has the pieces after n loaded. It does not wait.
func (s *shelf) loadAhead(n int) {
	until := min(n+1+s.aheadPieces(), len(s.spec.Hashes))
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	if n+1 > a.next || until < a.next { // elsewhere, or behind the reader already
		a.next = n + 1
	}
	a.until = until
	for a.running < min(loaders(), a.until-a.next) && !a.closed {
		a.running++
		a.ended.Go(s.loadingAhead)
	}
}

func (s *shelf) loadingAhead() {
	for {
		a := &s.ahead
		a.mu.Lock()
		n := a.next
		v := s.vol.Load()
		if n >= a.until || a.closed || v == nil || !v.has(n) {
			a.running--
			a.mu.Unlock()
			return
		}
		a.next++
		a.mu.Unlock()
		// What is hashed later is to be read from the disk meanwhile.
		if soon := n + s.aheadPieces(); soon < len(s.spec.Hashes) && v.has(soon) {
			v.willNeed(soon)
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

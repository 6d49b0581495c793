package cache

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// shelf is what the cache holds of one torrent, however many views on it are open.
type shelf struct {
	// Written once.
	c    *Cache
	spec Spec
	id   uint32    // never used for another torrent in this process
	once sync.Once // opens the files

	views int // guarded by c.mu

	// Guarded by c.mem.mu.
	runs      runs
	listeners []*listener
	dropped   bool // the last view is closed: nothing is put here any more

	vol  atomic.Pointer[volume] // nil without a disk, or while it can't be used; changed by the worker under c.mem.mu
	keep atomic.Bool            // wanted by Keep

	// The worker's.
	warned  bool // of not being able to use the disk
	retryAt time.Time

	loading    loads
	ahead      ahead
	complained atomic.Bool // of wrong bytes
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

// onDisk says whether the disk tier claims a piece.
func (s *shelf) onDisk(n int) bool {
	v := s.vol.Load()
	return v != nil && v.has(n)
}

// close puts the shelf away after its last view.
func (s *shelf) close() (err error) {
	if s.c.disk != nil {
		s.once.Do(func() {}) // nobody opens it any more
		s.ahead.stop()
		err = s.c.disk.detach(s)
	}
	s.c.mem.drop(s)
	return err
}

func (s *shelf) setKeep(on bool) (err error) {
	d := s.c.disk
	switch {
	case d == nil:
		return errors.New("cache: there is no disk cache to keep a torrent in")
	case on && s.spec.Length > d.limit:
		return fmt.Errorf("cache: %q has %d bytes, more than the %d of the disk cache: give it a larger one to keep the torrent", s.spec.Name, s.spec.Length, d.limit)
	}
	s.keep.Store(on)
	stuck := d.do(func() {
		if v := s.vol.Load(); v != nil && !v.readOnly {
			err = v.setKeep(on)
		}
	})
	if stuck != nil {
		return stuck
	}
	return err
}

// loads are the pieces being read from disk, so that none is read twice at a time.
type loads struct {
	mu      sync.Mutex
	waiting map[int]chan struct{}
}

// begin returns nil when the caller is to load piece n and then call end, or else a channel that is closed when the
// one who does has ended.
func (l *loads) begin(n int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done := l.waiting[n]; done != nil {
		return done
	}
	if l.waiting == nil {
		l.waiting = make(map[int]chan struct{})
	}
	l.waiting[n] = make(chan struct{})
	return nil
}

func (l *loads) end(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.waiting[n])
	delete(l.waiting, n)
}

// load returns a piece from memory, or else from disk. use is as for memory.get.
func (s *shelf) load(n int, use bool) (data []byte, release func(), ok bool) {
	for {
		if data, release, ok = s.c.mem.get(s, n, use); ok {
			return data, release, true
		}
		v := s.vol.Load()
		if !s.valid(n) || v == nil || !v.has(n) {
			return nil, nil, false
		}
		if done := s.loading.begin(n); done != nil {
			<-done
			continue
		}
		if s.c.mem.has(s, n) { // somebody's load ended between our look and our turn
			s.loading.end(n)
			continue
		}
		data, release, ok = s.loadFrom(v, n)
		s.loading.end(n)
		if ok && use {
			s.c.mem.use(s, n)
		}
		if ok || s.vol.Load() == v {
			return data, release, ok
		}
		// The files were opened anew, as it happens when somebody deleted them or a disk came back.
	}
}

func (s *shelf) loadFrom(v *volume, n int) (data []byte, release func(), ok bool) {
	buf := s.c.mem.alloc(int(s.size(n)))
	ok, err := v.read(n, buf, s.spec.Hashes[n])
	if !ok {
		s.c.mem.free(buf)
		s.distrust(v, n, err)
		return nil, nil, false
	}
	v.touch(n)
	s.c.disk.loads.Add(1)
	return buf, s.c.mem.add(s, n, buf, true), true
}

// distrust drops the claim on a piece that could not be read (err) or did not hash, so that it is fetched again.
func (s *shelf) distrust(v *volume, n int, err error) {
	if errors.Is(err, os.ErrClosed) {
		return
	}
	evicted := err == nil && v.evictedElsewhere(n)
	if s.c.mem.vacate(s, v, []int{n}) == 0 {
		return // somebody else found out first
	}
	v.disown(n)
	if evicted {
		return
	}
	d := s.c.disk
	d.wrong.Add(s.size(n))
	if s.complained.CompareAndSwap(false, true) {
		if err == nil {
			err = errors.New("wrong bytes")
		}
		d.log.Warn("a piece in the disk cache is damaged and will be downloaded again; further ones are only counted",
			"torrent", s.spec.Name, "piece", n, "err", err)
	}
}

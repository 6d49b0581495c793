package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// disk is the tier on disk: it writes verified pieces behind the readers' backs and evicts the least recently
// used ones of the whole directory, whichever process put them there.
//
// One goroutine, the worker, makes every change; others ask it by do. Readers read the files themselves and
// mark in the stamps of a volume what they used or found wrong; the worker brings that to the index.
//
// The pieces to write wait in memory's list of fresh pieces, not pinned: were the disk slower than the swarm for
// long enough, the oldest are evicted from memory unwritten. So neither a slow disk nor a dead one holds anybody up.
type disk struct {
	// Written once.
	dir   Dir
	limit int64 // bytes all volumes may take
	mem   *memory
	log   *slog.Logger

	jobs jobs
	done chan struct{} // closed when the worker has ended

	// The worker's.
	open     []*shelf               // those with a volume, or that want one
	idle     map[[20]byte]*resident // the directory's other volumes, as of scanned
	scanned  time.Time
	ticked   time.Time
	noHoles  bool // the file system can't punch holes
	trouble  bool // since the last success
	retryAt  time.Time
	retryGap time.Duration

	// Read by anybody.
	used    atomic.Int64 // bytes all volumes take
	written atomic.Int64 // bytes of pieces
	loads   atomic.Int64 // pieces
	wrong   atomic.Int64 // bytes
	problem atomic.Pointer[string]
}

const (
	tickEvery    = 5 * time.Second
	firstRetry   = 10 * time.Second
	lastRetry    = 5 * time.Minute
	drainAtMost  = 10 * time.Second
	stuckAfter   = 20 * time.Second
	largestFloor = 1 << 30
	writeRun     = 1 << 20 // bytes of small pieces that go to disk in one go
)

// errNoRoom is why a piece can't be stored though nothing is wrong.
var errNoRoom = errors.New("it is full, and nothing in it may be evicted")

// newDisk starts the worker. A directory that can't be used is for the worker to complain of, and to try again.
func newDisk(dir Dir, limit int64, mem *memory, log *slog.Logger) *disk {
	d := &disk{
		dir: dir, limit: limit, mem: mem, log: log,
		jobs: jobs{wake: make(chan struct{}, 1)}, done: make(chan struct{}),
		idle: make(map[[20]byte]*resident),
	}
	go d.work()
	return d
}

// do has the worker run f and waits for it. It returns an error when the worker has ended, or is so long stuck in the
// disk that waiting makes no sense; then f still runs, should the disk ever answer.
func (d *disk) do(f func()) error {
	ran := make(chan struct{})
	if !d.jobs.add(func() { defer close(ran); f() }) {
		return errors.New("cache: closed")
	}
	patience := time.NewTimer(stuckAfter)
	defer patience.Stop()
	select {
	case <-ran:
		return nil
	case <-patience.C:
		return fmt.Errorf("cache: the disk of %s does not answer", d.dir)
	}
}

// close ends the worker. Every shelf has been detached by then.
func (d *disk) close() error {
	d.jobs.close()
	select {
	case <-d.done:
		return nil
	case <-time.After(stuckAfter):
		return fmt.Errorf("cache: the disk of %s does not answer; what was not written is lost", d.dir)
	}
}

// jobs are what others want the worker to do, in order. Adding never waits.
type jobs struct {
	wake chan struct{} // holds a token after a job or the end came

	mu     sync.Mutex
	queue  []func()
	closed bool
}

func (j *jobs) add(f func()) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	j.queue = append(j.queue, f)
	j.rouse()
	return true
}

func (j *jobs) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	j.rouse()
}

func (j *jobs) rouse() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// next returns a job, or nil for none; over says that there will be none any more.
func (j *jobs) next() (f func(), over bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.queue) == 0 {
		return nil, j.closed
	}
	f = j.queue[0]
	j.queue = j.queue[1:]
	return f, false
}

func (d *disk) work() {
	defer close(d.done)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		// What others wait for comes first, then what is due, then what waits to be written.
		f, over := d.jobs.next()
		switch {
		case f != nil:
			f()
			continue
		case over:
			return
		case time.Since(d.ticked) >= tickEvery:
			d.upkeep()
			continue
		case d.writeNext():
			continue
		}
		select {
		case <-d.jobs.wake:
		case <-d.mem.wake:
		case <-tick.C:
		}
	}
}

// attach opens the files of a shelf.
func (d *disk) attach(s *shelf) {
	err := d.do(func() {
		d.open = append(d.open, s)
		delete(d.idle, s.spec.InfoHash)
		d.reopen(s)
	})
	if err != nil {
		d.log.Warn("starting without the disk cache", "torrent", s.spec.Name, "err", err)
	}
}

// detach writes what is fresh, as far as that goes quickly, and closes the files of a shelf.
func (d *disk) detach(s *shelf) error {
	return d.do(func() {
		for until := time.Now().Add(drainAtMost); d.writeNext() && time.Now().Before(until); {
		}
		d.mem.drop(s)
		for i, other := range d.open {
			if other == s {
				d.open = append(d.open[:i], d.open[i+1:]...)
				break
			}
		}
		v := s.vol.Load()
		if v == nil {
			return
		}
		_ = v.flush()
		empty := !v.readOnly && v.count() == 0 && !v.keep.Load()
		v.close()
		s.vol.Store(nil)
		if empty {
			_ = d.dir.remove(s.spec.InfoHash) // or somebody uses it, and that's fine
		}
		d.scanned = time.Time{}
	})
}

// reopen opens the files of a shelf, anew if they were open, and complains once if that fails.
func (d *disk) reopen(s *shelf) {
	noDir := os.MkdirAll(string(d.dir), 0o700) // it may still be there to be read
	v, err := d.dir.openVolume(s.spec.header())
	if err != nil && noDir != nil {
		err = noDir
	}
	old := s.vol.Load()
	switch {
	case err != nil && !s.warned:
		s.warned = true
		d.log.Warn("the disk cache can't keep this torrent, its pieces stay in memory only", "torrent", s.spec.Name, "err", err)
	case err != nil:
	case v.readOnly && !s.warned:
		s.warned = true
		d.log.Warn("the disk cache can't be written, it is only read", "torrent", s.spec.Name, "dir", string(d.dir))
	case !v.readOnly && s.warned:
		s.warned = false
		d.log.Info("the disk cache keeps this torrent again", "torrent", s.spec.Name)
	case !v.readOnly && !v.alone && old == nil:
		d.log.Info("another mount has this torrent open too: sharing its pieces on disk", "torrent", s.spec.Name)
	}
	d.mem.swapVolume(s, v)
	if old != nil {
		old.close()
	}
	if err == nil && !v.readOnly {
		d.saveInfo(s, v)
		if s.keep.Load() && !v.keep.Load() {
			if err := v.setKeep(true); err != nil {
				d.fail(err)
			}
		}
		v.measure()
	}
	d.count()
}

// saveInfo stores the info dictionary beside the pieces, so that they can be used without their source.
func (d *disk) saveInfo(s *shelf, v *volume) {
	if len(s.spec.Info) == 0 {
		return
	}
	path := d.dir.path(s.spec.InfoHash, ".info")
	st, err := os.Lstat(path)
	if err != nil || st.Size() != int64(len(s.spec.Info)) { // what is in it is checked when it is read
		err := os.WriteFile(path+".part", s.spec.Info, 0o600)
		if err == nil {
			err = os.Rename(path+".part", path)
		}
		if err != nil {
			_ = os.Remove(path + ".part")
			d.fail(err)
			return
		}
		if st, err = os.Lstat(path); err != nil {
			return
		}
	}
	v.infoSize = onDisk(st)
}

// upkeep does what is due every few seconds.
func (d *disk) upkeep() {
	d.ticked = time.Now()
	if len(d.open) == 0 {
		return
	}
	for _, s := range d.open {
		v := s.vol.Load()
		healthy := v != nil && v.healthy(d.dir)
		if !healthy || v.readOnly && v.writableAgain(d.dir) {
			if d.ticked.After(s.retryAt) {
				s.retryAt = d.ticked.Add(firstRetry)
				if v != nil && !healthy {
					v.close() // or its lock would keep us from setting up what is there now
				}
				d.reopen(s)
			}
			continue
		}
		lost, err := v.refresh()
		if err = errors.Join(err, v.flush()); err != nil {
			d.fail(err)
		}
		d.mem.vacate(s, v, lost)
		v.measure()
	}
	d.scan()
	_ = d.makeRoom(0) // when there is nothing to give up, that is how it is
}

// writeNext stores the next fresh piece, with those that follow it if they are small. It returns false when there
// is nothing to do for now.
func (d *disk) writeNext() bool {
	if d.trouble && time.Now().Before(d.retryAt) {
		return false
	}
	s, n, bufs, release := d.mem.nextFresh(writeRun)
	if s == nil {
		return false
	}
	defer release()
	v := s.vol.Load()
	if v == nil || v.readOnly {
		return true
	}
	err := d.store(v, n, bufs)
	if isFull(err) && d.evict(4*total(bufs)) { // a quota, or somebody else's sudden need
		err = d.store(v, n, bufs)
	}
	if err != nil {
		d.fail(err)
		d.mem.requeue(s, n, len(bufs))
		return false
	}
	d.recovered()
	return true
}

func (d *disk) store(v *volume, n int, bufs [][]byte) error {
	size := total(bufs)
	if err := d.makeRoom(size + 4*blockSize); err != nil {
		return err
	}
	err := v.write(n, bufs...)
	v.measure()
	d.count()
	if err == nil {
		d.written.Add(size)
	}
	return err
}

func total(bufs [][]byte) (n int64) {
	for _, b := range bufs {
		n += int64(len(b))
	}
	return n
}

// fail notes that the disk does not work. It warns once; then the disk is left alone for a while, longer each time.
func (d *disk) fail(err error) {
	if !d.trouble {
		d.log.Warn("the disk cache can't be written; until it can, pieces stay in memory only", "dir", string(d.dir), "err", err)
	}
	d.trouble = true
	d.retryGap = min(max(2*d.retryGap, firstRetry), lastRetry)
	d.retryAt = time.Now().Add(d.retryGap)
	text := fmt.Sprint(err)
	d.problem.Store(&text)
}

// recovered notes that the disk works.
func (d *disk) recovered() {
	if d.trouble {
		d.log.Info("the disk cache works again", "dir", string(d.dir))
		d.trouble, d.retryGap = false, 0
		d.problem.Store(nil)
	}
}

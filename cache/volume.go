package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// volume is the open files of one torrent in a cache directory:
//
//	<info-hash>.data    the torrent's bytes in torrent order, with holes for absent pieces
//	<info-hash>.index   which pieces are present and when they were used; see index.go
//	<info-hash>.info    the raw info dictionary, where the process that had it gave it
//
// Locks, all by flock(2), so that they die with their process:
//
//	index, shared      everybody who has the volume open
//	index, exclusive   somebody sets it up or removes it; taken without waiting, held for moments
//	data, shared       somebody copies out of it: no hole may be punched meanwhile
//	data, exclusive    somebody punches holes
//
// Beyond that, processes need not agree: they write the same bytes to the same places, and what any of them reads
// it hashes.
type volume struct {
	header
	index, data *os.File
	direct      *os.File // data once more, for writing past the page cache; the worker's, nil where that can't be
	readOnly    bool
	alone       bool // nobody else had it open when it was opened

	// stamps is this process's view of the index. A stamp goes from absent to present by the store's worker
	// alone; anybody may renew or clear it.
	stamps []atomic.Uint32
	keep   atomic.Bool

	mu       sync.Mutex
	changed  []int        // pieces whose stamp differs from the file's
	disowned map[int]bool // those of them whose claim in the file is not to be believed

	victims victims   // the worker's
	size    int64     // the worker's: bytes the files take on disk
	seen    time.Time // the worker's: modification time of the index when it was read last

	infoSize int64 // bytes the info file took when the volume was opened
}

var (
	errBusy       = errors.New("being set up or removed by another process")
	errNotRegular = errors.New("not a regular file")

	// ErrInUse is why files of a torrent that somebody has open can't be removed.
	ErrInUse = errors.New("in use by a mount")
)

// renewAfter is how old, in seconds, a stamp has to be before a use is worth another write to the index.
const renewAfter = 60

func now() uint32 { return uint32(time.Now().Unix()) }

// Dir is a cache directory. Its methods need no Cache and may run beside any number of processes that use it.
type Dir string

func (d Dir) path(infoHash [20]byte, ext string) string {
	return filepath.Join(string(d), fmt.Sprintf("%x%s", infoHash, ext))
}

// openVolume opens the files of a torrent, making them if need be. While another process sets them up or removes
// them it waits, a second at most.
func (d Dir) openVolume(want header) (v *volume, err error) {
	return retryBusy(func() (*volume, error) { return d.tryOpen(want) })
}

func retryBusy(open func() (*volume, error)) (v *volume, err error) {
	for range 100 {
		v, err = open()
		if !errors.Is(err, errBusy) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return v, err
}

func (d Dir) tryOpen(want header) (_ *volume, err error) {
	v := &volume{header: want}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	path := d.path(want.infoHash, ".index")
	v.index, err = openRegular(path, os.O_RDWR|os.O_CREATE)
	if isReadOnly(err) {
		v.readOnly = true
		if f, err2 := openRegular(path, os.O_RDONLY); err2 == nil {
			v.index, err = f, nil
		}
	}
	if err != nil {
		return nil, err
	}
	v.alone = !v.readOnly && flock(v.index, unix.LOCK_EX)
	if !v.alone && !flock(v.index, unix.LOCK_SH) || !isAt(v.index, path) {
		return nil, errBusy
	}
	how := os.O_RDWR | os.O_CREATE
	if v.readOnly {
		how = os.O_RDONLY
	}
	if v.data, err = openRegular(d.path(want.infoHash, ".data"), how); err != nil {
		return nil, err
	}

	found, err := readHeader(v.index)
	if err == nil && !found.fits(want) {
		err = errForeign
	}
	if errors.Is(err, errForeign) && v.alone {
		found = want
		err = v.reset()
	}
	if errors.Is(err, errForeign) && !v.alone && !v.readOnly {
		err = fmt.Errorf("%w: %w", errBusy, err) // to be reset as soon as we are alone
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	v.header.keep = found.keep
	v.keep.Store(found.keep)
	if err := v.load(); err != nil {
		return nil, err
	}
	if v.readOnly {
		return v, nil
	}
	if err := v.fitData(); err != nil {
		return nil, err
	}
	v.direct = openDirect(d.path(want.infoHash, ".data"), v.data)
	if v.alone {
		v.reclaim()
		if !flock(v.index, unix.LOCK_SH) {
			return nil, errBusy // somebody was faster in the gap that changing a lock leaves
		}
	}
	return v, nil
}

// openExisting opens the files of a torrent for looking at them or for evicting from them.
func (d Dir) openExisting(infoHash [20]byte) (*volume, error) {
	return retryBusy(func() (_ *volume, err error) {
		v := new(volume)
		defer func() {
			if err != nil {
				v.close()
			}
		}()
		path := d.path(infoHash, ".index")
		if v.index, err = openRegular(path, os.O_RDWR); err != nil {
			if !isReadOnly(err) {
				return nil, err
			}
			v.readOnly = true
			if v.index, err = openRegular(path, os.O_RDONLY); err != nil {
				return nil, err
			}
		}
		if !flock(v.index, unix.LOCK_SH) || !isAt(v.index, path) {
			return nil, errBusy
		}
		how := os.O_RDWR
		if v.readOnly {
			how = os.O_RDONLY
		}
		if v.data, err = openRegular(d.path(infoHash, ".data"), how); err != nil {
			return nil, err
		}
		if v.header, err = readHeader(v.index); err == nil && v.infoHash != infoHash {
			err = errForeign
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		v.keep.Store(v.header.keep)
		return v, v.load()
	})
}

// reset makes an empty volume of whatever the files were. The header comes last: until it is there, nothing counts.
func (v *volume) reset() error {
	return errors.Join(
		v.index.Truncate(0),
		v.data.Truncate(0),
		v.index.Truncate(headerSize+4*int64(v.pieces())),
		writeAt(v.index, v.header.encode(), 0),
	)
}

// load reads all stamps. Those from the future, of a clock that went wrong, count as of now.
func (v *volume) load() error {
	v.stamps = make([]atomic.Uint32, v.pieces())
	if st, err := v.index.Stat(); err == nil {
		v.seen = st.ModTime()
	}
	latest := now()
	_, err := eachStamp(v.index, v.pieces(), func(n int, stamp uint32) {
		if stamp == unfinished && !v.alone {
			stamp = absent // whoever writes it may be alive
		}
		v.stamps[n].Store(min(stamp, latest))
	})
	return err
}

// fitData gives the data file the torrent's length, so that a complete one is an ordinary file.
func (v *volume) fitData() error {
	st, err := v.data.Stat()
	if err == nil && st.Size() != v.length {
		err = v.data.Truncate(v.length)
	}
	return err
}

// reclaim punches out what a crash between writing a piece and noting it left behind.
func (v *volume) reclaim() {
	claimed := int64(0)
	for n := range v.stamps {
		if v.has(n) {
			claimed += v.header.size(n)
		}
	}
	if allocated(v.data) <= claimed+1<<20 {
		return
	}
	for n := 0; n < len(v.stamps); n++ {
		first := n
		for n < len(v.stamps) && !v.has(n) {
			n++
		}
		if n > first {
			_ = v.punch(first, n) // what stays only takes room
		}
	}
}

// has says whether the volume claims piece n.
func (v *volume) has(n int) bool { return v.stamps[n].Load() != absent }

// count returns how many pieces the volume claims.
func (v *volume) count() (n int) {
	for i := range v.stamps {
		if v.has(i) {
			n++
		}
	}
	return n
}

// touch notes a use of piece n. It does no I/O.
func (v *volume) touch(n int) {
	at := now()
	old := v.stamps[n].Load()
	if old == absent || at-old < renewAfter || !v.stamps[n].CompareAndSwap(old, at) {
		return
	}
	v.mu.Lock()
	v.changed = append(v.changed, n)
	v.mu.Unlock()
}

// disown leaves it to the next flush to take a piece out whose stamp was cleared. It does no I/O.
func (v *volume) disown(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changed = append(v.changed, n)
	if v.disowned == nil {
		v.disowned = make(map[int]bool)
	}
	v.disowned[n] = true
}

// isDisowned says whether the file's claim of a piece waits to be taken out.
func (v *volume) isDisowned(n int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.disowned[n]
}

// own notes that pieces from n on were written anew.
func (v *volume) own(n, count int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := n; i < n+count; i++ {
		delete(v.disowned, i)
	}
}

// flush brings the index in line with the stamps that changed, and punches out what is claimed no more.
func (v *volume) flush() error {
	v.mu.Lock()
	changed, disowned := v.changed, v.disowned
	v.changed = nil
	if !v.readOnly { // there the file goes on claiming them
		v.disowned = nil
	}
	v.mu.Unlock()
	if v.readOnly {
		return nil
	}
	var errs error
	for _, n := range changed {
		if disowned[n] {
			v.stamps[n].Store(absent)
		}
		stamp := v.stamps[n].Load()
		errs = errors.Join(errs, writeStamps(v.index, n, 1, stamp))
		if stamp == absent && v.lockData() {
			errs = errors.Join(errs, v.punch(n, n+1))
			v.unlockData()
		}
	}
	return errs
}

// healthy says whether the files are still the ones that others find by name.
func (v *volume) healthy(d Dir) bool {
	if !isAt(v.index, d.path(v.infoHash, ".index")) || !isAt(v.data, d.path(v.infoHash, ".data")) {
		return false
	}
	h, err := readHeader(v.index)
	return err == nil && h.fits(v.header)
}

// writableAgain says whether a volume that could only be read may be written by now.
func (v *volume) writableAgain(d Dir) bool {
	f, err := openRegular(d.path(v.infoHash, ".index"), os.O_RDWR)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// refresh takes over what other processes changed in the index, and returns the pieces it lost.
func (v *volume) refresh() (lost []int, err error) {
	st, err := v.index.Stat()
	if err != nil || st.ModTime().Equal(v.seen) {
		return nil, err
	}
	v.seen = st.ModTime()
	if h, err := readHeader(v.index); err == nil {
		v.keep.Store(h.keep)
	}
	latest := now()
	end, err := eachStamp(v.index, len(v.stamps), func(n int, stamp uint32) {
		stamp = min(stamp, latest)
		switch mine := v.stamps[n].Load(); {
		case stamp == absent && mine != absent:
			lost = append(lost, n)
		case stamp > mine && stamp != unfinished && (mine != absent || !v.isDisowned(n)):
			v.stamps[n].CompareAndSwap(mine, stamp)
		}
	})
	if err != nil {
		return nil, err // which shows nothing about the pieces
	}
	for n := end; n < len(v.stamps); n++ {
		if v.has(n) {
			lost = append(lost, n)
		}
	}
	return lost, nil
}

// setKeep marks the volume as not to be evicted by any process, or takes the mark away.
func (v *volume) setKeep(keep bool) error {
	var b [4]byte
	if keep {
		b[0] = flagKeep
	}
	if err := writeAt(v.index, b[:], 20); err != nil {
		return err
	}
	v.keep.Store(keep)
	return nil
}

// measure returns the bytes the volume takes on disk.
func (v *volume) measure() int64 {
	v.size = allocated(v.data) + allocated(v.index) + v.infoSize
	return v.size
}

func (v *volume) close() {
	for _, f := range []*os.File{v.data, v.direct, v.index} {
		if f != nil {
			_ = f.Close() // nothing is lost that a hash would not notice
		}
	}
}

// remove deletes the files of a torrent that nobody has open.
func (d Dir) remove(infoHash [20]byte) error {
	path := d.path(infoHash, ".index")
	switch index, err := openRegular(path, os.O_RDONLY); {
	case err == nil:
		defer index.Close()
		if !flock(index, unix.LOCK_EX) {
			return ErrInUse
		}
		if !isAt(index, path) {
			return nil // somebody was faster
		}
	case isReadOnly(err):
		return err
	}
	var errs error
	for _, ext := range []string{".data", ".info.part", ".info", ".index"} { // the one that is locked comes last
		if err := os.Remove(d.path(infoHash, ext)); !errors.Is(err, os.ErrNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// inUse says whether some process has the volume of this index open.
func inUse(index *os.File) bool {
	if !flock(index, unix.LOCK_EX) {
		return true
	}
	flock(index, unix.LOCK_UN)
	return false
}

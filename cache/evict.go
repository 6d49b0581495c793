package cache

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"time"
)

// resident is a volume in the directory that this process does not have open: of an earlier mount, or of another
// process's.
type resident struct {
	size    int64     // bytes on disk
	changed time.Time // the latest of its files

	// What a look inside said, if there was one since changed.
	looked bool
	keep   bool
	whole  bool   // there are no pieces to evict in it, it can only go as a whole
	oldest uint32 // stamp of its first victim
}

// scan learns what the directory's other volumes take.
func (d *disk) scan() {
	d.scanned = time.Now()
	entries, err := os.ReadDir(string(d.dir))
	if err != nil {
		return // whatever is wrong shows when we write
	}
	found := make(map[[20]byte]*resident)
	for _, e := range entries {
		hash, ok := fileOf(e.Name())
		if !ok || d.isOpen(hash) {
			continue
		}
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		r := found[hash]
		if r == nil {
			r = new(resident)
			found[hash] = r
		}
		r.size += onDisk(st)
		if st.ModTime().After(r.changed) {
			r.changed = st.ModTime()
		}
	}
	for hash, r := range found {
		if old := d.idle[hash]; old != nil && old.looked && old.changed.Equal(r.changed) {
			r.looked, r.keep, r.whole, r.oldest = true, old.keep, old.whole, old.oldest
		}
	}
	d.idle = found
	d.count()
}

// fileOf returns the info-hash in the name of one of our files.
func fileOf(name string) (hash [20]byte, ok bool) {
	digits, ext, _ := strings.Cut(name, ".")
	switch ext {
	case "data", "index", "info", "info.part":
		n, err := hex.Decode(hash[:], []byte(digits[:min(len(digits), 40)]))
		return hash, len(digits) == 40 && n == 20 && err == nil
	}
	return hash, false
}

func (d *disk) isOpen(hash [20]byte) bool {
	for _, s := range d.open {
		if s.spec.InfoHash == hash && s.vol.Load() != nil {
			return true
		}
	}
	return false
}

// count adds up what all volumes take.
func (d *disk) count() {
	var n int64
	for _, s := range d.open {
		if v := s.vol.Load(); v != nil {
			n += v.size
		}
	}
	for _, r := range d.idle {
		n += r.size
	}
	d.used.Store(n)
}

// makeRoom evicts until need bytes more keep both the limit and the floor.
func (d *disk) makeRoom(need int64) error {
	if time.Since(d.scanned) > tickEvery {
		d.scan()
	}
	for range 4 { // what is freed may not show at once
		over := d.used.Load() + need - d.limit
		if free, size, err := freeSpace(string(d.dir)); err == nil {
			over = max(over, min(size/20, largestFloor)+need-free)
		}
		if over <= 0 {
			return nil
		}
		if !d.evict(over) {
			break
		}
	}
	return errNoRoom
}

// candidate is a volume that can give something up: one of ours, or a resident.
type candidate struct {
	s      *shelf
	hash   [20]byte
	r      *resident
	oldest uint32
}

// evictAtLeast is how many bytes go at a time, unless the cache is small: holes side by side are punched as one.
const evictAtLeast = 4 << 20

// evict frees about want bytes, and a little more so that the next piece needs no eviction: the least recently
// used pieces of the directory. It returns false when there is nothing to give up.
func (d *disk) evict(want int64) bool {
	want = max(want, min(d.limit/64, d.used.Load()/64, evictAtLeast))
	freed := int64(0)
	stuck := make(map[[20]byte]bool) // what could not give anything this time
	for freed < want {
		c, next, ok := d.choose(stuck)
		if !ok {
			break
		}
		var n int64
		switch {
		case c.s != nil:
			n = d.evictFrom(c.s, c.s.vol.Load(), next, want-freed)
			c.s.vol.Load().measure()
		case c.r.whole || d.noHoles:
			n = d.removeIdle(c.hash, c.r)
		default:
			n = d.evictIdle(c.hash, c.r, next, want-freed)
		}
		if n == 0 {
			stuck[c.hash] = true
		}
		freed += n
		d.count()
	}
	return freed > 0
}

// choose returns the volume with the piece used least recently, and the stamp up to which no other volume has an
// older one.
func (d *disk) choose(stuck map[[20]byte]bool) (best candidate, next uint32, ok bool) {
	next = ^uint32(0)
	offer := func(c candidate) {
		switch {
		case !ok:
			best, ok = c, true
		case c.oldest < best.oldest:
			next = best.oldest
			best = c
		default:
			next = min(next, c.oldest)
		}
	}
	for _, s := range d.open {
		v := s.vol.Load()
		if v == nil || v.readOnly || v.keep.Load() || stuck[s.spec.InfoHash] || d.noHoles {
			continue
		}
		if _, stamp, ok := v.victims.peek(v.stamps); ok {
			offer(candidate{s: s, hash: s.spec.InfoHash, oldest: stamp})
		}
	}
	for hash, r := range d.idle {
		if stuck[hash] || r.size == 0 {
			continue
		}
		if !r.looked {
			d.look(hash, r)
		}
		if !r.keep {
			offer(candidate{hash: hash, r: r, oldest: r.oldest})
		}
	}
	return best, next, ok
}

// look finds out what a resident can give up. One that is of no use to anybody goes as a whole, by its age.
func (d *disk) look(hash [20]byte, r *resident) {
	r.looked, r.keep, r.whole, r.oldest = true, false, true, uint32(r.changed.Unix())
	v, err := d.dir.openExisting(hash)
	if err != nil {
		r.keep = errors.Is(err, errBusy) // for the time being
		return
	}
	defer v.close()
	r.keep = v.keep.Load()
	if _, stamp, ok := v.victims.peek(v.stamps); ok {
		r.whole, r.oldest = false, stamp
	}
}

// evictFrom evicts pieces of a volume that were used up to next, want bytes of them, and returns the bytes. s is nil
// for a volume that is open for this only.
func (d *disk) evictFrom(s *shelf, v *volume, next uint32, want int64) (freed int64) {
	if !v.lockData() {
		return 0
	}
	defer v.unlockData()
	var pieces []int
	for freed < want {
		n, stamp, ok := v.victims.peek(v.stamps)
		if !ok || stamp > next {
			break
		}
		v.victims.pop()
		pieces = append(pieces, n)
		freed += v.header.size(n)
	}
	if s != nil {
		d.mem.vacate(s, v, pieces)
	} else {
		for _, n := range pieces {
			v.stamps[n].Store(absent)
		}
	}
	if err := v.erase(pieces); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			d.noHoles = true
			d.log.Warn("the file system of the disk cache can't punch holes: only whole torrents can be evicted", "dir", string(d.dir))
		} else {
			d.fail(err)
		}
	}
	return freed
}

func (d *disk) evictIdle(hash [20]byte, r *resident, next uint32, want int64) (freed int64) {
	v, err := d.dir.openExisting(hash)
	if err != nil || v.readOnly || v.keep.Load() {
		r.looked = false
		if err == nil {
			v.close()
		}
		return 0
	}
	freed = d.evictFrom(nil, v, next, want)
	r.size = v.measure()
	r.looked = false
	empty := v.count() == 0
	v.close()
	if empty {
		d.removeIdle(hash, r)
	}
	return freed
}

func (d *disk) removeIdle(hash [20]byte, r *resident) (freed int64) {
	if err := d.dir.remove(hash); err != nil {
		return 0
	}
	delete(d.idle, hash)
	return r.size
}

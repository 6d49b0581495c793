package cache

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Entry is what a cache directory holds of one torrent.
type Entry struct {
	InfoHash [20]byte
	Name     string // "" when the index is damaged
	Length   int64  // bytes of the whole torrent
	Present  int64  // bytes of the pieces that are claimed to be there
	Disk     int64  // bytes its files take on disk
	LastUse  time.Time
	Kept     bool  // not evicted, see Torrent.Keep
	InUse    bool  // some process has it open
	Err      error // why nothing can be said of what is in it
}

// List returns what the directory holds, by name. A directory that does not exist holds nothing.
func (d Dir) List() ([]Entry, error) {
	files, err := os.ReadDir(string(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cache: %w", err)
	}
	found := make(map[[20]byte]*Entry)
	for _, f := range files {
		hash, ok := fileOf(f.Name())
		if !ok {
			continue
		}
		e := found[hash]
		if e == nil {
			e = &Entry{InfoHash: hash}
			found[hash] = e
		}
		if st, err := f.Info(); err == nil && st.Mode().IsRegular() {
			e.Disk += onDisk(st)
		}
	}
	entries := make([]Entry, 0, len(found))
	for _, e := range found {
		e.Err = d.describe(e)
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		if a.Name != b.Name {
			if a.Name < b.Name {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.InfoHash[:], b.InfoHash[:])
	})
	return entries, nil
}

// describe fills e in from its index.
func (d Dir) describe(e *Entry) error {
	f, err := openRegular(d.path(e.InfoHash, ".index"), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := readHeader(f)
	if err == nil && h.infoHash != e.InfoHash {
		err = errForeign
	}
	if err != nil {
		return err
	}
	e.Name, e.Length, e.Kept, e.InUse = h.name, h.length, h.keep, inUse(f)
	var last uint32
	_, err = eachStamp(f, h.pieces(), func(n int, stamp uint32) {
		if stamp > unfinished {
			e.Present += h.size(n)
			last = max(last, stamp)
		}
	})
	if last > 0 {
		e.LastUse = time.Unix(int64(last), 0)
	}
	return err
}

// Remove deletes what the directory holds of a torrent, kept or not. It fails with ErrInUse while a process has the
// torrent open, and with os.ErrNotExist when there is nothing.
func (d Dir) Remove(infoHash [20]byte) error {
	there := false
	for _, ext := range []string{".data", ".info", ".index"} {
		if _, err := os.Lstat(d.path(infoHash, ext)); err == nil {
			there = true
		}
	}
	if !there {
		return fmt.Errorf("cache: torrent %x: %w", infoHash, os.ErrNotExist)
	}
	if err := d.remove(infoHash); err != nil {
		return fmt.Errorf("cache: removing torrent %x: %w", infoHash, err)
	}
	return nil
}

// Info returns a torrent's raw info dictionary, which the directory has when Spec.Info was given. Its SHA-1 is
// checked against the info-hash. The error is os.ErrNotExist when there is none, or a wrong one.
func (d Dir) Info(infoHash [20]byte) ([]byte, error) {
	const most = 512 << 20 // bytes; 16 million pieces make 320 MB
	f, err := openRegular(d.path(infoHash, ".info"), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if st.Size() <= most {
		b := make([]byte, st.Size())
		if _, err := f.ReadAt(b, 0); err == nil && sha1.Sum(b) == infoHash {
			return b, nil
		}
	}
	return nil, fmt.Errorf("cache: the info dictionary of torrent %x is damaged: %w", infoHash, os.ErrNotExist)
}

// Report is what Verify found.
type Report struct {
	Pieces int   // looked at
	Wrong  int   // of these, damaged and dropped
	Bytes  int64 // bytes of Wrong
}

// Verify hashes every piece that the directory claims to have of a torrent, on all cores, and drops the wrong ones.
// Spec must be right; its Name does not matter. progress, if not nil, hears of bytes done and to do, from one
// goroutine at a time. The error is os.ErrNotExist when the directory has nothing of the torrent.
func (d Dir) Verify(ctx context.Context, spec Spec, progress func(done, total int64)) (Report, error) {
	v, err := d.openFor(spec)
	if err != nil {
		return Report{}, err
	}
	defer v.close()
	var claimed []int
	for n := range v.stamps {
		if v.has(n) {
			claimed = append(claimed, n)
		}
	}
	wrong, err := v.check(ctx, spec.Hashes, claimed, progress)
	r := Report{Pieces: len(claimed), Wrong: len(wrong)}
	for _, n := range wrong {
		r.Bytes += v.header.size(n)
		v.stamps[n].Store(absent)
		v.disown(n)
	}
	if v.readOnly && len(wrong) > 0 {
		err = errors.Join(err, fmt.Errorf("cache: %s may not be written, so the damaged pieces stay in it", d))
	}
	if e := v.flush(); e != nil {
		err = errors.Join(err, fmt.Errorf("cache: dropping damaged pieces: %w", e))
	}
	return r, err
}

func (d Dir) openFor(spec Spec) (*volume, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	v, err := d.openExisting(spec.InfoHash)
	if err == nil && !v.fits(spec.header()) {
		v.close()
		err = errForeign
	}
	if err != nil {
		return nil, fmt.Errorf("cache: torrent %x: %w", spec.InfoHash, err)
	}
	return v, nil
}

// check returns those of pieces that do not hash to what they should.
func (v *volume) check(ctx context.Context, hashes [][20]byte, pieces []int, progress func(done, total int64)) (wrong []int, err error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	var total, done int64
	for _, n := range pieces {
		total += v.header.size(n)
	}
	var (
		next  atomic.Int64
		mu    sync.Mutex // guards wrong, done and the calls of progress
		tasks sync.WaitGroup
	)
	progress(0, total)
	for range runtime.GOMAXPROCS(0) {
		tasks.Go(func() {
			buf := make([]byte, readStep)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(pieces) {
					return
				}
				n := pieces[i]
				ok, _ := v.hashes(n, buf, hashes[n]) // what can't be read is not there
				mu.Lock()
				if !ok {
					wrong = append(wrong, n)
				}
				done += v.header.size(n)
				progress(done, total)
				mu.Unlock()
			}
		})
	}
	tasks.Wait()
	slices.Sort(wrong)
	return wrong, ctx.Err()
}

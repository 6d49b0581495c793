package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Part is a file to make out of a torrent's bytes.
type Part struct {
	Path           string // where to put it
	Offset, Length int64  // its bytes in the torrent
}

// MissingError is an Export's error for a file whose pieces are not all there.
type MissingError struct {
	Path   string
	Pieces []int // absent or damaged
	Bytes  int64 // bytes of the file in them
}

func (m *MissingError) Error() string {
	return fmt.Sprintf("%s: %d bytes of it are not in the cache", m.Path, m.Bytes)
}

// Export makes files out of what the directory holds of a torrent, after hashing every piece they need. Where the
// file system can, they share the cache's blocks or are copied inside the kernel. Each file appears complete or not
// at all; an existing one is an error and stays. Export goes on after an error and returns all of them joined, among
// them a *MissingError for every file that is not complete in the cache. progress hears of bytes done and to do.
func (d Dir) Export(ctx context.Context, spec Spec, parts []Part, progress func(done, total int64)) error {
	v, err := d.openFor(spec)
	if err != nil {
		return err
	}
	defer v.close()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	// From here on no process evicts from this torrent.
	if !flock(v.data, unix.LOCK_SH) {
		return fmt.Errorf("cache: torrent %x is being evicted from: try again", spec.InfoHash)
	}
	var total, before int64
	for _, p := range parts {
		if p.Offset < 0 || p.Length < 0 || p.Offset > spec.Length-p.Length {
			return fmt.Errorf("cache: %s: bytes %d+%d of a torrent of %d", p.Path, p.Offset, p.Length, spec.Length)
		}
		total += p.Length
	}
	var errs error
	for _, p := range parts {
		err := v.export(ctx, spec, p, func(done, of int64) {
			progress(before+p.Length*done/max(of, 1), total)
		})
		if ctx.Err() != nil {
			return errors.Join(errs, ctx.Err())
		}
		errs = errors.Join(errs, err)
		before += p.Length
		progress(before, total)
	}
	return errs
}

func (v *volume) export(ctx context.Context, spec Spec, p Part, progress func(done, total int64)) error {
	if _, err := os.Lstat(p.Path); err == nil {
		return fmt.Errorf("%s: %w", p.Path, os.ErrExist)
	}
	if err := v.complete(ctx, spec, p, progress); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o777); err != nil {
		return err
	}
	part := filepath.Join(filepath.Dir(p.Path), fmt.Sprintf(".torrentfs-%x.part", rand.Uint64()))
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer os.Remove(part) // after the link below, one name too many
	err = copyRange(ctx, f, v.data, p.Offset, p.Length)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	// A link, unlike a rename, does not replace a file that came to be meanwhile.
	if err := os.Link(part, p.Path); err != nil {
		if errors.Is(err, os.ErrExist) {
			return err
		}
		return os.Rename(part, p.Path)
	}
	return nil
}

// complete checks every piece that has bytes of p, and returns a *MissingError if some are not there.
func (v *volume) complete(ctx context.Context, spec Spec, p Part, progress func(done, total int64)) error {
	if p.Length == 0 {
		return nil
	}
	var there, lacking []int
	for n := int(p.Offset / v.pieceLength); int64(n)*v.pieceLength < p.Offset+p.Length; n++ {
		if v.has(n) {
			there = append(there, n)
		} else {
			lacking = append(lacking, n)
		}
	}
	if len(lacking) == 0 {
		var err error
		if lacking, err = v.check(ctx, spec.Hashes, there, progress); err != nil {
			return err
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	m := &MissingError{Path: p.Path, Pieces: lacking}
	for _, n := range lacking {
		from := max(int64(n)*v.pieceLength, p.Offset)
		to := min(int64(n)*v.pieceLength+v.header.size(n), p.Offset+p.Length)
		m.Bytes += to - from
	}
	return m
}

// copyStep is how much is copied between looks at the context, in bytes: nothing to a file system that shares blocks, and
// less than a second's work to one that does not.
const copyStep = 64 << 20

// copyRange makes dst a copy of n bytes of src from off on. On Linux that is copy_file_range, by which the file system
// shares blocks if it can, or copies in the kernel.
func copyRange(ctx context.Context, dst, src *os.File, off, n int64) error {
	if _, err := src.Seek(off, io.SeekStart); err != nil {
		return err
	}
	for ; n > 0; n -= copyStep {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(dst, src, min(n, copyStep)); err != nil {
			return err
		}
	}
	return nil
}

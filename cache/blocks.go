package cache

import (
	"crypto/sha1"
	"errors"
	"io"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file moves the bytes of pieces between memory and a volume's data file, and frees those that go.

// readStep is how much is read between hashing, in bytes: little enough to be hashed while it is in the processor's
// cache.
const readStep = 256 << 10

// read fills buf with piece n and says whether it hashes to sum.
func (v *volume) read(n int, buf []byte, sum [20]byte) (ok bool, err error) {
	if len(buf) > readStep {
		v.willNeed(n) // several read at once, which the kernel's own reading ahead takes for random reads
	}
	h := sha1.New()
	for at := 0; at < len(buf); at += readStep {
		part := buf[at:min(at+readStep, len(buf))]
		if err := v.readPart(n, int64(at), part); err != nil {
			return false, ignoringEOF(err)
		}
		h.Write(part)
	}
	return [20]byte(h.Sum(nil)) == sum, nil
}

// hashes says whether piece n hashes to sum, reading it through buf.
func (v *volume) hashes(n int, buf []byte, sum [20]byte) (ok bool, err error) {
	h := sha1.New()
	for at, size := int64(0), v.header.size(n); at < size; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), size-at)]
		if err := v.readPart(n, at, part); err != nil {
			return false, ignoringEOF(err)
		}
		h.Write(part)
	}
	return [20]byte(h.Sum(nil)) == sum, nil
}

func (v *volume) readPart(n int, at int64, b []byte) error {
	_, err := v.data.ReadAt(b, int64(n)*v.pieceLength+at)
	return err
}

// willNeed has the kernel read piece n from the disk. It does not wait for that.
func (v *volume) willNeed(n int) {
	willNeed(v.data, int64(n)*v.pieceLength, v.header.size(n))
}

// ignoringEOF makes the end of a truncated file the same as wrong bytes.
func ignoringEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// evictedElsewhere says whether another process has taken piece n out since we looked.
func (v *volume) evictedElsewhere(n int) bool {
	stamp, err := readStamp(v.index, n)
	return err == nil && stamp == absent
}

// write stores consecutive pieces, from n on. The claim comes first, as one of the oldest: should we die before
// the end, somebody finds bytes that don't hash, instead of nobody finding bytes that take room.
func (v *volume) write(n int, bufs ...[]byte) error {
	if err := writeStamps(v.index, n, len(bufs), unfinished); err != nil {
		return err
	}
	off := int64(n) * v.pieceLength
	for _, b := range bufs {
		if err := v.writePiece(b, off); err != nil {
			_ = v.punch(n, n+len(bufs))
			_ = writeStamps(v.index, n, len(bufs), absent)
			return err
		}
		off += int64(len(b))
	}
	stamp := now()
	if err := writeStamps(v.index, n, len(bufs), stamp); err != nil {
		return err
	}
	v.own(n, len(bufs))
	for i := range bufs {
		v.stamps[n+i].Store(stamp)
	}
	return nil
}

// directAtLeast is how large a piece has to be, in bytes, to go to the disk past the page cache: a smaller one would wait
// for the disk longer than it takes to write.
const directAtLeast = 256 << 10

// writePiece writes a piece's bytes to where they belong: past the page cache where that can be, since memory has the piece
// already and the mount's readers have the kernel keep it under the file that they read.
func (v *volume) writePiece(b []byte, off int64) error {
	if v.direct != nil && len(b) >= directAtLeast && isAligned(b, off) {
		err := writeAt(v.direct, b, off)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		_ = v.direct.Close() // the file system could be asked, but not do it
		v.direct = nil
	}
	return writeAt(v.data, b, off)
}

// isAligned says whether b at off can be written past the page cache.
func isAligned(b []byte, off int64) bool {
	return (off|int64(len(b))|int64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))))%blockSize == 0
}

// erase takes pieces out that are claimed no more. The caller holds the data file's lock.
func (v *volume) erase(pieces []int) error {
	slices.Sort(pieces)
	var errs error
	for len(pieces) > 0 {
		n := 1 // in one go what lies side by side
		for n < len(pieces) && pieces[n] == pieces[0]+n {
			n++
		}
		errs = errors.Join(errs,
			writeStamps(v.index, pieces[0], n, absent),
			v.punch(pieces[0], pieces[0]+n))
		pieces = pieces[n:]
	}
	return errs
}

// lockData keeps others from copying out of the volume while holes are punched; false when somebody copies.
func (v *volume) lockData() bool { return flock(v.data, unix.LOCK_EX) }

func (v *volume) unlockData() { flock(v.data, unix.LOCK_UN) }

// punch frees the disk blocks of pieces [first, last), none of which is claimed. A block shared with a neighbour goes
// when the neighbour is absent as well.
func (v *volume) punch(first, last int) error {
	from := int64(first) * v.pieceLength
	to := min(int64(last)*v.pieceLength, v.length)
	if down := from &^ (blockSize - 1); v.empty(down, from) {
		from = down
	}
	if up := (to + blockSize - 1) &^ (blockSize - 1); v.empty(to, up) {
		to = up
	}
	if from >= to {
		return nil
	}
	return punchHole(v.data, from, to-from)
}

// empty says whether no piece that has bytes in [from, to) is claimed.
func (v *volume) empty(from, to int64) bool {
	for n := from / v.pieceLength; n*v.pieceLength < to && n < int64(len(v.stamps)); n++ {
		if v.has(int(n)) {
			return false
		}
	}
	return true
}

func writeAt(f *os.File, b []byte, off int64) error {
	_, err := f.WriteAt(b, off)
	return err
}

package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// A way reads a file from off to its end, by one kind of system call.
type way struct {
	name string
	read func(t *testing.T, path string, size, off int64) ([]byte, error)
}

// openedWith gives a way of reading that opens the file and stands at off.
func openedWith(flags int, read func(t *testing.T, fd int, size, off int64) ([]byte, error)) func(*testing.T, string, int64, int64) ([]byte, error) {
	return func(t *testing.T, path string, size, off int64) ([]byte, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|flags, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		if _, err := unix.Seek(fd, off, io.SeekStart); err != nil {
			return nil, err
		}
		return read(t, fd, size, off)
	}
}

// advised has the kernel told something before the file is read.
func advised(advise func(fd int, size, off int64) error) func(*testing.T, string, int64, int64) ([]byte, error) {
	return openedWith(0, func(t *testing.T, fd int, size, off int64) ([]byte, error) {
		if err := advise(fd, size, off); err != nil {
			return nil, err
		}
		return readBy(64<<10)(t, fd, size, off)
	})
}

// readBy reads on until there is nothing more, n bytes at once.
func readBy(n int) func(*testing.T, int, int64, int64) ([]byte, error) {
	return func(_ *testing.T, fd int, _, _ int64) (all []byte, err error) {
		p := make([]byte, n)
		for {
			got, err := unix.Read(fd, p)
			if err != nil || got == 0 {
				return all, err
			}
			all = append(all, p[:got]...)
		}
	}
}

// moved has the kernel move bytes to another file or pipe until there are no more.
func moved(move func(out, fd int) (int, error)) func(*testing.T, string, int64, int64) ([]byte, error) {
	return openedWith(0, func(t *testing.T, fd int, _, _ int64) ([]byte, error) {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			return nil, err
		}
		defer out.Close()
		for {
			n, err := move(int(out.Fd()), fd)
			if err != nil {
				return nil, err
			}
			if n == 0 {
				return os.ReadFile(out.Name())
			}
		}
	})
}

// spliced moves bytes from a file to another through a pipe.
func spliced(out, fd int) (int, error) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return 0, err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	n, err := unix.Splice(fd, nil, pipe[1], nil, 64<<10, 0)
	for left := n; err == nil && left > 0; {
		var m int64
		m, err = unix.Splice(pipe[0], nil, out, nil, int(left), 0)
		left -= m
	}
	return int(n), err
}

// mapped reads by a mapping of the whole file, from its last page to the first that is asked for.
func mapped(t *testing.T, path string, size, off int64) (all []byte, err error) {
	if off >= size { // beyond the last page is no end but a SIGBUS
		return nil, nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	p, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	unix.Close(fd)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(p) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the mapping: %v", unix.EIO, r)
		}
	}()
	all = make([]byte, max(0, size-off))
	for at := size - 1 - (size-1)%4096; at >= off-off%4096; at -= 4096 {
		from := max(at, off)
		copy(all[from-off:], p[from:min(at+4096, size)])
	}
	return all, nil
}

var ways = []way{
	{"read", openedWith(0, readBy(100_000))},
	{"read in large pieces", openedWith(0, readBy(3<<20))},
	{"read, direct", openedWith(unix.O_DIRECT, readBy(128<<10))},
	{"pread", openedWith(0, func(_ *testing.T, fd int, size, off int64) ([]byte, error) {
		p := make([]byte, max(0, size-off)+4096) // beyond the end
		n, err := unix.Pread(fd, p, off)
		return p[:max(n, 0)], err
	})},
	{"preadv2", openedWith(0, func(_ *testing.T, fd int, size, off int64) ([]byte, error) {
		p := make([]byte, max(0, size-off)+1)
		n, err := unix.Preadv2(fd, [][]byte{p[:len(p)/3], p[len(p)/3:]}, off, 0)
		return p[:max(n, 0)], err
	})},
	{"mmap", mapped},
	{"sendfile", moved(func(out, fd int) (int, error) { return unix.Sendfile(out, fd, nil, 1<<20) })},
	{"splice", moved(spliced)},
	{"copy_file_range", moved(func(out, fd int) (int, error) {
		n, err := unix.CopyFileRange(fd, nil, out, nil, 1<<20, 0)
		if errors.Is(err, unix.EXDEV) { // on to the next best, as cp does
			return unix.Sendfile(out, fd, nil, 1<<20)
		}
		return n, err
	})},
	{"readahead", advised(func(fd int, size, off int64) error {
		_, _, errno := unix.Syscall(unix.SYS_READAHEAD, uintptr(fd), uintptr(off), uintptr(size+1<<20))
		if errno != 0 && errno != unix.EINVAL {
			return errno
		}
		return nil
	})},
	{"fadvise: sequential", advised(func(fd int, _, _ int64) error { return unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) })},
	{"fadvise: random", advised(func(fd int, _, _ int64) error { return unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) })},
	{"fadvise: wanted", advised(func(fd int, size, off int64) error { return unix.Fadvise(fd, off, size+1<<20, unix.FADV_WILLNEED) })},
}

// readThrough reads anew when the runtime interrupts it, as it does to preempt a thread.
func (w way) readThrough(t *testing.T, path string, size, off int64) (got []byte, err error) {
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		got, err = w.read(t, path, size, off)
	}
	return got, err
}

// ends are lengths of files around every border that the kernel, a block or a piece could have.
func ends() (all []int64) {
	for _, border := range []int64{0, 4096, 128 << 10, 1 << 20} {
		for _, d := range []int64{-1, 0, 1} {
			if border+d >= 0 {
				all = append(all, border+d)
			}
		}
	}
	return append(all, 5000, 1<<20+4097, 3<<20+12345)
}

// uneven is a torrent of files of all these lengths, one after another.
func uneven(lengths []int64) metainfo.Torrent {
	var files []metainfo.File
	for i, n := range lengths {
		files = append(files, metainfo.File{Path: fmt.Sprintf("ends/%d-%d", i, n), Length: n})
	}
	return layout(11, "ends", files...)
}

// No program meets the end of a file before it is there, nor bytes after it, by whatever call it reads and wherever it
// begins: a file's length never changes.
func TestNoEarlyEnd(t *testing.T) {
	tor := uneven(ends())
	s := startServer(t, serverOptions{ReadAhead: 8 << 20}, 0, tor)
	random := rand.New(rand.NewPCG(11, 11))
	checked := 0
	for _, f := range tor.Files {
		path := s.path(f.Path)
		starts := []int64{0, f.Length - 1, f.Length, f.Length + 1, f.Length - f.Length%4096, random.Int64N(f.Length + 1)}
		for _, w := range ways {
			for _, off := range starts {
				if off < 0 {
					continue
				}
				forget(t, path)
				got, err := w.readThrough(t, path, f.Length, off)
				if err != nil {
					t.Fatalf("%s of %s from %d: %v", w.name, f.Path, off, err)
				}
				if w := want(&tor, f, min(off, f.Length), f.Length); !bytes.Equal(got, w) {
					t.Errorf("%s from %d: %d bytes, want %d", f.Path, off, len(got), len(w))
				}
				checked++
			}
			checkLength(t, path, f.Length)
		}
	}
	t.Logf("%d reads to the end", checked)
}

// Reads that fail leave a file's length as it was, and what is read later is right.
func TestNoEarlyEndAfterFailures(t *testing.T) {
	tor := uneven(slices.DeleteFunc(ends(), func(n int64) bool { return n < 128<<10 }))
	s := startServer(t, serverOptions{ReadTimeout: 20 * time.Millisecond, ReadAhead: 8 << 20}, 1, tor)
	for i, f := range tor.Files {
		path := s.path(f.Path)
		// What there is ends in the middle of the file.
		s.ask("gate %d", f.Offset+f.Length/2)
		for _, w := range ways {
			if w.name == "mmap" { // the runtime's own signals interrupt it, and it waits anew
				continue
			}
			forget(t, path)
			got, err := w.readThrough(t, path, f.Length, 0)
			if err == nil && int64(len(got)) == f.Length {
				t.Errorf("%s of %s: all of what isn't there", w.name, f.Path)
			}
			if err != nil && !errors.Is(err, unix.EIO) {
				t.Errorf("%s of %s: %v", w.name, f.Path, err)
			}
			if !bytes.Equal(got, want(&tor, f, 0, int64(len(got)))) {
				t.Errorf("%s of %s: what came before the failure is wrong", w.name, f.Path)
			}
			checkLength(t, path, f.Length)
		}
		s.ask("gate 0")
		got, err := ways[i%len(ways)].readThrough(t, path, f.Length, 0)
		if errors.Is(err, unix.EIO) { // the echo of a late read
			got, err = ways[i%len(ways)].readThrough(t, path, f.Length, 0)
		}
		if err != nil || !bytes.Equal(got, want(&tor, f, 0, f.Length)) {
			t.Errorf("%s of %s, now that it is there: %d bytes, %v", ways[i%len(ways)].name, f.Path, len(got), err)
		}
	}
}

// forget has the kernel forget what it has of a file.
func forget(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// checkLength looks at a file's length in every way there is.
func checkLength(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != size {
		t.Errorf("%s: %v, %v, want %d bytes", path, info, err, size)
	}
	for _, whence := range []int{io.SeekEnd, unix.SEEK_HOLE} {
		if end, err := f.Seek(0, whence); (err != nil || end != size) && !(size == 0 && errors.Is(err, unix.ENXIO)) {
			t.Errorf("%s: the end is at %d, %v, want %d", path, end, err, size)
		}
	}
}

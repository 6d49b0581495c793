package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

// span is a range of bytes of a file.
type span struct{ off, n int64 }

// borders gives reads around the borders of pieces and files, and random ones, of a file of the given size whose first
// byte lies at offset first of its torrent.
func borders(size, first, piece int64, random *rand.Rand) []span {
	spans := []span{{0, 1}, {0, size}, {size - 1, 1}, {size, 1}, {size + 1, 10}, {size - 1, 4096}, {size + piece, 1}}
	for edge := piece - first%piece; edge < size; edge += piece {
		for _, n := range []int64{1, 2, 16384, piece, piece + 1} {
			spans = append(spans, span{edge - 1, n}, span{edge, n}, span{edge - n, n})
		}
	}
	for range 300 {
		spans = append(spans, span{random.Int64N(size), 1 + random.Int64N(random.Int64N(3*piece)+1)})
	}
	random.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
	return spans
}

// readSame compares one read of a file in the mount with its original: bytes, length and end of file.
func readSame(f io.ReaderAt, want []byte, s span) error {
	got := make([]byte, s.n)
	n, err := f.ReadAt(got, s.off)
	var expect []byte
	if s.off < int64(len(want)) {
		expect = want[s.off:min(s.off+s.n, int64(len(want)))]
	}
	if err != nil && (err != io.EOF || n == len(got)) {
		return fmt.Errorf("read of %d bytes at %d: %w", s.n, s.off, err)
	}
	if !bytes.Equal(got[:n], expect) {
		return fmt.Errorf("read of %d bytes at %d: %d bytes that differ from the original's %d", s.n, s.off, n, len(expect))
	}
	return nil
}

func TestRandomReads(t *testing.T) {
	t.Parallel()
	// Files that share pieces, begin and end inside them, and one that is smaller than a piece.
	const piece = 64 << 10
	root := filepath.Join(t.TempDir(), "random")
	sizes := []int{3*piece + 1, piece - 1, 100, 2 * piece, 5*piece + 777}
	for i, size := range sizes {
		write(t, filepath.Join(root, fmt.Sprintf("%d.bin", i)), noise(byte(i), size))
	}
	tt := byLibtorrent(t, root, making{piece: piece})
	// A cache of a few pieces, so that what was read is fetched again too.
	m := mountTorrent(t, tt, "--memory", "16MiB", "--peer", seedByLibtorrent(t, tt, seeding{}).addr())

	seed := uint64(0x7074)
	random := rand.New(rand.NewPCG(seed, seed))
	var first int64
	for i, size := range sizes {
		name := filepath.Join(tt.name, fmt.Sprintf("%d.bin", i))
		f, err := os.Open(m.path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want, err := os.ReadFile(tt.original(name))
		if err != nil {
			t.Fatal(err)
		}
		for k, s := range borders(int64(size), first, piece, random) {
			if s.off < 0 {
				continue
			}
			if k%4 == 0 {
				dropCache(t, f)
			}
			if err := readSame(f, want, s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		mappedSame(t, f, want)
		first += int64(size)
	}
}

// TestParallelReaders reads one file from many handles at once, at random places.
func TestParallelReaders(t *testing.T) {
	t.Parallel()
	want := noise(9, 8<<20+1)
	tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "parallel.bin"), want), making{piece: 128 << 10})
	m := mountTorrent(t, tt, "--peer", seedByTransmission(t, tt, seeding{}).addr())
	results := make(chan error)
	const readers = 16
	for r := range readers {
		go func() {
			results <- func() error {
				f, err := os.Open(m.path(tt.name))
				if err != nil {
					return err
				}
				defer f.Close()
				random := rand.New(rand.NewPCG(uint64(r), 1))
				for range 100 {
					if err := readSame(f, want, span{random.Int64N(int64(len(want))), 1 + random.Int64N(300_000)}); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range readers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// mappedSame maps a file of the mount into memory, touches its pages from the last to the first, and compares.
func mappedSame(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	dropCache(t, f)
	got, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Errorf("%s: mmap: %v", f.Name(), err)
		return
	}
	defer func() { _ = unix.Munmap(got) }()
	// A page that can't be read is a SIGBUS: make it a panic, and that a failed test.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("%s: reading the mapping: %v", f.Name(), r)
		}
	}()
	for off := (len(want) - 1) &^ 4095; off >= 0; off -= 4096 {
		end := min(off+4096, len(want))
		if !bytes.Equal(got[off:end], want[off:end]) {
			t.Errorf("%s: the mapping differs in the page at %d", f.Name(), off)
			return
		}
	}
}

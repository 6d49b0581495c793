package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFaultReads has 64 readers read here and there, half of them through mappings, and compares every byte. The caches of
// the kernel and of the mount hold less than there is, so that pieces come and go.
func TestFaultReads(t *testing.T) {
	t.Parallel()
	const readers, files = 64, 4
	reads := extent(50_000, 1_000_000)
	root := filepath.Join(t.TempDir(), "reads")
	var originals [files][]byte
	for i := range originals {
		originals[i] = noise(byte(80+i), 12<<20+4097*i+1)
		write(t, filepath.Join(root, fmt.Sprint(i)), originals[i])
	}
	tt := byLibtorrent(t, root, making{piece: 128 << 10})
	m := startMount(t, fast(t), t.TempDir(), tt.file, "--log-level", "info", "--memory", "16MiB", "--cache-size", "24MiB",
		"--peer", seedByLibtorrent(t, tt, seeding{}).addr())
	m.watchdog.Reset(extent(lifetime, time.Hour))
	var running sync.WaitGroup
	for r := range readers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(r), 64))
			f, err := os.Open(m.path(filepath.Join(tt.name, fmt.Sprint(r%files))))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			same := readSame
			if want := originals[r%files]; r/files%2 == 0 {
				mapping, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = unix.Munmap(mapping) }()
				same = func(_ io.ReaderAt, want []byte, s span) error { return mappingSame(mapping, want, s) }
			}
			for i := range reads / readers {
				want := originals[r%files]
				if i%200 == r%200 {
					_ = unix.Fadvise(int(f.Fd()), random.Int64N(int64(len(want))), 4<<20, unix.FADV_DONTNEED)
				}
				if err := same(f, want, span{random.Int64N(int64(len(want))), 1 + random.Int64N(8<<10)}); err != nil {
					t.Errorf("reader %d, read %d: %v", r, i, err)
					return
				}
			}
		})
	}
	running.Wait()
	m.interrupt()
}

// mappingSame compares a part of a mapping with the original.
func mappingSame(mapping, want []byte, s span) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the mapping at %d: %v", s.off, r)
		}
	}()
	end := min(s.off+s.n, int64(len(want)))
	if !bytes.Equal(mapping[s.off:end], want[s.off:end]) {
		return fmt.Errorf("the mapping differs at %d", s.off)
	}
	return nil
}

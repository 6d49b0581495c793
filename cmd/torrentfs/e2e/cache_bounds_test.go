package e2e

import (
	"bytes"
	big "encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// markEvery is how far the marks of a marked file are apart, in bytes.
const markEvery = 16 << 10

// marked makes a sparse file of n bytes with a mark in each block of 16 KiB that tells where it belongs.
func marked(t testing.TB, path string, n int64) string {
	t.Helper()
	write(t, path, nil)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(n); err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < n; off += markEvery {
		if _, err := f.WriteAt(mark(off), off); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func mark(off int64) []byte { return big.BigEndian.AppendUint64([]byte("mark"), uint64(off)) }

// checkMarks reads a marked file to its end from off on, a multiple of markEvery.
func checkMarks(f io.ReaderAt, off, n int64) error {
	zeros := make([]byte, markEvery)
	buf := make([]byte, 1<<20)
	for end := off + n; off < end; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), end-off)]
		if _, err := f.ReadAt(buf, off); err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		for i := 0; i < len(buf); i += markEvery {
			block, want := buf[i:min(i+markEvery, len(buf))], mark(off+int64(i))
			if !bytes.HasPrefix(block, want) || !bytes.Equal(block[len(want):], zeros[:len(block)-len(want)]) {
				return fmt.Errorf("wrong bytes in the block at %d", off+int64(i))
			}
		}
	}
	return nil
}

// longVar names the environment variable that has TestBounds read 2 GiB, and TestReadOnlyBehindNAT wait for minutes; `make
// bounds` and `make nat` set it.
const longVar = "TORRENTFS_E2E_LONG"

// TestBounds reads a torrent much larger than what may be kept of it, and watches what the process and its cache take.
func TestBounds(t *testing.T) {
	size, disk := int64(512<<20), int64(64<<20)
	if os.Getenv(longVar) != "" {
		size, disk = 2<<30, 256<<20
	}
	const (
		memory   = 64 << 20
		overhead = 64 << 20 // what the process takes beside the pieces: itself, connections, replies to the kernel
		again    = 16 << 20
	)
	tt := byLibtorrent(t, marked(t, filepath.Join(t.TempDir(), "large.bin"), size), making{piece: 1 << 20})
	s := seedByLibtorrent(t, tt, seeding{})
	cacheDir := t.TempDir()
	m := startMount(t, fast(t), t.TempDir(), tt.file, "--log-level", "info", "--peer", s.addr(),
		"--memory", fmt.Sprint(memory), "--cache-dir", cacheDir, "--cache-size", fmt.Sprint(disk))

	var mostMemory, mostDisk int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			mostMemory = max(mostMemory, resident(m.cmd.Process.Pid))
			mostDisk = max(mostDisk, blocks(cacheDir))
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	f := cold(t, m.path(tt.name))
	start := time.Now()
	err := checkMarks(f, 0, size)
	took := time.Since(start)
	// The end of it was read last: it is still here.
	eventually(t, "what was read is written", func() bool { return inCache(t, cacheDir, tt).Present > again })
	before := s.uploaded()
	dropCache(t, f)
	if err == nil {
		err = checkMarks(f, size-again, again)
	}
	close(stop)
	<-stopped
	if err != nil {
		t.Fatal(err)
	}
	if after := s.uploaded(); after != before {
		t.Errorf("reading the end again made the seeder give %d bytes", after-before)
	}
	t.Logf("read in %v; at most %d MiB resident, %d MiB on disk, %d MiB given by the seeder",
		took.Round(time.Millisecond), mostMemory>>20, mostDisk>>20, before>>20)
	if mostMemory > memory+overhead {
		t.Errorf("the process took %d MiB, with --memory %d MiB", mostMemory>>20, memory>>20)
	}
	if mostDisk > disk {
		t.Errorf("the cache took %d bytes on disk, with --cache-size %d", mostDisk, disk)
	}
	if mostDisk < disk/2 {
		t.Errorf("the cache took only %d bytes on disk", mostDisk)
	}
	if before > size*11/10 {
		t.Errorf("the seeder gave %d MiB for %d", before>>20, size>>20)
	}
	// Then the beginning, which is long gone, comes again.
	if err := checkMarks(f, 0, again); err != nil {
		t.Error(err)
	}
}

// resident gives the bytes of memory that a process takes.
func resident(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

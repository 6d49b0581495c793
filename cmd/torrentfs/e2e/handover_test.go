package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestLastSeederGone shows that a mount without peers serves what it has, and gives EIO for the rest.
func TestLastSeederGone(t *testing.T) {
	t.Parallel()
	const half = 4 << 20
	want := noise(4, 2*half)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "half.bin"), want), making{piece: 256 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	m := mountTorrent(t, tt, "--read-timeout", "2s", "--readahead", "256KiB", "--peer", s.addr())
	f, err := os.Open(m.path(tt.name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := readSame(f, want, span{0, half / 2}); err != nil {
		t.Fatal(err)
	}
	s.kill()
	if _, err := f.ReadAt(make([]byte, 4096), 2*half-4096); !errors.Is(err, syscall.EIO) {
		t.Errorf("read of what nobody has: %v, want EIO", err)
	}
	for range 2 {
		if err := readSame(f, want, span{0, half / 2}); err != nil {
			t.Errorf("what was read before: %v", err)
		}
		dropCache(t, f)
	}
}

// TestSeederDies kills a seeder in the middle of a read that goes on with another.
func TestSeederDies(t *testing.T) {
	t.Parallel()
	want := noise(5, 12<<20)
	path := write(t, filepath.Join(t.TempDir(), "handover.bin"), want)
	const limit = 2 << 20 // of each, so that the read is under way for some seconds
	t.Run("the other is there already", func(t *testing.T) {
		t.Parallel()
		tt := byLibtorrent(t, path, making{piece: 256 << 10})
		dying := seedByLibtorrent(t, tt, seeding{limit: limit})
		other := seedByLibtorrent(t, tt, seeding{limit: limit})
		m := mountTorrent(t, tt, "--peer", dying.addr(), "--peer", other.addr())
		readThrough(t, m.path(tt.name), want, dying.kill)
	})
	t.Run("the other comes later, in its place", func(t *testing.T) {
		t.Parallel()
		tt := byLibtorrent(t, path, making{piece: 256 << 10})
		place := seeding{port: freePort(t), limit: limit}
		dying := seedByLibtorrent(t, tt, place)
		m := mountTorrent(t, tt, "--peer", dying.addr())
		readThrough(t, m.path(tt.name), want, func() {
			dying.kill()
			seedByTransmission(t, tt, place)
		})
	})
}

// readThrough reads a file to its end, compares it, and makes something happen after its first third.
func readThrough(t *testing.T, path string, want []byte, then func()) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want)/3)
	if _, err := io.ReadFull(f, got); err != nil {
		t.Fatal(err)
	}
	then()
	rest, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, rest...), want) {
		t.Error("what was read differs from the original")
	}
}

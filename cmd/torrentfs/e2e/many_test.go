package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestManyPieces mounts a torrent of 65,536 pieces of 16 KiB, and reads here and there.
func TestManyPieces(t *testing.T) {
	t.Parallel()
	const piece, pieces = 16 << 10, 65536
	path := filepath.Join(t.TempDir(), "many pieces.bin")
	original, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer original.Close()
	if err := original.Truncate(piece * pieces); err != nil {
		t.Fatal(err)
	}
	// Sparse but for some places, to be kind to the disk.
	random := rand.New(rand.NewPCG(16, 65536))
	places := []int64{0, piece*pieces - 100_000}
	for range 100 {
		places = append(places, random.Int64N(piece*pieces-100_000))
	}
	for i, off := range places {
		if _, err := original.WriteAt(noise(byte(i), 100_000), off); err != nil {
			t.Fatal(err)
		}
	}
	tt := byLibtorrent(t, path, making{piece: piece})
	s := seedByLibtorrent(t, tt, seeding{})
	begun := time.Now()
	m := mountTorrent(t, tt, "--peer", s.addr())
	t.Logf("mounted in %v", time.Since(begun))
	if got, want := listing(t, m.dir), []string{fmt.Sprintf("f %d %s", piece*pieces, tt.name)}; !slices.Equal(got, want) {
		t.Errorf("the mount shows %q, want %q", got, want)
	}

	f, err := os.Open(m.path(tt.name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := make([]byte, 150_000)
	for _, off := range places {
		n, err := original.ReadAt(want, max(0, off-20_000))
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if _, err := f.ReadAt(got, max(0, off-20_000)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want[:n]) {
			t.Errorf("150 kB around %d differ from the original", off)
		}
	}
	if got := s.uploaded(); got > piece*pieces/4 {
		t.Errorf("%d bytes were fetched to read %d", got, len(places)*len(want))
	}
}

// TestManyFiles mounts 5,000 small files in nested folders, lists and reads them all.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "many files")
	random := rand.New(rand.NewPCG(5, 5000))
	for i := range 5000 {
		path := filepath.Join(root, fmt.Sprintf("%02d", i/500), fmt.Sprintf("%03d", i/20), fmt.Sprintf("file %d.txt", i))
		write(t, path, noise(byte(i), random.IntN(6000)))
	}
	tt := byTransmission(t, root, making{})
	s := seedByLibtorrent(t, tt, seeding{})
	begun := time.Now()
	m := mountTorrent(t, tt, "--peer", s.addr())
	t.Logf("mounted in %v", time.Since(begun))
	begun = time.Now()
	if got, want := listing(t, m.path(tt.name)), listing(t, root); !slices.Equal(got, want) {
		t.Errorf("the mount shows %d names, shared were %d", len(got), len(want))
	}
	t.Logf("listed in %v", time.Since(begun))
	output(t, "diff", "--recursive", root, m.path(tt.name))
}

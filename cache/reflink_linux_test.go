package cache

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestExportSharesBlocks exports on file systems whose files can share blocks: the copy takes next to no room.
func TestExportSharesBlocks(t *testing.T) {
	for _, fs := range []struct {
		name string
		make []string
		size int64
	}{
		{"xfs", []string{"mkfs.xfs", "-q", "-m", "reflink=1"}, 512 << 20},
		{"btrfs", []string{"mkfs.btrfs", "-q"}, 256 << 20},
	} {
		t.Run(fs.name, func(t *testing.T) {
			top := image(t, fs.make, fs.size)
			dir, out := filepath.Join(top, "cache"), filepath.Join(top, "out")
			spec := testSpec(1, 64<<10, 32<<20+4097)
			fill(t, dir, spec)
			exec.Command("sync", "-f", top).Run() // or the cache's own blocks would count as the copy's
			before, _, err := freeSpace(top)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(out, "all")
			if err := Dir(dir).Export(t.Context(), spec, []Part{{path, 0, spec.Length}}, nil); err != nil {
				t.Fatal(err)
			}
			exec.Command("sync", "-f", top).Run()
			after, _, err := freeSpace(top)
			if err != nil {
				t.Fatal(err)
			}
			if took := before - after; took > 4<<20 {
				t.Errorf("the copy of %d bytes took %d", spec.Length, took)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, spec.PieceLength)
			for n := range spec.Hashes {
				want := want[:spec.pieceSize(n)]
				content(want, 1, n)
				if at := int64(n) * spec.PieceLength; !bytes.Equal(got[at:at+int64(len(want))], want) {
					t.Fatalf("piece %d differs", n)
				}
			}
		})
	}
}

// image mounts a file system made in a file.
func image(t testing.TB, mkfs []string, size int64) (dir string) {
	t.Helper()
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], path)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", mkfs, err, out)
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", path, dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount it: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

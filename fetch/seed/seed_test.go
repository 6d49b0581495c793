package seed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"torrentfs/fetch/metainfo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pieceLength = 32 << 10

// content is what the multi-file tests share, by path below the folder. Pieces span files, a file spans pieces, two
// files are empty, and the last piece is short.
var content = []struct {
	path   string
	length int
}{
	{"a.bin", 3*pieceLength + 17}, {"dir/b.bin", 5}, {"dir/deep/empty", 0}, {"dir/deep/c.bin", 2 * pieceLength},
	{"z-empty", 0}, {"z.bin", 100},
}

// share writes the content into a new folder and returns that and the torrent.
func share(t *testing.T) (folder string, tor *metainfo.Torrent, want []byte) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "folder")
	for _, c := range content {
		write(t, filepath.Join(folder, c.path), random(c.length))
	}
	tor = create(t, folder)
	for _, f := range tor.Files {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(folder), f.Path))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, data...)
	}
	return folder, tor, want
}

func create(t *testing.T, path string) *metainfo.Torrent {
	t.Helper()
	b, err := metainfo.Create(t.Context(), path, metainfo.CreateOptions{PieceLength: pieceLength}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tor, err := metainfo.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return tor
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func open(t *testing.T, tor *metainfo.Torrent, root string) *Store {
	t.Helper()
	s, err := Open(tor, root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// all returns the pieces joined, and fails on one that does not load.
func all(t *testing.T, s *Store) []byte {
	t.Helper()
	var b []byte
	for piece := range s.torrent.NumPieces() {
		data, release, ok := s.Load(piece)
		if !ok {
			t.Fatalf("piece %d does not load", piece)
		}
		b = append(b, data...)
		release()
	}
	return b
}

func TestMultiFile(t *testing.T) {
	folder, tor, want := share(t)
	for name, root := range map[string]string{"the folder": folder, "where it lies": filepath.Dir(folder)} {
		t.Run(name, func(t *testing.T) {
			s := open(t, tor, root)
			if !bytes.Equal(all(t, s), want) {
				t.Error("the pieces are not the files")
			}
			if s.Good() != tor.NumPieces() {
				t.Errorf("%d of %d pieces are good", s.Good(), tor.NumPieces())
			}
		})
	}
}

func TestSingleFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.bin")
	want := random(2*pieceLength + 1)
	write(t, path, want)
	tor := create(t, path)
	for name, root := range map[string]string{"the file": path, "where it lies": filepath.Dir(path)} {
		t.Run(name, func(t *testing.T) {
			if !bytes.Equal(all(t, open(t, tor, root)), want) {
				t.Error("the pieces are not the file")
			}
		})
	}
}

func TestFolderWithinFolderOfTheSameName(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	write(t, filepath.Join(folder, "folder", "x"), random(10))
	write(t, filepath.Join(folder, "y"), random(20))
	tor := create(t, folder)
	all(t, open(t, tor, folder))
	all(t, open(t, tor, filepath.Dir(folder)))
}

func TestPadding(t *testing.T) {
	// Create makes no padding, so a file of zeros takes the part, and is then not on the disk.
	folder, _, _ := share(t)
	pad := filepath.Join(folder, "pad")
	write(t, pad, make([]byte, 1000))
	tor := create(t, folder)
	for i := range tor.Files {
		if filepath.Base(tor.Files[i].Path) == "pad" {
			tor.Files[i].Padding = true
		}
	}
	if err := os.Remove(pad); err != nil {
		t.Fatal(err)
	}
	if got := len(all(t, open(t, tor, folder))); int64(got) != tor.Length {
		t.Errorf("%d bytes of %d", got, tor.Length)
	}
}

func TestVerify(t *testing.T) {
	folder, tor, _ := share(t)
	damage(t, filepath.Join(folder, "a.bin"), pieceLength+1)
	s := open(t, tor, folder)
	if s.Has(0) || s.Good() != 0 {
		t.Error("pieces are claimed before they were hashed")
	}
	var last int64
	good, err := s.Verify(t.Context(), func(done, total int64) {
		if done <= last || total != tor.Length {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := tor.NumPieces() - 1; good != want || last != tor.Length {
		t.Errorf("%d pieces are good, want %d; progress ended at %d", good, want, last)
	}
	for piece := range tor.NumPieces() {
		if got, want := s.Has(piece), piece != 1; got != want {
			t.Errorf("Has(%d) is %v", piece, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func damage(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

func TestChangedBehindTheBack(t *testing.T) {
	folder, tor, _ := share(t)
	path := filepath.Join(folder, "a.bin")
	s := open(t, tor, folder)
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	damage(t, path, 5)
	if _, _, ok := s.Load(0); ok || s.Has(0) {
		t.Error("a changed piece is served")
	}
	if _, _, ok := s.Get(0); ok {
		t.Error("a wrong piece is remembered")
	}
	damage(t, path, 5) // back again
	if _, _, ok := s.Load(0); !ok || !s.Has(0) {
		t.Error("a mended piece is not served")
	}
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := s.Load(1); ok || s.Has(1) {
		t.Error("a piece of a truncated file is served")
	}
}

func TestAppendBlock(t *testing.T) {
	folder, tor, want := share(t)
	for _, verified := range []bool{false, true} {
		s := open(t, tor, folder)
		if verified {
			if _, err := s.Verify(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		for piece := range tor.NumPieces() {
			size := uint32(tor.PieceSize(piece))
			for _, r := range [][2]uint32{{0, min(16<<10, size)}, {size / 2, size - size/2}, {size - 1, 1}, {0, size}} {
				got, ok := s.AppendBlock([]byte("before"), piece, r[0], r[1])
				at := uint32(piece)*pieceLength + r[0]
				if !ok || !bytes.Equal(got, append([]byte("before"), want[at:at+r[1]]...)) {
					t.Errorf("%v of piece %d: %v, %d bytes", r, piece, ok, len(got))
				}
			}
			if got, ok := s.AppendBlock([]byte("before"), piece, size, 1); ok || string(got) != "before" {
				t.Errorf("a byte behind piece %d", piece)
			}
		}
		if s.Good() != tor.NumPieces() {
			t.Errorf("%d of %d pieces are good", s.Good(), tor.NumPieces())
		}
	}
}

// A piece that went bad is given to nobody and claimed no more, which those who watch hear once. However often it is asked
// for, it is looked at once in a minute; then it may have been mended.
func TestWrongPieceRests(t *testing.T) {
	folder, tor, _ := share(t)
	path := filepath.Join(folder, "a.bin")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, tor, folder)
		if _, err := s.Verify(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		var lost []int
		s.Watch(func(piece int) { lost = append(lost, piece) })
		ask := func() bool {
			_, ok := s.AppendBlock(nil, 0, 0, 16<<10)
			return ok
		}
		damage(t, path, 5)
		if ask() || s.Has(0) || s.Good() != tor.NumPieces()-1 || !slices.Equal(lost, []int{0}) {
			t.Fatalf("claimed %v, lost %v", s.Has(0), lost)
		}
		time.Sleep(pause - time.Second)
		damage(t, path, 5) // back again; were it looked at now, it would be found right
		if ask() {
			t.Error("looked at again at once")
		}
		damage(t, path, 5)
		time.Sleep(time.Second)
		if ask() || len(lost) != 1 {
			t.Errorf("lost %v", lost)
		}
		damage(t, path, 5)
		time.Sleep(pause)
		if !ask() || !s.Has(0) || s.Good() != tor.NumPieces() {
			t.Error("a mended piece is not served")
		}
		if _, ok := s.AppendBlock(nil, 1, 0, 16<<10); !ok {
			t.Error("another piece is not served")
		}
		time.Sleep(3 * idleFor) // what is open is still there
		if err := os.Rename(path, path+".gone"); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.AppendBlock(nil, 1, 0, 16<<10); ok || !slices.Equal(lost, []int{0, 1}) {
			t.Errorf("lost %v, and then a file", lost)
		}
	})
}

// Files stay open between blocks, a few and not for long, and one that has gone bad since it was opened is opened anew.
func TestFilesStayOpenForAWhile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	const files = 3 * maxIdle
	path := func(i int) string { return filepath.Join(folder, fmt.Sprintf("%02d", i)) }
	for i := range files {
		write(t, path(i), random(pieceLength + i)[:pieceLength])
	}
	tor := create(t, folder)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, tor, folder)
		ask := func(piece int) {
			t.Helper()
			if _, ok := s.AppendBlock(nil, piece, 0, 16<<10); !ok {
				t.Errorf("piece %d is not served", piece)
			}
		}
		open := func() (files []*os.File) {
			s.idle.mu.Lock()
			defer s.idle.mu.Unlock()
			for _, r := range s.idle.readers {
				files = append(files, r.open)
			}
			return files
		}
		for i := range files {
			ask(i)
		}
		if n := len(open()); n != maxIdle {
			t.Errorf("%d files are open", n)
		}
		held := open()[maxIdle-1]
		ask(files - 1)
		if open()[maxIdle-1] != held {
			t.Error("the file was opened again")
		}
		right, err := os.ReadFile(path(files - 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path(files-1), path(files-1)+".old"); err != nil {
			t.Fatal(err)
		}
		write(t, path(files-1), right)
		damage(t, path(files-1)+".old", 5)
		ask(files - 1)
		for range 5 { // as long as some are asked for, they stay
			time.Sleep(idleFor - 1)
			ask(0)
		}
		if len(open()) == 0 {
			t.Error("closed while in use")
		}
		time.Sleep(2 * idleFor)
		synctest.Wait()
		if n := len(open()); n != 0 {
			t.Errorf("%d files are open", n)
		}
	})
}

func TestConcurrentLoads(t *testing.T) {
	folder, tor, want := share(t)
	s := open(t, tor, folder)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for piece := range tor.NumPieces() {
				data, _, ok := s.Load(piece)
				off := int64(piece) * tor.PieceLength
				if !ok || !bytes.Equal(data, want[off:off+tor.PieceSize(piece)]) {
					t.Errorf("piece %d is wrong", piece)
				}
			}
		})
	}
	wg.Wait()
}

func TestOpenErrors(t *testing.T) {
	folder, tor, _ := share(t)
	for _, test := range []struct { // each goes on from what the one before has left
		name  string
		spoil func(t *testing.T) (root string)
		want  string
	}{
		{"no root", func(*testing.T) string { return filepath.Join(folder, "nowhere") }, "nowhere: no such file"},
		{"missing", func(t *testing.T) string {
			if err := os.Rename(filepath.Join(folder, "z.bin"), filepath.Join(folder, "y.bin")); err != nil {
				t.Fatal(err)
			}
			return folder
		}, "folder/z.bin: no such file"},
		{"missing, from above", func(*testing.T) string { return filepath.Dir(folder) }, "folder/z.bin: no such file"},
		{"length", func(t *testing.T) string {
			write(t, filepath.Join(folder, "z.bin"), random(99))
			return folder
		}, "z.bin has 99 bytes, not the 100 of the torrent"},
		{"directory", func(t *testing.T) string {
			if err := os.Remove(filepath.Join(folder, "z.bin")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(folder, "z.bin", "x"), nil)
			return folder
		}, "z.bin is not a regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Open(tor, test.spoil(t))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

// TestOddNames shares a folder with names that no client shows as they are, from where it is and from where torrentfs or
// another client has put it.
func TestOddNames(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	for i, name := range []string{"a\nb", "a\tb", "a_b", "not\xffUTF-8", "d\x01/plain", "plain"} {
		write(t, filepath.Join(folder, name), random(pieceLength+i))
	}
	tor := create(t, folder)
	want := all(t, open(t, tor, folder))
	for _, raw := range []bool{true, false} {
		moved := t.TempDir()
		for _, f := range tor.Files {
			path := f.Path
			if raw && f.RawPath != "" {
				path = f.RawPath
			}
			if !filepath.IsLocal(path) {
				t.Errorf("path %q", path)
			}
			write(t, filepath.Join(moved, path), want[f.Offset:f.Offset+f.Length])
		}
		if got := all(t, open(t, tor, moved)); !bytes.Equal(got, want) {
			t.Errorf("raw %v: the pieces are not the files", raw)
		}
	}
}

// A piece that was mended is claimed again though nobody asks for it, and one that was not is not read again and again.
func TestRecheck(t *testing.T) {
	folder, tor, _ := share(t)
	path := filepath.Join(folder, "a.bin")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, tor, folder)
		if _, err := s.Verify(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Recheck(ctx)
		tick := 0
		touch := func() { // however coarse the clock of the file system is
			t.Helper()
			tick++
			if err := os.Chtimes(path, time.Time{}, time.Unix(int64(tick), 0)); err != nil {
				t.Fatal(err)
			}
		}
		good := func(want int, err string) {
			t.Helper()
			time.Sleep(pause + time.Second)
			synctest.Wait()
			if s.Good() != want {
				t.Errorf("%d pieces are right, want %d", s.Good(), want)
			}
			if got := s.Fault(); got == nil && err != "" || got != nil && (err == "" || !strings.Contains(got.Error(), err)) {
				t.Errorf("fault %v, want %q", got, err)
			}
		}
		looked := func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.wrong[0].at
		}
		all := tor.NumPieces()
		good(all, "")
		damage(t, path, 5)
		touch()
		s.AppendBlock(nil, 0, 0, 1)
		good(all-1, "a.bin differs from the torrent")
		at := looked()
		good(all-1, "a.bin differs from the torrent")
		if looked() != at {
			t.Error("it is read again though nothing has changed")
		}
		damage(t, path, 5)
		touch()
		good(all, "")

		if err := os.Rename(path, path+".gone"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * idleFor) // what is open is still there
		s.AppendBlock(nil, 0, 0, 1)
		good(all-1, "a.bin: no such file")
		if err := os.Rename(path+".gone", path); err != nil {
			t.Fatal(err)
		}
		good(all, "")

		last := all - 1 // of several files
		damage(t, filepath.Join(folder, "z.bin"), 5)
		s.AppendBlock(nil, last, 0, 1)
		good(all-1, "z.bin differs from the torrent")
		if err := os.Truncate(filepath.Join(folder, "z.bin"), 7); err != nil {
			t.Fatal(err)
		}
		good(all-1, "z.bin has 7 bytes, not the 100 of the torrent")
	})
}

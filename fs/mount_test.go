package fs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// library is a torrent with what is unusual about torrents.
func library() metainfo.Torrent {
	t := layout(7, "library",
		metainfo.File{Path: "library/a/b/c/deep", Length: 100_000},
		metainfo.File{Path: "library/.pad/1", Length: 5000, Padding: true},
		metainfo.File{Path: "library/empty", Length: 0},
		metainfo.File{Path: "library/a/run", Length: 77, Executable: true},
		metainfo.File{Path: "library/ünïcode ☃", Length: 1},
		metainfo.File{Path: "library/.hidden", Length: 4096},
		metainfo.File{Path: "library/a/film", Length: 3<<20 + 12345},
	)
	t.Created = time.Date(2011, 2, 3, 4, 5, 6, 0, time.UTC)
	return t
}

func TestTreeIsReadByteForByte(t *testing.T) {
	lib, film := library(), single(9, "film.mkv", 5<<20+1)
	s := startServer(t, serverOptions{ReadAhead: 64 << 20}, 0, lib, film)
	check := func(tor metainfo.Torrent) map[string]bool {
		seen := map[string]bool{}
		for _, f := range tor.Files {
			if f.Padding {
				continue
			}
			seen[f.Path] = true
			got, err := os.ReadFile(s.path(f.Path))
			if err != nil {
				t.Error(err)
			} else if !bytes.Equal(got, want(&tor, f, 0, f.Length)) {
				t.Errorf("%s differs", f.Path)
			}
		}
		return seen
	}
	seen := check(lib)
	for path := range check(film) {
		seen[path] = true
	}
	err := filepath.WalkDir(s.dir, func(path string, d iofs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if rel, _ := filepath.Rel(s.dir, path); !seen[rel] {
				t.Errorf("%s is shown", rel)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	s.ask("unmount")
}

func TestMetadata(t *testing.T) {
	lib, film := library(), single(9, "film.mkv", 5<<20+1)
	before := time.Now().Truncate(time.Second)
	s := startServer(t, serverOptions{FSName: "a,b name"}, 1, lib, film)
	for _, c := range []struct {
		path  string
		mode  os.FileMode
		size  int64
		links uint64
		mtime time.Time
	}{
		{"", os.ModeDir | 0o555, 0, 3, time.Time{}},
		{"library", os.ModeDir | 0o555, 0, 3, lib.Created},
		{"library/a", os.ModeDir | 0o555, 0, 3, lib.Created},
		{"library/a/b/c", os.ModeDir | 0o555, 0, 2, lib.Created},
		{"library/a/run", 0o555, 77, 1, lib.Created},
		{"library/a/film", 0o444, 3<<20 + 12345, 1, lib.Created},
		{"library/empty", 0o444, 0, 1, lib.Created},
		{"film.mkv", 0o444, 5<<20 + 1, 1, time.Time{}},
	} {
		info, err := os.Lstat(s.path(c.path))
		if err != nil {
			t.Error(err)
			continue
		}
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode() != c.mode || info.Size() != c.size || st.Nlink != c.links {
			t.Errorf("%q: mode %v, size %d, links %d, want %+v", c.path, info.Mode(), info.Size(), st.Nlink, c)
		}
		if st.Blocks != (c.size+511)/512 || st.Uid != uint32(os.Getuid()) || st.Gid != uint32(os.Getgid()) {
			t.Errorf("%q: %+v", c.path, st)
		}
		if c.mtime.IsZero() {
			if info.ModTime().Before(before) || info.ModTime().After(time.Now()) {
				t.Errorf("%q: modified %v, want the time of the mount", c.path, info.ModTime())
			}
		} else if !info.ModTime().Equal(c.mtime) {
			t.Errorf("%q: modified %v, want %v", c.path, info.ModTime(), c.mtime)
		}
	}
	if entries, err := os.ReadDir(s.path("library")); err != nil || len(entries) != 4 ||
		!slices.IsSortedFunc(entries, func(a, b os.DirEntry) int { return bytes.Compare([]byte(a.Name()), []byte(b.Name())) }) {
		t.Errorf("library: %v, %v", entries, err)
	}
	if _, err := os.Lstat(s.path("library", "nothing")); !os.IsNotExist(err) {
		t.Errorf("a file that isn't there: %v", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		t.Error(err)
	}
	if total := lib.Length + film.Length; int64(fs.Blocks)*fs.Bsize-total >= fs.Bsize || fs.Bfree != 0 || fs.Bavail != 0 ||
		fs.Files != 7 || fs.Namelen != 255 || fs.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("statfs: %+v, %d bytes", fs, total)
	}
	if m, ok := mountedAt(s.dir); !ok || m.fsType != fsType {
		t.Errorf("in the table of mounts: %+v", m)
	}
	if r := s.ask("unmount"); r.Reads != 0 || r.Aheads != 0 {
		t.Errorf("metadata cost %d reads and %d hints", r.Reads, r.Aheads)
	}
}

func TestInodesAreTheSameInEveryMount(t *testing.T) {
	numbers := func(torrents ...metainfo.Torrent) map[string]uint64 {
		s := startServer(t, serverOptions{}, 0, torrents...)
		defer s.stop()
		n := map[string]uint64{}
		err := filepath.WalkDir(s.dir, func(path string, d iofs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(s.dir, path)
			n[rel] = info.Sys().(*syscall.Stat_t).Ino
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a := numbers(library(), single(9, "film.mkv", 5))
	b := numbers(single(8, "other", 1), single(9, "film.mkv", 5), library())
	unique := map[uint64]string{}
	for path, n := range a {
		if b[path] != n {
			t.Errorf("%q is %d here and %d there", path, n, b[path])
		}
		if other, ok := unique[n]; ok {
			t.Errorf("%q and %q have the same number", path, other)
		}
		unique[n] = path
	}
}

func TestRandomReads(t *testing.T) {
	const size = int64(5)<<30 + 4321 // beyond 32 bits
	tor := layout(3, "big", metainfo.File{Path: "big/before", Length: 12345}, metainfo.File{Path: "big/file", Length: size})
	s := startServer(t, serverOptions{ReadAhead: 64 << 20}, 0, tor)
	f, err := os.Open(s.path("big", "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file := tor.Files[1]
	read := func(off, n int64) {
		t.Helper()
		p := make([]byte, n)
		got, err := f.ReadAt(p, off)
		if err != nil && err != io.EOF {
			t.Fatalf("read %d at %d: %v", n, off, err)
		}
		if !bytes.Equal(p[:got], want(&tor, file, off, n)) {
			t.Fatalf("read %d at %d: %d bytes, and not the right ones", n, off, got)
		}
	}
	for _, border := range []int64{0, 1 << 20, 3 << 20, 4 << 30, size} {
		for _, d := range []int64{-1 << 17, -4097, -4096, -1, 0, 1, 4095} {
			for _, n := range []int64{1, 4096, 1<<17 + 1, 1 << 20} {
				if border+d >= 0 {
					read(border+d, n)
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		read(rng.Int64N(size), 1+rng.Int64N(300_000))
	}
}

func TestDirectReadsAreCutAtTheEnd(t *testing.T) {
	tor := single(3, "file", 300_001)
	s := startServer(t, serverOptions{}, 0, tor)
	fd, err := unix.Open(s.path("file"), unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, c := range []struct{ off, n, want int64 }{
		{0, 131072, 131072}, {299_999, 4096, 2}, {300_001, 10, 0}, {400_000, 10, 0}, {0, 400_000, 300_001}, {1, 3, 3},
	} {
		p := make([]byte, c.n)
		n, err := unix.Pread(fd, p, c.off)
		if err != nil || int64(n) != c.want || !bytes.Equal(p[:n], want(&tor, tor.Files[0], c.off, c.n)) {
			t.Errorf("%+v: %d, %v", c, n, err)
		}
	}
}

func TestMmap(t *testing.T) {
	tor := single(3, "file", 4<<20+77)
	s := startServer(t, serverOptions{ReadAhead: 64 << 20}, 0, tor)
	f, err := os.Open(s.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	for _, flags := range []int{unix.MAP_SHARED, unix.MAP_PRIVATE} {
		p, err := unix.Mmap(int(f.Fd()), 0, 4<<20+77, unix.PROT_READ, flags)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, want(&tor, tor.Files[0], 0, tor.Length)) {
			t.Error("the mapping differs")
		}
		if err := unix.Munmap(p); err != nil {
			t.Error(err)
		}
	}
	f.Close()
}

// A mapping reads on after its descriptor is closed.
func TestMmapOutlivesTheDescriptor(t *testing.T) {
	tor := single(3, "file", 64<<20)
	s := startServer(t, serverOptions{ReadAhead: 8 << 20}, 0, tor)
	f, err := os.Open(s.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := unix.Mmap(int(f.Fd()), 0, 64<<20, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if !bytes.Equal(p, want(&tor, tor.Files[0], 0, tor.Length)) {
		t.Error("the mapping differs")
	}
	if err := unix.Munmap(p); err != nil {
		t.Error(err)
	}
	s.until("released", func(r reply) bool { return len(r.Ahead) == 0 })
}

func TestManyReadersAtOnce(t *testing.T) {
	tor := single(3, "file", 32<<20+5)
	s := startServer(t, serverOptions{ReadAhead: 16 << 20}, 0, tor)
	sum := sha256.Sum256(want(&tor, tor.Files[0], 0, tor.Length))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			f, err := os.Open(s.path("file"))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil || [32]byte(h.Sum(nil)) != sum {
				t.Errorf("differs, or %v", err)
			}
		})
	}
	wg.Wait()
	s.until("all windows withdrawn", func(r reply) bool { return len(r.Ahead) == 0 })
}

// The kernel keeps what it read, also for those who open the file later.
func TestPagesAreKeptFromOpenToOpen(t *testing.T) {
	tor := single(3, "file", 8<<20)
	s := startServer(t, serverOptions{}, 0, tor)
	for range 2 {
		if _, err := os.ReadFile(s.path("file")); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.ask("stats"); int64(r.Reads) > tor.Length/(128<<10)+8 {
		t.Errorf("%d reads of 128 KiB or so for 8 MiB read twice", r.Reads)
	}
}

func TestListingOfManyFiles(t *testing.T) {
	var files []metainfo.File
	for i := range 20_000 {
		files = append(files, metainfo.File{Path: fmt.Sprintf("many/flat/%05d.txt", i), Length: int64(i)})
	}
	for i := range 5_000 {
		files = append(files, metainfo.File{Path: fmt.Sprintf("many/nested/%d/%d/%d/f", i%10, i%100, i), Length: 1})
	}
	s := startServer(t, serverOptions{}, 1, layout(5, "many", files...))
	for range 2 {
		entries, err := os.ReadDir(s.path("many", "flat"))
		if err != nil || len(entries) != 20_000 || entries[17].Name() != "00017.txt" {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
	}
	if info, err := os.Stat(s.path("many", "flat", "12345.txt")); err != nil || info.Size() != 12345 {
		t.Errorf("%v, %v", info, err)
	}
	n := 0
	if err := filepath.WalkDir(s.path("many", "nested"), func(_ string, d iofs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}); err != nil || n != 5_000 {
		t.Errorf("%d files in nested directories, %v", n, err)
	}
	if r := s.ask("unmount"); r.Reads != 0 {
		t.Errorf("listing cost %d reads", r.Reads)
	}
}

func TestNamesThatClashGetNumbers(t *testing.T) {
	dirs := layout(4, "film.mkv", metainfo.File{Path: "film.mkv/x", Length: 4})
	s := startServer(t, serverOptions{}, 0, single(1, "film.mkv", 1), single(2, "film.mkv", 2), single(3, "film.mkv", 3), dirs)
	for name, size := range map[string]int64{"film.mkv": 1, "film (2).mkv": 2, "film (3).mkv": 3, "film.mkv (2)/x": 4} {
		if info, err := os.Stat(s.path(name)); err != nil || info.Size() != size {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	s.tell(`add {"Name": "again", "InfoHash": [1], "Files": [{"Path": "again"}]}`)
	if r := s.receive(); r.Error == "" {
		t.Error("the same torrent twice is no error")
	}
}

func TestTorrentsAppearLater(t *testing.T) {
	s := startServer(t, serverOptions{}, 0)
	if _, err := os.Stat(s.path("late")); !os.IsNotExist(err) {
		t.Errorf("before it is there: %v", err)
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	s.ask(`add {"Name": "late", "InfoHash": [1], "Length": 5, "PieceLength": 16384, "Files": [{"Path": "late", "Length": 5}]}`)
	if info, err := os.Stat(s.path("late")); err != nil || info.Size() != 5 {
		t.Errorf("%v, %v", info, err)
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestNotice(t *testing.T) {
	s := startServer(t, serverOptions{}, 0, single(1, "STATUS.txt", 1))
	for _, text := range []string{"no peers yet", "peers: 12, and more of them are coming", "x"} {
		s.ask("notice STATUS.txt %s", text)
		got, err := os.ReadFile(s.path("STATUS (2).txt"))
		if err != nil || string(got) != text {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
		if info, err := os.Stat(s.path("STATUS (2).txt")); err != nil || info.Size() != int64(len(text)) || info.Mode() != 0o444 {
			t.Errorf("%v, %v", info, err)
		}
	}
	s.ask("notice STATUS.txt")
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

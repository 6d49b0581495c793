package cache

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// logs collects what a cache says.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// settle has everything written that waits to be.
func settle(c *Cache) {
	c.disk.do(func() {
		for c.disk.writeNext() {
		}
	})
}

// load loads piece n and says whether it was there; its bytes have to be right.
func load(t testing.TB, v *Torrent, n int) bool {
	t.Helper()
	data, release, ok := v.Load(n)
	if !ok {
		return false
	}
	defer release()
	want := make([]byte, v.s.size(n))
	content(want, v.s.spec.InfoHash[0], n)
	if !bytes.Equal(data, want) {
		t.Errorf("piece %d has wrong bytes", n)
	}
	return true
}

// usage returns the bytes that the files of dir take on disk.
func usage(t testing.TB, dir string) (n int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if st, err := f.Info(); err == nil {
			n += onDisk(st)
		}
	}
	return n
}

// fill makes a cache in dir that holds all pieces of spec on disk, and closes it.
func fill(t testing.TB, dir string, spec Spec) {
	t.Helper()
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	for n := range spec.Hashes {
		put(v, n)
		settle(c)
	}
	c.Close()
}

func TestRestart(t *testing.T) {
	for _, tc := range []struct {
		name                string
		pieceLength, length int64
	}{
		{"aligned", 16 << 10, 40 * 16 << 10},
		{"short last piece", 16 << 10, 40*16<<10 - 5000},
		{"odd pieces", 10_001, 40 * 10_001},
		{"tiny pieces", 16, 40 * 16},
		{"one piece", 1 << 20, 77},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "made", "by", "us")
			spec := testSpec(1, tc.pieceLength, tc.length)
			fill(t, dir, spec)

			c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30})
			v := open(t, c, spec)
			for n := range spec.Hashes {
				if !v.Has(n) || !load(t, v, n) {
					t.Errorf("piece %d is gone", n)
				}
			}
			if s := c.Stats(); s.DiskHits != int64(len(spec.Hashes)) || s.Wrong != 0 || s.Disk != usage(t, dir) {
				t.Errorf("%+v; usage %d", s, usage(t, dir))
			}
			data, err := os.ReadFile(Dir(dir).path(spec.InfoHash, ".data"))
			if err != nil {
				t.Fatal(err)
			}
			var want []byte
			for n := range spec.Hashes {
				b := make([]byte, spec.pieceSize(n))
				content(b, 1, n)
				want = append(want, b...)
			}
			if !bytes.Equal(data, want) {
				t.Error("the data file of a complete torrent is not the torrent")
			}
		})
	}
}

func TestUnwrittenIsWrittenAtClose(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 16<<10, 40*16<<10)
	c := newCache(t, Config{Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	for n := range spec.Hashes {
		put(v, n)
	}
	v.Close()
	c.Close()
	v = open(t, newCache(t, Config{Dir: dir, DiskSize: 1 << 30}), spec)
	for n := range spec.Hashes {
		if !load(t, v, n) {
			t.Errorf("piece %d is gone", n)
		}
	}
}

func TestEmptyTorrentLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, Config{Dir: dir, DiskSize: 1 << 30})
	open(t, c, testSpec(1, 16<<10, 1<<20)).Close()
	c.Close()
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left %v", files)
	}
}

// TestDamage: whatever happens to the files, wrong bytes are not served, and what is not there can be stored again.
func TestDamage(t *testing.T) {
	const pieces = 40
	spec := testSpec(1, 16<<10, pieces*16<<10)
	other := testSpec(2, 16<<10, pieces*16<<10)
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, data, index string)
		gone   []int // pieces that have to be fetched again; nil means all
		wrong  bool  // counted as damaged
		memory bool  // the disk can't be used, and says so
	}{
		{"a flipped bit", func(t *testing.T, data, _ string) {
			f, err := os.OpenFile(data, os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			b := make([]byte, 1)
			_, err = f.ReadAt(b, 5*16<<10+100)
			must(t, err)
			b[0] ^= 4
			_, err = f.WriteAt(b, 5*16<<10+100)
			must(t, err)
		}, []int{5}, true, false},
		{"truncated data", func(t *testing.T, data, _ string) {
			must(t, os.Truncate(data, 38*16<<10+1))
		}, []int{38, 39}, true, false},
		{"zeroed data", func(t *testing.T, data, _ string) {
			must(t, os.WriteFile(data, make([]byte, spec.Length), 0o600))
		}, nil, true, false},
		{"longer data", func(t *testing.T, data, _ string) {
			must(t, os.Truncate(data, spec.Length+1<<20))
		}, []int{}, false, false},
		{"deleted data", func(t *testing.T, data, _ string) {
			must(t, os.Remove(data))
		}, nil, true, false},
		{"deleted index", func(t *testing.T, _, index string) {
			must(t, os.Remove(index))
		}, nil, false, false},
		{"both deleted", func(t *testing.T, data, index string) {
			must(t, os.Remove(data))
			must(t, os.Remove(index))
		}, nil, false, false},
		{"truncated index", func(t *testing.T, _, index string) {
			must(t, os.Truncate(index, headerSize+4*30))
		}, []int{30, 31, 32, 33, 34, 35, 36, 37, 38, 39}, false, false},
		{"index cut in its header", func(t *testing.T, _, index string) {
			must(t, os.Truncate(index, 100))
		}, nil, false, false},
		{"zeroed index", func(t *testing.T, _, index string) {
			must(t, os.WriteFile(index, make([]byte, headerSize+4*pieces), 0o600))
		}, nil, false, false},
		{"a foreign file as index", func(t *testing.T, _, index string) {
			must(t, os.WriteFile(index, bytes.Repeat([]byte("holiday photos "), 999), 0o600))
		}, nil, false, false},
		{"a foreign file as data", func(t *testing.T, data, _ string) {
			must(t, os.WriteFile(data, bytes.Repeat([]byte("holiday photos "), 999), 0o600))
		}, nil, true, false},
		{"the index of another torrent", func(t *testing.T, _, index string) {
			o := filepath.Join(t.TempDir(), "other")
			fill(t, o, other)
			must(t, os.Rename(Dir(o).path(other.InfoHash, ".index"), index))
		}, nil, false, false},
		{"data of another generation", func(t *testing.T, data, _ string) {
			o := filepath.Join(t.TempDir(), "other")
			fill(t, o, other)
			must(t, os.Rename(Dir(o).path(other.InfoHash, ".data"), data))
		}, nil, true, false},
		{"an index of the future", func(t *testing.T, _, index string) {
			f, err := os.OpenFile(index, os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			must(t, writeStamps(f, 0, pieces, now()+1e8))
		}, []int{}, false, false},
		{"a directory as data", func(t *testing.T, data, _ string) {
			must(t, os.Remove(data))
			must(t, os.MkdirAll(filepath.Join(data, "x"), 0o700))
		}, nil, false, true},
		{"a directory as index", func(t *testing.T, _, index string) {
			must(t, os.Remove(index))
			must(t, os.MkdirAll(filepath.Join(index, "x"), 0o700))
		}, nil, false, true},
		{"a link as data", func(t *testing.T, data, _ string) {
			must(t, os.Rename(data, data+".moved"))
			must(t, os.Symlink(data+".moved", data))
		}, nil, false, true},
	} {
		for _, when := range []string{"between mounts", "while mounted"} {
			if when == "while mounted" && strings.HasPrefix(tc.name, "an index of the future") {
				continue
			}
			t.Run(tc.name+" "+when, func(t *testing.T) {
				dir := t.TempDir()
				fill(t, dir, spec)
				said := new(logs)
				c := newCache(t, Config{Memory: 20 * 16 << 10, Dir: dir, DiskSize: 1 << 30, Logger: said.logger()})
				var mu sync.Mutex // pieces ahead are loaded, and lost, on other goroutines
				lost := map[int]bool{}
				spec := spec
				spec.Evicted = func(n int) {
					mu.Lock()
					defer mu.Unlock()
					lost[n] = true
				}
				damage := func() { tc.damage(t, Dir(dir).path(spec.InfoHash, ".data"), Dir(dir).path(spec.InfoHash, ".index")) }
				if when == "between mounts" {
					damage()
				}
				v := open(t, c, spec)
				if when == "while mounted" {
					damage()
					c.disk.do(c.disk.upkeep)
				}
				gone := map[int]bool{}
				for n := range pieces {
					if !load(t, v, n) {
						gone[n] = true
						if v.Has(n) {
							t.Errorf("piece %d is still claimed", n)
						}
					}
				}
				v.s.ahead.ended.Wait() // what is loaded ahead may be lost, too
				want := map[int]bool{}
				for _, n := range tc.gone {
					want[n] = true
				}
				for n := range pieces {
					if tc.gone == nil {
						want[n] = true
					}
					if gone[n] != want[n] {
						t.Errorf("piece %d: gone is %v", n, gone[n])
					}
					if when == "while mounted" && gone[n] != lost[n] {
						t.Errorf("piece %d: gone is %v, told is %v", n, gone[n], lost[n])
					}
				}
				s := c.Stats()
				if when == "between mounts" && tc.wrong != (s.Wrong > 0) {
					t.Errorf("%+v", s)
				}
				// Twice over, since memory holds a part only.
				for range 2 {
					for n := range pieces {
						if !load(t, v, n) {
							put(v, n)
							settle(c)
						}
					}
				}
				back := 0
				for n := range pieces {
					if load(t, v, n) {
						back++
					}
				}
				if tc.memory {
					if back == pieces || said.count("level=WARN") != 1 {
						t.Errorf("%d pieces back; said: %s", back, said.buf.String())
					}
				} else if warned := said.count("level=WARN"); back != pieces || warned > 1 || tc.wrong && when == "between mounts" && warned != 1 {
					t.Errorf("%d pieces back; said: %s", back, said.buf.String())
				}
				c.Close()
				c.mem.verify(t)
			})
		}
	}
}

func TestDiskLimit(t *testing.T) {
	const limit = 4 << 20
	dir := t.TempDir()
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: limit})
	lost := map[int]bool{}
	spec := testSpec(1, 64<<10, 16<<20)
	spec.Evicted = func(n int) { lost[n] = true }
	v := open(t, c, spec)
	most := int64(0)
	for n := range spec.Hashes {
		put(v, n)
		settle(c)
		most = max(most, usage(t, dir))
	}
	if most > limit || most < limit*3/4 {
		t.Errorf("took up to %d bytes of %d", most, limit)
	}
	has := 0
	for n := range spec.Hashes {
		if v.Has(n) == lost[n] {
			t.Errorf("piece %d: present is %v, lost is %v", n, v.Has(n), lost[n])
		}
		if load(t, v, n) {
			has++
		}
	}
	if has < 48 || has > 80 {
		t.Errorf("%d pieces present", has)
	}
	if s := c.Stats(); s.Wrong != 0 || s.Disk != usage(t, dir) {
		t.Errorf("%+v, usage %d", s, usage(t, dir))
	}
}

// age makes the pieces of a torrent that nobody has open look as if last used ago seconds before, except one.
func age(t testing.TB, dir string, spec Spec, ago uint32, except int) {
	t.Helper()
	v, err := Dir(dir).openExisting(spec.InfoHash)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	for n := range v.stamps {
		if v.has(n) && n != except {
			if err := writeStamps(v.index, n, 1, v.stamps[n].Load()-ago); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestEvictionAcrossTorrents(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, Config{Memory: 256 << 10, Dir: dir, DiskSize: 3 << 20})
	old, idle, live := testSpec(1, 64<<10, 1<<20), testSpec(2, 64<<10, 1<<20), testSpec(3, 64<<10, 4<<20)
	for i, spec := range []Spec{old, idle} {
		v := open(t, c, spec)
		for n := range spec.Hashes {
			put(v, n)
			settle(c)
		}
		v.Close()
		age(t, dir, spec, 1000*uint32(3-i), 7-100*i) // a piece of the oldest torrent was used lately
	}
	v := open(t, c, live)
	present := func(spec Spec) (n int) {
		list, err := Dir(dir).List()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.InfoHash == spec.InfoHash {
				return int(e.Present / spec.PieceLength)
			}
		}
		return 0
	}
	for n := range 30 {
		put(v, n)
		settle(c)
		if present(idle) < 16 && present(old) > 1 {
			t.Fatalf("evicted from the younger torrent while the older had %d pieces", present(old))
		}
	}
	if got := present(old); got != 1 {
		t.Errorf("the oldest torrent has %d pieces, want the one used lately", got)
	}
	for n := 30; n < 64; n++ {
		put(v, n)
		settle(c)
	}
	if present(idle) != 0 || usage(t, dir) > 3<<20 {
		t.Errorf("idle torrent has %d pieces, usage %d", present(idle), usage(t, dir))
	}
	if _, err := os.Stat(Dir(dir).path(idle.InfoHash, ".index")); err == nil {
		t.Error("an empty torrent's files stay")
	}
	for n := range 64 {
		load(t, v, n)
	}
	if s := c.Stats(); s.Wrong != 0 {
		t.Errorf("%+v", s)
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	said := new(logs)
	c := newCache(t, Config{Memory: 256 << 10, Dir: dir, DiskSize: 2 << 20, Logger: said.logger()})
	kept, other := testSpec(1, 64<<10, 1<<20), testSpec(2, 64<<10, 4<<20)
	v := open(t, c, kept)
	if err := v.Keep(true); err != nil {
		t.Fatal(err)
	}
	for n := range kept.Hashes {
		put(v, n)
		settle(c)
	}
	v.Close()
	w := open(t, c, other)
	if err := w.Keep(true); err == nil {
		t.Error("could keep a torrent that never fits")
	}
	for n := range other.Hashes {
		put(w, n)
		settle(c)
	}
	v = open(t, c, kept)
	for n := range kept.Hashes {
		if !load(t, v, n) {
			t.Errorf("kept piece %d is gone", n)
		}
	}
	list, err := Dir(dir).List()
	if err != nil || len(list) != 2 || !list[0].Kept || list[1].Kept {
		t.Errorf("%+v, %v", list, err)
	}
	if s := c.Stats(); s.Disk > s.DiskLimit || said.count("WARN") != 0 {
		t.Errorf("%+v, said %s", s, said.buf.String())
	}
	if err := v.Keep(false); err != nil {
		t.Fatal(err)
	}
	if list, _ = Dir(dir).List(); list[0].Kept {
		t.Error("still kept")
	}
}

func TestEverythingKept(t *testing.T) {
	dir := t.TempDir()
	said := new(logs)
	c := newCache(t, Config{Memory: 256 << 10, Dir: dir, DiskSize: 1<<20 + 50<<10, Logger: said.logger()})
	kept, other := testSpec(1, 64<<10, 1<<20), testSpec(2, 64<<10, 1<<20)
	v, w := open(t, c, kept), open(t, c, other)
	if err := v.Keep(true); err != nil {
		t.Fatal(err)
	}
	for n := range kept.Hashes {
		put(v, n)
		settle(c)
	}
	for n := range other.Hashes {
		put(w, n)
		settle(c)
		c.disk.do(func() { c.disk.retryAt = c.disk.ticked })
	}
	if s := c.Stats(); said.count("WARN") != 1 || s.DiskProblem == "" || s.Disk > s.DiskLimit {
		t.Errorf("%+v, said %s", s, said.buf.String())
	}
	if !w.Has(15) {
		t.Error("memory does not work")
	}
	if err := v.Keep(false); err != nil {
		t.Fatal(err)
	}
	c.disk.do(func() { c.disk.retryAt = c.disk.ticked })
	settle(c)
	if s := c.Stats(); s.DiskProblem != "" || said.count("works again") != 1 {
		t.Errorf("%+v, said %s", s, said.buf.String())
	}
}

func TestConcurrentLoads(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 64<<10, 2<<20)
	fill(t, dir, spec)
	c := newCache(t, Config{Memory: 64 << 20, Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range spec.Hashes {
				if !load(t, v, n) {
					t.Errorf("piece %d is gone", n)
				}
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.DiskHits != int64(len(spec.Hashes)) {
		t.Errorf("read %d pieces of %d from disk", s.DiskHits, len(spec.Hashes))
	}
}

// TestReclaim: bytes that no index claims, as a crash or a damaged index leaves them, are freed.
func TestReclaim(t *testing.T) {
	for _, pieceLength := range []int64{64 << 10, 100_000, 3000} {
		dir := t.TempDir()
		spec := testSpec(1, pieceLength, 100*pieceLength)
		fill(t, dir, spec)
		for len(spec.Hashes)*int(pieceLength) < 4<<20 { // enough to be worth the trouble
			spec = testSpec(1, pieceLength, 2*spec.Length)
			fill(t, dir, spec)
		}
		v, err := Dir(dir).openExisting(spec.InfoHash)
		if err != nil {
			t.Fatal(err)
		}
		claimed := int64(0)
		for n := range v.stamps {
			if n%7 == 0 {
				claimed += pieceLength
				continue
			}
			if err := writeStamps(v.index, n, 1, absent); err != nil {
				t.Fatal(err)
			}
		}
		v.close()
		w := open(t, newCache(t, Config{Dir: dir, DiskSize: 1 << 30}), spec)
		blocks := claimed + int64(len(spec.Hashes)/7+1)*2*blockSize + 64<<10
		if u := usage(t, dir); u > blocks {
			t.Errorf("pieces of %d: %d bytes claimed, %d taken", pieceLength, claimed, u)
		}
		for n := range spec.Hashes {
			if load(t, w, n) != (n%7 == 0) {
				t.Errorf("piece %d of %d", n, pieceLength)
			}
		}
	}
}

// TestNoHoles: on a file system that can't punch holes, whole torrents go, but none that is in use.
func TestNoHoles(t *testing.T) {
	dir := t.TempDir()
	old, live := testSpec(1, 64<<10, 1<<20), testSpec(2, 64<<10, 4<<20)
	fill(t, dir, old)
	said := new(logs)
	c := newCache(t, Config{Memory: 256 << 10, Dir: dir, DiskSize: 2 << 20, Logger: said.logger()})
	v := open(t, c, live)
	c.disk.do(func() { c.disk.noHoles = true })
	for n := range live.Hashes {
		put(v, n)
		settle(c)
	}
	if _, err := os.Stat(Dir(dir).path(old.InfoHash, ".data")); err == nil {
		t.Error("the torrent that nobody uses is still there")
	}
	has := 0
	for n := range live.Hashes {
		if load(t, v, n) {
			has++
		}
	}
	if s := c.Stats(); has < 25 || s.Disk > s.DiskLimit || said.count("WARN") != 1 || s.Wrong != 0 {
		t.Errorf("%d pieces, %+v, said %s", has, s, said.buf.String())
	}
}

// TestLargePieces are written past the page cache where that can be; the last one, which is odd, beside them, is not.
func TestLargePieces(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 512<<10, 5<<20+12345)
	c := newCache(t, Config{Memory: 2 << 20, Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	for range 2 { // with and without
		for n := range spec.Hashes {
			put(v, n)
			settle(c)
		}
		for n := range spec.Hashes {
			if !load(t, v, n) {
				t.Errorf("piece %d is gone", n)
			}
		}
		c.disk.do(func() {
			if vol := v.s.vol.Load(); vol.direct != nil {
				vol.direct.Close()
				vol.direct = nil
			}
			_ = c.disk.evictFrom(v.s, v.s.vol.Load(), ^uint32(0), spec.Length)
		})
	}
	if s := c.Stats(); s.Wrong != 0 || s.Written < spec.Length {
		t.Errorf("%+v", s)
	}
}

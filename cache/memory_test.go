package cache

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	runChild()
	goleak.VerifyTestMain(m)
}

// content fills buf with the bytes that piece n of torrent id has in these tests.
func content(buf []byte, id byte, n int) {
	var seed [32]byte
	seed[0] = id
	binary.LittleEndian.PutUint64(seed[8:], uint64(n))
	rand.NewChaCha8(seed).Read(buf)
}

// testSpec describes a torrent of random bytes that content knows.
func testSpec(id byte, pieceLength, length int64) Spec {
	s := Spec{InfoHash: [20]byte{0: id, 19: 1}, Name: fmt.Sprintf("torrent %d", id), PieceLength: pieceLength, Length: length}
	for n := 0; int64(n)*pieceLength < length; n++ {
		buf := make([]byte, s.pieceSize(n))
		content(buf, id, n)
		s.Hashes = append(s.Hashes, sha1.Sum(buf))
	}
	return s
}

// blankSpec is testSpec without hashes, for tests that never read a disk.
func blankSpec(id byte, pieceLength int64, pieces int) Spec {
	return Spec{InfoHash: [20]byte{0: id, 19: 1}, PieceLength: pieceLength, Length: pieceLength * int64(pieces), Hashes: make([][20]byte, pieces)}
}

func newCache(t testing.TB, cfg Config) *Cache {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func open(t testing.TB, c *Cache, s Spec) *Torrent {
	t.Helper()
	v, err := c.Torrent(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// put adds piece n, as after a download.
func put(v *Torrent, n int) {
	buf := v.Alloc(n)
	content(buf, v.s.spec.InfoHash[0], n)
	v.Add(n, buf)()
}

// read gets piece n, as a reader does, and says whether it was there.
func read(v *Torrent, n int) bool {
	_, release, ok := v.Get(n)
	if ok {
		release()
	}
	return ok
}

// verify recounts what memory counts as it goes.
func (m *memory) verify(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var listed int64
	for _, s := range []*segment{&m.probation, &m.protected} {
		var n int64
		for _, p := range s.list.Values() {
			n += int64(len(p.buf))
			if p.seg != s {
				t.Errorf("piece %d thinks it is in another segment", p.n)
			}
		}
		if n != s.bytes {
			t.Errorf("segment counts %d bytes, has %d", s.bytes, n)
		}
		listed += n
	}
	var flying, spare int64
	for _, n := range m.inFlight {
		flying += int64(n)
	}
	for _, bufs := range m.spare.bySize {
		for _, b := range bufs {
			spare += int64(len(b))
		}
	}
	if flying != m.flying || spare != m.spare.bytes || listed > m.cached {
		t.Errorf("in flight %d, counted %d; spare %d, counted %d; cached %d, counted %d", flying, m.flying, spare, m.spare.bytes, listed, m.cached)
	}
	if m.total() > m.limit && m.overruns == 0 {
		t.Errorf("%d bytes of %d without an overrun", m.total(), m.limit)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{Memory: -1}, {DiskSize: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%+v) succeeded", cfg)
		}
	}
	c := newCache(t, Config{})
	if got := c.Stats().MemoryLimit; got != DefaultMemory {
		t.Errorf("limit %d, want %d", got, DefaultMemory)
	}
}

func TestSpec(t *testing.T) {
	hashes := func(n int) [][20]byte { return make([][20]byte, n) }
	for _, tc := range []struct {
		name string
		spec Spec
		ok   bool
	}{
		{"whole pieces", Spec{PieceLength: 4, Length: 8, Hashes: hashes(2)}, true},
		{"short last piece", Spec{PieceLength: 4, Length: 9, Hashes: hashes(3)}, true},
		{"empty", Spec{PieceLength: 4}, true},
		{"missing hash", Spec{PieceLength: 4, Length: 9, Hashes: hashes(2)}, false},
		{"no piece length", Spec{Length: 9}, false},
		{"negative length", Spec{PieceLength: 4, Length: -1}, false},
		{"near overflow", Spec{PieceLength: 4, Length: 1<<63 - 1}, false},
		{"huge pieces", Spec{PieceLength: 1 << 40, Length: 1, Hashes: hashes(1)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCache(t, Config{})
			_, err := c.Torrent(tc.spec)
			if (err == nil) != tc.ok {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestOutOfRange(t *testing.T) {
	v := open(t, newCache(t, Config{}), blankSpec(1, 4, 2))
	for _, n := range []int{-1, 2, 1 << 40} {
		if read(v, n) || v.Has(n) {
			t.Errorf("piece %d is present", n)
		}
	}
}

func TestViewsShare(t *testing.T) {
	c := newCache(t, Config{})
	a, b := open(t, c, blankSpec(1, 4, 2)), open(t, c, blankSpec(1, 4, 2))
	other := blankSpec(1, 4, 2)
	other.Hashes[0][0] = 1
	if _, err := c.Torrent(other); err == nil {
		t.Error("opened the same info-hash with other hashes")
	}
	put(a, 0)
	a.Close()
	a.Close()
	if !read(b, 0) {
		t.Error("closing one view took the pieces of the other")
	}
	b.Close()
	if v := open(t, c, blankSpec(1, 4, 2)); read(v, 0) {
		t.Error("a piece survived its torrent's last view")
	}
	c.Close()
	if _, err := c.Torrent(blankSpec(1, 4, 2)); err == nil {
		t.Error("opened a torrent in a closed cache")
	}
}

// The pins of this test and the next are no reader's, which would protect the piece from eviction besides.
func TestPinnedStays(t *testing.T) {
	c := newCache(t, Config{Memory: 4 * 16})
	v := open(t, c, blankSpec(1, 16, 100))
	put(v, 0)
	data, release, _ := v.s.load(0, false)
	want := string(data)
	for n := 1; n < 50; n++ {
		put(v, n)
		if !v.Has(0) || string(data) != want {
			t.Fatalf("the pinned piece changed after %d", n)
		}
	}
	release()
	for n := 50; n < 100; n++ {
		put(v, n)
	}
	if v.Has(0) {
		t.Error("the released piece was never evicted")
	}
	if s := c.Stats(); s.Overruns != 0 || s.Pinned != 0 {
		t.Errorf("%+v", s)
	}
	c.mem.verify(t)
}

func TestReleaseTwiceTakesNoOtherPin(t *testing.T) {
	c := newCache(t, Config{Memory: 64})
	v := open(t, c, blankSpec(1, 16, 100))
	put(v, 0)
	_, first, _ := v.s.load(0, false)
	first()
	data, second, _ := v.s.load(0, false)
	want := string(data)
	first()
	for n := 1; n < 20; n++ {
		put(v, n)
	}
	if string(data) != want || !v.Has(0) {
		t.Error("a second release took somebody else's pin")
	}
	second()
	second()
	c.mem.verify(t)
}

func TestAllocNeverFails(t *testing.T) {
	c := newCache(t, Config{Memory: 64})
	v := open(t, c, blankSpec(1, 16, 100))
	var bufs [][]byte
	for n := range 6 {
		bufs = append(bufs, v.Alloc(n))
	}
	if s := c.Stats(); s.Overruns != 2 || s.Memory != 96 || s.InFlight != 96 {
		t.Errorf("%+v", s)
	}
	var releases []func()
	for n, buf := range bufs {
		releases = append(releases, v.Add(n, buf))
	}
	if s := c.Stats(); s.Memory != 96 || s.Pinned != 96 {
		t.Errorf("%+v", s)
	}
	for _, release := range releases {
		release()
	}
	if s := c.Stats(); s.Memory != 64 || s.Pinned != 0 {
		t.Errorf("not back under the limit: %+v", s)
	}
	c.mem.verify(t)
}

func TestMisusePanics(t *testing.T) {
	c := newCache(t, Config{Memory: 64})
	v := open(t, c, blankSpec(1, 16, 100))
	for name, f := range map[string]func(){
		"free twice":            func() { b := v.Alloc(0); v.Free(0, b); v.Free(0, b) },
		"add twice":             func() { b := v.Alloc(0); v.Add(0, b); v.Add(1, b) },
		"free after add":        func() { b := v.Alloc(0); v.Add(0, b); v.Free(0, b) },
		"somebody else's":       func() { v.Free(0, make([]byte, 16)) },
		"part of a buffer":      func() { v.Add(0, v.Alloc(0)[1:]) },
		"no such piece":         func() { v.Alloc(100) },
		"a piece before the 0.": func() { v.Alloc(-1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			f()
		})
	}
}

func TestDuplicateAdd(t *testing.T) {
	c := newCache(t, Config{Memory: 64})
	v := open(t, c, blankSpec(1, 16, 100))
	a, b := v.Alloc(0), v.Alloc(0)
	content(a, 1, 0)
	content(b, 1, 0)
	v.Add(0, a)()
	release := v.Add(0, b)
	want := string(a)
	for n := 1; n < 20; n++ {
		put(v, n)
	}
	if string(b) != want {
		t.Error("the second copy changed before its release")
	}
	release()
	c.mem.verify(t)
	if s := c.Stats(); s.Memory > 64 {
		t.Errorf("%+v", s)
	}
}

func TestReadAfterTorrentClosed(t *testing.T) {
	c := newCache(t, Config{Memory: 64})
	v, w := open(t, c, blankSpec(1, 16, 100)), open(t, c, blankSpec(2, 16, 100))
	put(v, 0)
	data, release, _ := v.Get(0)
	want := string(data)
	late := v.Alloc(1)
	v.Close()
	for n := range 20 {
		put(w, n)
	}
	if string(data) != want {
		t.Error("a pinned piece changed when its torrent closed")
	}
	release()
	v.Add(1, late)()
	if v.Has(1) {
		t.Error("a closed torrent took a piece")
	}
	c.mem.verify(t)
	if s := c.Stats(); s.Memory > 64 {
		t.Errorf("%+v", s)
	}
}

func TestBuffersAreRecycled(t *testing.T) {
	c := newCache(t, Config{Memory: 8 << 20})
	v := open(t, c, blankSpec(1, 1<<20, 1<<20))
	n := 0
	next := func() {
		buf := v.Alloc(n)
		v.Add(n, buf)()
		n++
	}
	for range 16 {
		next()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		next()
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 1000; got > 4096 {
		t.Errorf("%d bytes of garbage for each piece of 1 MiB", got)
	}
}

func TestSparesGiveWay(t *testing.T) {
	c := newCache(t, Config{Memory: 1 << 20})
	small, large := open(t, c, blankSpec(1, 1<<10, 2000)), open(t, c, blankSpec(2, 1<<19, 10))
	var bufs [][]byte
	for n := range 1000 {
		bufs = append(bufs, small.Alloc(n))
	}
	for n, b := range bufs {
		small.Free(n, b)
	}
	if s := c.Stats(); s.Spare == 0 || s.Spare > 1<<17 {
		t.Errorf("spare bytes %d", s.Spare)
	}
	put(large, 0)
	put(large, 1)
	if s := c.Stats(); !large.Has(0) || !large.Has(1) || s.Spare != 0 || s.Overruns != 0 {
		t.Errorf("%+v", s)
	}
	c.mem.verify(t)
}

func TestEvictedIsTold(t *testing.T) {
	c := newCache(t, Config{Memory: 64})
	spec := blankSpec(1, 16, 100)
	gone := map[int]int{}
	spec.Evicted = func(n int) { gone[n]++ }
	v := open(t, c, spec)
	for n := range 20 {
		put(v, n)
	}
	for n := range 20 {
		want := 1
		if v.Has(n) {
			want = 0
		}
		if gone[n] != want {
			t.Errorf("piece %d: told %d times, want %d", n, gone[n], want)
		}
	}
}

// TestScanResistance plays access patterns against a cache of 64 pieces.
func TestScanResistance(t *testing.T) {
	const pieces = 10_000
	fetch := func(v *Torrent, n int) { // what a reader does, in eight reads
		if !read(v, n) {
			put(v, n)
		}
		for range 7 {
			read(v, n)
		}
	}
	for _, tc := range []struct {
		name string
		play func(v *Torrent)
		want []int
	}{
		{"head and tail, then the film", func(v *Torrent) {
			fetch(v, 0)
			fetch(v, pieces-1)
			fetch(v, 0)
			for n := 1; n < 5000; n++ {
				fetch(v, n)
			}
		}, []int{0, pieces - 1}},
		{"index in the middle, then two readers in turn", func(v *Torrent) {
			fetch(v, 7000)
			fetch(v, 7001)
			for n := range 2000 {
				fetch(v, n)
				fetch(v, 3000+n)
			}
		}, []int{7000, 7001}},
		{"a place come back to, in the middle of a run", func(v *Torrent) {
			for n := range 40 {
				fetch(v, n)
			}
			fetch(v, 20)
			for n := 40; n < 2000; n++ {
				fetch(v, n)
			}
		}, []int{20}},
		{"a scan with read-ahead, finished out of order", func(v *Torrent) {
			fetch(v, 9000)
			for n := 0; n < 2000; n += 4 {
				for _, k := range []int{2, 0, 3, 1} {
					put(v, n+16+k)
				}
				for k := range 4 {
					fetch(v, n+k)
				}
			}
		}, []int{0, 9000}},
		{"a background fetch in random order, and a scan beside it", func(v *Torrent) {
			fetch(v, 9000)
			fetch(v, 0)
			for i := range 2000 {
				put(v, 1000+i*3571%8000)
				fetch(v, 1+i%500)
			}
		}, []int{0, 9000}},
		{"uploads of everything, and a scan beside them", func(v *Torrent) {
			fetch(v, 9000)
			for n := range 2000 {
				put(v, 4000+n)
				_, _ = v.AppendBlock(nil, 4000+n, 0, 16)
				fetch(v, n)
			}
		}, []int{9000}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCache(t, Config{Memory: 64 * 16})
			v := open(t, c, blankSpec(1, 16, pieces))
			tc.play(v)
			for _, n := range tc.want {
				if !v.Has(n) {
					t.Errorf("piece %d is gone", n)
				}
			}
			c.mem.verify(t)
		})
	}
}

// TestReadAheadSurvives: what was fetched ahead must not be evicted by what was read already.
func TestReadAheadSurvives(t *testing.T) {
	c := newCache(t, Config{Memory: 64 * 16})
	v := open(t, c, blankSpec(1, 16, 10_000))
	const ahead = 30 // pieces, just under half the budget
	for n := range 2000 {
		put(v, n+ahead)
		if n < ahead {
			continue
		}
		for range 8 {
			if !read(v, n) {
				t.Fatalf("piece %d was evicted before it was read", n)
			}
		}
	}
}

// TestFreshPiecesHaveHalf: protected pieces must not starve those of a new scan.
func TestFreshPiecesHaveHalf(t *testing.T) {
	c := newCache(t, Config{Memory: 64 * 16})
	v := open(t, c, blankSpec(1, 16, 10_000))
	for n := range 100 {
		put(v, n*50)
		read(v, n*50) // every one a seek
	}
	for n := 5001; n < 5041; n++ {
		put(v, n)
	}
	for n := 5041 - 31; n < 5041; n++ {
		if !v.Has(n) {
			t.Errorf("fresh piece %d is gone", n)
		}
	}
}

func TestRuns(t *testing.T) {
	type step struct{ piece, want int }
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"sequential", []step{{5, 0}, {6, 1}, {7, 2}}},
		{"out of order", []step{{5, 0}, {8, 3}, {6, 1}, {7, 2}, {9, 4}}},
		{"before the start", []step{{5, 0}, {3, 0}, {6, 3}}},
		{"two readers", []step{{5, 0}, {500, 0}, {6, 1}, {501, 1}}},
		{"a seek away", []step{{5, 0}, {50, 0}}},
		{"too many runs", []step{{0, 0}, {100, 0}, {200, 0}, {300, 0}, {400, 0}, {500, 0}, {600, 0}, {700, 0}, {1, 1}, {800, 0}, {101, 0}, {2, 2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r runs
			for _, s := range tc.steps {
				if got := r.place(s.piece, 4); got != s.want {
					t.Errorf("place(%d) = %d, want %d", s.piece, got, s.want)
				}
			}
		})
	}
}

// TestConcurrentModel lets many goroutines use a small cache as readers and downloads do, and checks what
// the contract says: a piece reads as its torrent has it for as long as it is pinned, a pinned piece stays,
// no two owners share a buffer, and the budget holds.
func TestConcurrentModel(t *testing.T) {
	const (
		workers = 8
		pieces  = 64
		size    = 512
	)
	c := newCache(t, Config{Memory: 4*workers*size + 24*size})
	views := []*Torrent{
		open(t, c, blankSpec(1, size, pieces)),
		open(t, c, blankSpec(2, size/2, pieces)),
		open(t, c, blankSpec(3, size+1, pieces)),
	}
	want := make([][][]byte, len(views))
	for i, v := range views {
		for n := range pieces {
			buf := make([]byte, v.s.size(n))
			content(buf, v.s.spec.InfoHash[0], n)
			want[i] = append(want[i], buf)
		}
	}
	steps := 20_000
	if testing.Short() {
		steps = 2_000
	}
	var bad atomic.Bool
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			type held struct {
				i, n    int
				data    []byte
				release func()
				listed  bool
			}
			var pins []held
			letGo := func(k int) {
				h := pins[k]
				pins[k] = pins[len(pins)-1]
				pins = pins[:len(pins)-1]
				if string(h.data) != string(want[h.i][h.n]) {
					bad.Store(true)
					t.Errorf("piece %d of %d changed while pinned", h.n, h.i)
				}
				if h.listed && !views[h.i].Has(h.n) {
					bad.Store(true)
					t.Errorf("piece %d of %d was evicted while pinned", h.n, h.i)
				}
				h.release()
				if rng.IntN(10) == 0 {
					h.release()
				}
			}
			for range steps {
				if bad.Load() {
					return
				}
				i, n := rng.IntN(len(views)), rng.IntN(pieces)
				v := views[i]
				switch rng.IntN(10) {
				case 0: // a download given up
					buf := v.Alloc(n)
					for k := range buf {
						buf[k] = byte(w)
					}
					for k := range buf {
						if buf[k] != byte(w) {
							bad.Store(true)
							t.Error("two owners of one buffer")
							break
						}
					}
					v.Free(n, buf)
				case 1, 2, 3: // a download
					buf := v.Alloc(n)
					copy(buf, want[i][n])
					pins = append(pins, held{i, n, buf, v.Add(n, buf), false})
				default:
					if data, release, ok := v.Get(n); ok {
						pins = append(pins, held{i, n, data, release, true})
					}
				}
				for len(pins) > 3 || len(pins) > 0 && rng.IntN(3) == 0 {
					letGo(rng.IntN(len(pins)))
				}
			}
			for len(pins) > 0 {
				letGo(0)
			}
		})
	}
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-stop:
				return
			default:
				c.mem.verify(t)
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-watched
	s := c.Stats()
	if s.Overruns != 0 || s.Pinned != 0 || s.InFlight != 0 || s.Memory > s.MemoryLimit {
		t.Errorf("%+v", s)
	}
	c.mem.verify(t)
}

func BenchmarkGet(b *testing.B) {
	c := newCache(b, Config{Memory: 64 << 20})
	v := open(b, c, blankSpec(1, 1<<14, 4096))
	for n := range 4096 {
		put(v, n)
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			_, release, _ := v.Get(n / 8 % 4096)
			release()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var start atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			n := int(start.Add(500))
			for pb.Next() {
				_, release, _ := v.Get(n / 8 % 4096)
				release()
				n++
			}
		})
	})
	b.Run("same piece", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, release, _ := v.Get(7)
				release()
			}
		})
	})
}

func BenchmarkAllocAdd(b *testing.B) {
	c := newCache(b, Config{Memory: 64 << 20})
	v := open(b, c, blankSpec(1, 1<<20, 1<<20))
	b.ReportAllocs()
	b.SetBytes(1 << 20)
	for n := 0; b.Loop(); n++ {
		v.Add(n%(1<<20), v.Alloc(n%(1<<20)))()
	}
}

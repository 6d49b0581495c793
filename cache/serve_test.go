package cache

import (
	"bytes"
	"os"
	"sync"
	"testing"
)

// serve asks for a range of a piece as a peer does and says whether it was there; its bytes have to be right.
func serve(t testing.TB, v *Torrent, n int, begin, length uint32) bool {
	t.Helper()
	got, ok := v.AppendBlock([]byte("before"), n, begin, length)
	if !ok {
		if string(got) != "before" {
			t.Errorf("piece %d: %d bytes came with no", n, len(got))
		}
		return false
	}
	want := make([]byte, v.s.size(n))
	content(want, v.s.spec.InfoHash[0], n)
	if !bytes.Equal(got, append([]byte("before"), want[begin:begin+length]...)) {
		t.Errorf("%d+%d of piece %d: wrong bytes", begin, length, n)
	}
	return true
}

func TestAppendBlock(t *testing.T) {
	const block = 16 << 10
	dir := t.TempDir()
	spec := testSpec(1, 3*block+100, 10*(3*block+100)-7)
	fill(t, dir, spec)
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	asked := func() {
		t.Helper()
		for n := range spec.Hashes {
			end := uint32(spec.pieceSize(n))
			for _, r := range [][2]uint32{{0, block}, {block, block}, {3 * block, end - 3*block}, {block - 1, 2}, {end - 1, 1}, {0, end}} {
				if !serve(t, v, n, r[0], r[1]) {
					t.Errorf("%v of piece %d is not there", r, n)
				}
			}
			if serve(t, v, n, end, 1) || serve(t, v, n, 0, end+1) || serve(t, v, n, 1<<32-1, 1<<32-1) {
				t.Errorf("more than there is of piece %d", n)
			}
		}
		if serve(t, v, -1, 0, 1) || serve(t, v, len(spec.Hashes), 0, 1) {
			t.Error("a piece that does not exist")
		}
	}
	asked()
	if s := c.Stats(); s.Memory != 0 || s.Hits != 0 || s.Misses != 0 {
		t.Errorf("memory after serving from the disk: %+v", s)
	}
	for n := range spec.Hashes {
		load(t, v, n)
	}
	asked()
	c.mem.verify(t)
}

// However many peers are served at once of pieces however large, memory is the readers'.
func TestServingTakesNoMemory(t *testing.T) {
	const pieceLength, pieces = 1 << 20, 24
	dir := t.TempDir()
	spec := testSpec(1, pieceLength, pieces*pieceLength)
	fill(t, dir, spec)
	c := newCache(t, Config{Memory: 4 * pieceLength, Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	ours := []int{0, 8, 16} // not in order, or those behind would be loaded ahead
	for _, n := range ours {
		load(t, v, n)
	}
	before := c.Stats()
	var peers sync.WaitGroup
	for n := range pieces {
		peers.Go(func() {
			for begin := uint32(0); begin < pieceLength; begin += 128 << 10 {
				if !serve(t, v, n, begin, 128<<10) {
					t.Errorf("piece %d is not there", n)
				}
			}
		})
	}
	peers.Wait()
	if after := c.Stats(); after.Memory != before.Memory || after.Overruns != 0 || after.DiskHits != before.DiskHits {
		t.Errorf("before %+v, after %+v", before, after)
	}
	for _, n := range ours {
		if !read(v, n) {
			t.Errorf("a reader's piece %d is gone", n)
		}
	}
}

// Who asks for a piece that has changed on disk gets nothing, whether a block of it was served before or not; the piece is
// claimed no more, which listeners hear once, and can come again.
func TestServingDamage(t *testing.T) {
	const pieceLength, pieces = 64 << 10, 8
	for name, spoil := range map[string]func(t *testing.T, path string){
		"a flipped bit": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var b [1]byte
			if _, err := f.ReadAt(b[:], 5*pieceLength+20_000); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 4
			if _, err := f.WriteAt(b[:], 5*pieceLength+20_000); err != nil {
				t.Fatal(err)
			}
		},
		"truncated": func(t *testing.T, path string) {
			if err := os.Truncate(path, 5*pieceLength+10); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, before := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				spec := testSpec(1, pieceLength, pieces*pieceLength)
				fill(t, dir, spec)
				var mu sync.Mutex
				told := map[int]int{}
				spec.Evicted = func(piece int) {
					mu.Lock()
					defer mu.Unlock()
					told[piece]++
				}
				c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30})
				v := open(t, c, spec)
				if before && !serve(t, v, 5, 16<<10, 16<<10) {
					t.Fatal("not there")
				}
				spoil(t, Dir(dir).path(spec.InfoHash, ".data"))
				var peers sync.WaitGroup
				for range 8 {
					peers.Go(func() {
						if serve(t, v, 5, 16<<10, 16<<10) {
							t.Error("a damaged block is served")
						}
					})
				}
				peers.Wait()
				if v.Has(5) || told[5] != 1 || len(told) != 1 {
					t.Errorf("claimed %v, told %v", v.Has(5), told)
				}
				if s := c.Stats(); s.Wrong != pieceLength {
					t.Errorf("%d bytes count as damaged", s.Wrong)
				}
				put(v, 5)
				settle(c)
				c.mem.drop(v.s)
				if !serve(t, v, 5, 16<<10, 16<<10) {
					t.Error("not there after it was fetched again")
				}
			})
		}
	}
}

// A peer's block is not a reader's use.
func TestServingIsNoUse(t *testing.T) {
	c := newCache(t, Config{Memory: 1 << 20})
	v := open(t, c, testSpec(1, 16<<10, 1<<20))
	put(v, 3)
	for range 3 {
		serve(t, v, 3, 0, 16<<10)
	}
	if p := c.mem.lookup(v.s, 3); p.used != -1 || p.seg != &c.mem.probation || c.Stats().Pinned != 0 {
		t.Errorf("used at %d, pinned %d", p.used, c.Stats().Pinned)
	}
}

// TestServingWhileFilesAreReplaced asks while the files are opened anew again and again.
func TestServingWhileFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 64<<10, 8*64<<10)
	fill(t, dir, spec)
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	done := make(chan struct{})
	var peer sync.WaitGroup
	peer.Go(func() {
		defer close(done)
		for i := range 400 {
			serve(t, v, i%8, 0, 16<<10)
		}
	})
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
			_ = c.disk.do(func() { c.disk.reopen(v.s) })
		}
	}
	peer.Wait()
	for n := range 8 {
		if !serve(t, v, n, 0, 16<<10) {
			t.Errorf("piece %d is gone", n)
		}
	}
}

// BenchmarkAppendBlock serves from the disk's page cache, to one peer.
func BenchmarkAppendBlock(b *testing.B) {
	const pieceLength, pieces = 1 << 20, 16
	dir := b.TempDir()
	spec := testSpec(1, pieceLength, pieces*pieceLength)
	fill(b, dir, spec)
	v := open(b, newCache(b, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30}), spec)
	buf := make([]byte, 0, 32<<10)
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok := v.AppendBlock(buf, i/64%pieces, uint32(i%64)<<14, 16<<10); !ok {
			b.Fatal("not there")
		}
	}
}

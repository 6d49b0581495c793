package fs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"torrentfs/fetch/metainfo"
)

// shelves is a torrent of n files of 10,000 bytes, twenty in a folder, with something else in between.
func shelves(n int) metainfo.Torrent {
	var files []metainfo.File
	for i := range n {
		if i%20 == 10 {
			files = append(files, metainfo.File{Path: fmt.Sprintf("shelves/.pad/%d", i), Length: 3000, Padding: true},
				metainfo.File{Path: fmt.Sprintf("shelves/%02d/empty %d", i/20, i)})
		}
		files = append(files, metainfo.File{Path: fmt.Sprintf("shelves/%02d/%d", i/20, i), Length: 10_000})
	}
	t := layout(11, "shelves", files...)
	t.PieceLength = 32 * kib
	return t
}

// A walker reads files of a tree that nobody mounted.
type walker struct {
	*wish
	tor   metainfo.Torrent
	tree  *Tree
	files []*file // that are not empty, in the order of the torrent
}

func newWalker(t *testing.T, tor metainfo.Torrent) *walker {
	t.Helper()
	w := &walker{wish: &wish{windows: make(map[uint64]span)}, tor: tor, tree: bare()}
	w.tree.readTimeout, w.tree.readAhead = patient, 64*mib
	w.tree.life, w.tree.abort = context.WithCancel(t.Context())
	if err := w.tree.Add(&tor, w); err != nil {
		t.Fatal(err)
	}
	var collect func(node)
	collect = func(n node) {
		switch n := n.(type) {
		case *dir:
			for _, child := range n.children {
				collect(child)
			}
		case *file:
			if n.size > 0 {
				w.files = append(w.files, n)
			}
		}
	}
	collect(w.tree.root.children[tor.Name])
	slices.SortFunc(w.files, func(a, b *file) int { return int(a.begin - b.begin) })
	return w
}

// read opens a file, reads its first n bytes as the kernel does, and closes it.
func (w *walker) read(t *testing.T, i int, n int64) {
	t.Helper()
	h := newHandle(w.files[i])
	defer h.release()
	defer h.flush()
	for off := int64(0); off < n; off += kernelRead {
		if _, err := read(t, h, off, int(min(kernelRead, n-off))); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *walker) whole(t *testing.T, all ...int) {
	t.Helper()
	for _, i := range all {
		w.read(t, i, w.files[i].size)
	}
}

// standing is how many windows there are, also while the walk's timer runs.
func (w *walker) standing() int {
	mu := &w.files[0].walk.mu
	mu.Lock()
	defer mu.Unlock()
	return len(w.windows)
}

func TestWalkReadsAheadAcrossFiles(t *testing.T) {
	w := newWalker(t, shelves(2000))
	w.whole(t, 7, 8)
	if len(w.windows) != 0 {
		t.Fatalf("after two files: %v", w.windows)
	}
	w.whole(t, 9)
	if len(w.windows) != 1 || w.tree.windows.Load() != 1 {
		t.Fatalf("after three files: %v", w.windows)
	}
	for i := 10; i < 2000; i++ {
		w.whole(t, i)
		for _, s := range w.windows {
			end := w.files[i].begin + w.files[i].size
			if s.Off > end || s.Off < end-mib || s.Off+s.N < min(end+3*mib, w.tor.Length) || s.N > 32*mib || s.Rate != 0 {
				t.Fatalf("after %d files, which end at %d: %+v", i+1, end, s)
			}
		}
	}
	if len(w.windows) != 0 || w.tree.windows.Load() != 0 {
		t.Errorf("at the end: %v", w.windows)
	}
}

// What is no walk fetches nothing but what is read.
func TestWalkNeedsProof(t *testing.T) {
	for name, reads := range map[string]func(*testing.T, *walker){
		"one file":    func(t *testing.T, w *walker) { w.whole(t, 5) },
		"again":       func(t *testing.T, w *walker) { w.whole(t, 5, 5, 5, 5, 6, 6, 6, 5, 6) },
		"backwards":   func(t *testing.T, w *walker) { w.whole(t, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0) },
		"every other": func(t *testing.T, w *walker) { w.whole(t, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22) },
		"pairs":       func(t *testing.T, w *walker) { w.whole(t, 0, 1, 40, 41, 80, 81, 60, 61, 20, 21) },
		"beginnings": func(t *testing.T, w *walker) {
			for i := range 50 {
				w.read(t, i, 4096)
			}
		},
		"here and there": func(t *testing.T, w *walker) { w.whole(t, rand.New(rand.NewPCG(1, 2)).Perm(100)[:60]...) },
		"ends": func(t *testing.T, w *walker) {
			for _, f := range w.files[:50] {
				h := newHandle(f)
				_, _ = read(t, h, 8192, 2000)
				h.release()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWalker(t, shelves(100))
			reads(t, w)
			if slices.Contains(w.order, "ahead") {
				t.Errorf("%v", w.windows)
			}
		})
	}
}

// Several files at a time are a walk too, and so is one that the kernel takes some files of from its cache.
func TestWalkToleratesDisorder(t *testing.T) {
	w := newWalker(t, shelves(1000))
	w.whole(t, 0, 1, 2)
	for i := 3; i+8 < 1000; i += 8 {
		w.whole(t, i+3, i, i+6, i+1, i+5) // the others are cached
		if len(w.windows) != 1 {
			t.Fatalf("at %d: %v", i, w.windows)
		}
	}
	if len(w.files[0].walk.runs) != 1 {
		t.Errorf("%d walks", len(w.files[0].walk.runs))
	}
}

// One who picks files from far apart gets nothing any more.
func TestWalkEndsWhenFilesArePicked(t *testing.T) {
	w := newWalker(t, shelves(3000))
	w.whole(t, 0, 1, 2)
	for i := 50; i < 3000; i += 50 {
		w.whole(t, i)
	}
	if len(w.windows) != 0 {
		t.Errorf("%v", w.windows)
	}
}

func TestWalksAreFew(t *testing.T) {
	w := newWalker(t, shelves(1000*maxWalks))
	for i := range 2 * maxWalks {
		w.whole(t, 500*i, 500*i+1, 500*i+2)
	}
	if len(w.windows) != maxWalks || w.tree.windows.Load() != maxWalks {
		t.Errorf("%v", w.windows)
	}
}

// Nobody reads on: what was not fetched yet is not fetched any more.
func TestWalkRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWalker(t, shelves(1000))
		w.whole(t, 0, 1, 2)
		time.Sleep(pause - time.Nanosecond) // virtual time
		w.whole(t, 3)
		time.Sleep(pause - time.Nanosecond)
		synctest.Wait()
		if w.standing() != 1 {
			t.Fatalf("%v", w.windows)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if w.standing() != 0 || w.tree.windows.Load() != 0 {
			t.Errorf("%v", w.windows)
		}
		w.whole(t, 4)
		if w.standing() != 1 {
			t.Errorf("somebody reads on: %v", w.windows)
		}
		time.Sleep(pause)
		synctest.Wait()
	})
}

// What follows a large file is fetched when that is about to be: by the time it has been read it is here.
func TestWalkPassesLargeFiles(t *testing.T) {
	var files []metainfo.File
	for i := range 10 {
		files = append(files, metainfo.File{Path: fmt.Sprint("large/", i), Length: 20 * mib})
	}
	w := newWalker(t, layout(12, "large", files...))
	w.whole(t, 0, 1)
	if len(w.windows) != 0 {
		t.Fatalf("after two: %v", w.windows)
	}
	w.read(t, 2, 4*mib)
	if len(w.windows) != 0 {
		t.Fatalf("in the beginning of the third: %v", w.windows)
	}
	w.read(t, 2, 18*mib)
	if len(w.windows) != 1 {
		t.Fatalf("near its end: %v", w.windows)
	}
	for _, s := range w.windows {
		if s.Off != 60*mib {
			t.Errorf("%+v", s)
		}
	}
}

// Files that a magnet link does not select are not fetched.
func TestWalkStaysInWhatIsShown(t *testing.T) {
	tor := shelves(100)
	var shown []metainfo.File
	for _, f := range tor.Files {
		if f.Offset < 300_000 || f.Offset > 600_000 {
			shown = append(shown, f)
		}
	}
	tor.Files = shown
	w := newWalker(t, tor)
	for i := range w.files {
		w.whole(t, i)
		for _, s := range w.windows {
			if s.Off < 500_000 && s.Off+s.N > 320_000 {
				t.Fatalf("after %d: %+v", i, s)
			}
		}
	}
	if w.files[0].reach > 320_000 || w.files[len(w.files)-1].reach != tor.Length {
		t.Errorf("they reach to %d and %d", w.files[0].reach, w.files[len(w.files)-1].reach)
	}
}

// Programs that copy a tree read the files in the order of the torrent, though its names say another, and all but the first few
// are announced before they are read.
func TestProgramsWalkInTheOrderOfTheTorrent(t *testing.T) {
	tor := shelves(400)
	random := rand.New(rand.NewPCG(3, 4))
	for i, f := range tor.Files {
		dir, base := filepath.Split(f.Path)
		tor.Files[i].Path = fmt.Sprintf("%s%03d %s", dir, random.IntN(1000), base)
	}
	for _, command := range []string{`cp -r "$0" "$1"`, `tar cf - "$0" | cat > /dev/null`, `grep -r "nothing of the kind" "$0"; test $? = 1`,
		`find "$0" -type f -exec cat {} + > /dev/null`} {
		t.Run(command[:4], func(t *testing.T) {
			s := startServer(t, serverOptions{ReadAhead: 8 << 20}, 0, tor)
			cmd := exec.Command("sh", "-c", command, s.path("shelves"), filepath.Join(t.TempDir(), "copy"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			r := s.ask("stats")
			if r.Reads < 400 || r.Unheard > 10 {
				t.Errorf("of %d reads %d were not announced", r.Reads, r.Unheard)
			}
			s.ask("unmount")
		})
	}
}

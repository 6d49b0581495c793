package fs

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"torrentfs/fetch/metainfo"
)

// bare is a tree that nobody mounted.
func bare() *Tree {
	return &Tree{root: newRoot(time.Unix(1e9, 0)), log: slog.New(slog.DiscardHandler)}
}

func TestAddRefusesWhatHasNoPlace(t *testing.T) {
	for name, paths := range map[string][]string{
		"twice the same":        {"t/a", "t/a"},
		"a file in a file":      {"t/a", "t/a/b"},
		"a directory as a file": {"t/a/b", "t/a"},
		"no name":               {"t/"},
		"no name in between":    {"t//a"},
		"outside":               {"t/a", "u/a"},
		"elsewhere":             {"u"},
	} {
		var files []metainfo.File
		for _, p := range paths {
			files = append(files, metainfo.File{Path: p, Length: 1})
		}
		tor := layout(1, "t", files...)
		tree := bare()
		if err := tree.Add(&tor, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
		if len(tree.root.children) != 0 {
			t.Errorf("%s: shown all the same", name)
		}
	}
}

func TestAddOfPaddingAlone(t *testing.T) {
	tor := layout(1, "t", metainfo.File{Path: "t/.pad/1", Length: 1, Padding: true})
	tree := bare()
	if err := tree.Add(&tor, nil); err != nil {
		t.Fatal(err)
	}
	if d, ok := tree.root.children["t"].(*dir); !ok || len(d.children) != 0 || !bytes.Equal(d.listing, list(nil, d.inode, rootInode, nil)) {
		t.Errorf("%+v", tree.root.children["t"])
	}
}

func TestMtime(t *testing.T) {
	mounted := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	created := time.Date(2011, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct{ created, want time.Time }{
		{created, created},
		{time.Time{}, mounted},
		{time.Unix(0, 0), mounted},
		{time.Unix(-1, 0), mounted},
		{time.Unix(math.MaxInt64/4, 0), mounted},
		{mounted.AddDate(0, 0, 1), mounted.AddDate(0, 0, 1)}, // a clock may be wrong
	} {
		if got := mtime(c.created, mounted); !got.Equal(c.want) {
			t.Errorf("%v: %v, want %v", c.created, got, c.want)
		}
	}
}

func TestFreeNames(t *testing.T) {
	long := strings.Repeat("ä", 125)
	r := newRoot(time.Now())
	for _, c := range []struct {
		name   string
		isFile bool
		want   string
	}{
		{"a.txt", true, "a.txt"},
		{"a.txt", true, "a (2).txt"},
		{"a.txt", true, "a (3).txt"},
		{"a.txt", false, "a.txt (2)"},
		{".hidden", true, ".hidden"},
		{".hidden", true, ".hidden (2)"},
		{"what. this is a long sentence", true, "what. this is a long sentence"},
		{"what. this is a long sentence", true, "what. this is a long sentence (2)"},
		{long + ".mkv", true, long + ".mkv"},
		{long + ".mkv", true, strings.Repeat("ä", 123) + " (2).mkv"},
	} {
		got := r.free(c.name, c.isFile)
		r.children[got] = (*file)(nil)
		if got != c.want || len(got) > maxName || !utf8.ValidString(got) {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestInodesFitEverywhere(t *testing.T) {
	seen := map[uint64]bool{}
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 1000 {
		var hash metainfo.Hash
		for j := range hash {
			hash[j] = byte(random.Int())
		}
		if i == 0 {
			hash = metainfo.Hash(bytes.Repeat([]byte{0xff}, len(hash)))
		}
		n := firstInode(hash)
		if n <= rootInode || n+maxNodes > 1<<53 || seen[n] {
			t.Fatalf("number %d", n)
		}
		seen[n] = true
	}
}

func BenchmarkAdd(b *testing.B) {
	var files []metainfo.File
	for i := range 100_000 {
		files = append(files, metainfo.File{Path: fmt.Sprintf("many/%d/%d/file %d.jpg", i/1000, i/20, i), Length: 1})
	}
	tor := layout(1, "many", files...)
	b.ReportAllocs()
	for b.Loop() {
		if err := bare().Add(&tor, nil); err != nil {
			b.Fatal(err)
		}
	}
}

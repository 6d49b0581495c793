package metainfo

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"torrentfs/fetch/fetchtest/heap"
)

// manyFiles is a .torrent of n files of 1,000 bytes each with these paths, in which slashes separate
// components.
func manyFiles(n int, path func(i int) string) []byte {
	var b bytes.Buffer
	b.WriteString("d4:infod5:filesl")
	for i := range n {
		fmt.Fprintf(&b, "d6:lengthi1000e4:path%se", strs(strings.Split(path(i), "/")...))
	}
	fmt.Fprintf(&b, "e4:name4:many12:piece lengthi262144e6:pieces%see", hashes((n*1000-1)>>18+1))
	return b.Bytes()
}

func nested(i int) string { return fmt.Sprintf("dir%d/sub%d/file-%d.dat", i%97, i%1009, i) }

// manyPieces is a .torrent of a single file of n pieces.
func manyPieces(n int) []byte { return []byte(sized(int64(n)*16384, 16384)) }

func TestManyFiles(t *testing.T) {
	for _, c := range []struct {
		name    string
		n       int
		path    func(int) string
		last    string
		perFile uint64 // bytes of memory
	}{
		{"nested", 200_000, nested, "many/dir82/sub217/file-199999.dat", 800},
		{"one long name", 50_000, func(int) string { return strings.Repeat("x", 255) }, "many/" + strings.Repeat("x", 245) + " (50000)", 2500},
		{"one name", 20_000, func(int) string { return "a.txt" }, "many/a (20000).txt", 1200},
		{"one folder each", 20_000, func(i int) string { return fmt.Sprintf("%d/f", i) }, "many/19999/f", 800},
		{"long names that differ at the end", 20_000, func(i int) string { return strings.Repeat("x", 250) + fmt.Sprintf("%05d", i%10_000) },
			"many/" + strings.Repeat("x", 245) + " (10001)", 2500},
		{"files that are folders", 20_000, func(i int) string { return strings.Repeat("a/", i%2) + "a" }, "many/a/a (10000)", 1200},
	} {
		n := c.n
		data := manyFiles(n, c.path)
		var tor *Torrent
		var err error
		took := heap.Allocated(func() { tor, err = Parse(data) })
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(tor.Files) != n || tor.Files[n-1].Path != c.last {
			t.Errorf("%s: %d files, the last is %q, want %q", c.name, len(tor.Files), tor.Files[n-1].Path, c.last)
		}
		if took > uint64(n)*c.perFile {
			t.Errorf("%s: %d bytes for each file", c.name, took/uint64(n))
		}
		paths := make(map[string]bool, n)
		for _, f := range tor.Files {
			paths[f.Path] = true
		}
		if len(paths) != n {
			t.Errorf("%s: %d paths", c.name, len(paths))
		}
	}
}

func TestManyPieces(t *testing.T) {
	const n = 2_000_000
	data := manyPieces(n)
	var tor *Torrent
	var err error
	took := heap.Allocated(func() { tor, err = Parse(data) })
	if err != nil || tor.NumPieces() != n || tor.PieceSize(n-1) != 16384 {
		t.Fatal(tor, err)
	}
	// Info and Pieces are a copy each.
	if took > 2*uint64(len(data))+1<<20 {
		t.Errorf("%d bytes for a torrent of %d", took, len(data))
	}
	count := 0
	for range tor.Spans(0, tor.Length) {
		count++
	}
	if count != n {
		t.Errorf("%d spans", count)
	}
}

// TestHostileSizes looks at the memory that is taken before a torrent is refused.
func TestHostileSizes(t *testing.T) {
	many := func(s string) []byte { return []byte(multi(strings.Repeat(s, 1_000_000))) }
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"empty dictionaries as files", many("de")},
		{"empty lists as files", many("le")},
		{"files of empty path", many("d4:pathlee")},
		{"deep path", []byte(multi(bfile("", "path", "l"+strings.Repeat("0:", 1_000_000)+"e")))},
		{"deep target of a link", []byte(multi(bfile("a"), bfile("l", "attr", "1:l", "symlink path", "l"+strings.Repeat("1:a", 1_000_000)+"e")))},
		{"tiers", []byte(torrent(single(), "announce-list", "l"+strings.Repeat("le", 1_000_000)+"e"))},
		{"nodes", []byte(torrent(single(), "nodes", "l"+strings.Repeat("le", 1_000_000)+"e"))},
		{"web seeds", []byte(torrent(single(), "url-list", "l"+strings.Repeat("0:", 1_000_000)+"e"))},
		{"trackers", []byte(torrent(single(), "announce-list", "ll"+strings.Repeat("0:", 1_000_000)+"ee"))},
		{"long name", []byte(torrent(single("name", bstr(strings.Repeat("\xff", 4<<20)))))},
		{"long comment", []byte(torrent(single(), "comment", bstr(strings.Repeat("\x00", 4<<20))))},
	} {
		took := heap.Allocated(func() { Parse(c.data) })
		if took > 12*uint64(len(c.data))+4*maxParts {
			t.Errorf("%s: %d bytes for a torrent of %d", c.name, took, len(c.data))
		}
	}
}

func BenchmarkParseFiles(b *testing.B) {
	data := manyFiles(200_000, nested)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePieces(b *testing.B) {
	data := manyPieces(2_000_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

package metainfo

import (
	"crypto/sha1"
	"encoding/json"
	"io/fs"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hexName stands for a name taken from the info-hash, which the table writes as 0000.
var hexName = regexp.MustCompile(`\b[0-9a-f]{40}\b`)

func TestBadTorrents(t *testing.T) {
	cases := badTorrents()
	if len(cases) < 200 {
		t.Errorf("only %d cases", len(cases))
	}
	seen := make(map[string]bool)
	for _, c := range cases {
		if seen[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		seen[c.name] = true
		tor, err := Parse([]byte(c.data))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := hexName.ReplaceAllString(files(tor), "0000"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.name, got, c.want)
		}
		checkTorrent(t, c.name, tor)
	}
}

// checkTorrent checks what holds for every torrent, whatever it was parsed from.
func checkTorrent(t *testing.T, name string, tor *Torrent) {
	t.Helper()
	checkName(t, tor.Name)
	if tor.Length < 1 || tor.PieceLength < 1 || tor.PieceLength > MaxPieceLength || int64(len(tor.Pieces)) != (tor.Length-1)/tor.PieceLength+1 {
		t.Fatalf("%s: %d bytes in %d pieces of %d", name, tor.Length, len(tor.Pieces), tor.PieceLength)
	}
	if tor.InfoHash != sha1.Sum(tor.Info) {
		t.Errorf("%s: info-hash is not that of Info", name)
	}
	checkPaths(t, tor)
	checkLayout(t, tor)
	again, err := ParseInfo(tor.Info)
	if err != nil {
		t.Fatalf("%s: info dictionary alone: %v", name, err)
	}
	again.Trackers, again.WebSeeds, again.Nodes = tor.Trackers, tor.WebSeeds, tor.Nodes
	again.Created, again.Comment, again.CreatedBy = tor.Created, tor.Comment, tor.CreatedBy
	again.Private = tor.Private // which may stand outside of info
	if !reflect.DeepEqual(again, tor) {
		t.Errorf("%s: info dictionary alone is read as %+v, not %+v", name, again, tor)
	}
	for _, s := range slices.Concat(slices.Concat(tor.Trackers...), tor.WebSeeds, tor.Nodes, []string{strings.NewReplacer("\n", "", "\t", "").Replace(tor.Comment + tor.CreatedBy)}) {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			t.Errorf("%s: %q is not safe to print", name, s)
		}
	}
	if _, err := json.Marshal(tor.Created); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// checkPaths checks that a file system can show the files: safe components, no path twice, no file that is a
// folder too.
func checkPaths(t *testing.T, tor *Torrent) {
	t.Helper()
	isFile := make(map[string]bool) // of each path, whether it is a file or a folder
	for _, f := range tor.Files {
		components := strings.Split(f.Path, "/")
		for _, c := range components {
			checkName(t, c)
		}
		if components[0] != tor.Name || (len(components) > 1) != tor.MultiFile {
			t.Errorf("%q is not below %q", f.Path, tor.Name)
		}
		if f.RawPath != "" && !f.Padding && (f.RawPath == f.Path || !strings.HasPrefix(f.RawPath, tor.Name+"/") ||
			!fs.ValidPath(strings.ToValidUTF8(f.RawPath, "?")) || strings.Contains(f.RawPath, "\x00")) {
			t.Errorf("%q is the raw path of %q", f.RawPath, f.Path)
		}
		if f.Padding {
			continue
		}
		if _, ok := isFile[f.Path]; ok {
			t.Errorf("%q is taken already", f.Path)
		}
		isFile[f.Path] = true
		for i, c := range f.Path {
			if c == '/' {
				if isFile[f.Path[:i]] {
					t.Errorf("%q is below a file", f.Path)
				}
				isFile[f.Path[:i]] = false
			}
		}
	}
}

func checkName(t *testing.T, s string) {
	t.Helper()
	if s == "" || s == "." || s == ".." || len(s) > 255 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || strings.Contains(s, "/") {
		t.Errorf("%q is not a safe name", s)
	}
	if again := safeName(s); again != s {
		t.Errorf("%q is a safe name but becomes %q", s, again)
	}
}

// checkLayout checks that files lie inside the torrent, in order and without a gap, and that spans lie inside
// their pieces and cover what they should.
func checkLayout(t *testing.T, tor *Torrent) {
	t.Helper()
	var end int64
	last := File{}
	for _, f := range tor.Files {
		isLink := f.Offset == last.Offset && f.Length == last.Length
		if f.Length < 0 || f.Offset != end && !isLink || f.Offset < last.Offset {
			t.Fatalf("%q lies at %d+%d, behind %d", f.Path, f.Offset, f.Length, end)
		}
		end, last = f.Offset+f.Length, f
		checkSpans(t, tor, f.Offset, f.Length)
	}
	if end != tor.Length {
		t.Errorf("files end at %d of %d bytes", end, tor.Length)
	}
	for _, r := range [][2]int64{{0, tor.Length}, {-1, 2}, {tor.Length - 1, 2}, {tor.PieceLength - 1, 2}, {tor.Length, 1}, {math.MinInt64, math.MaxInt64}, {0, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}, {1, -1}} {
		checkSpans(t, tor, r[0], r[1])
	}
}

// checkSpans looks at the first thousand spans, for there may be millions.
func checkSpans(t *testing.T, tor *Torrent, off, n int64) {
	t.Helper()
	begin, end := max(off, 0), tor.Length
	if n < end-off || off < 0 {
		end = min(end, off+n)
	}
	count := 0
	for s := range tor.Spans(off, n) {
		if count++; count > 1000 {
			return
		}
		if s.Length < 1 || s.Begin < 0 || s.Begin+s.Length > tor.PieceSize(s.Piece) || int64(s.Piece)*tor.PieceLength+s.Begin != begin || begin+s.Length > end {
			t.Fatalf("span %+v of %d+%d, at %d", s, off, n, begin)
		}
		begin += s.Length
	}
	if begin != max(end, begin) {
		t.Errorf("spans of %d+%d end at %d, not %d", off, n, begin, end)
	}
}

package metainfo

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseSingleFile(t *testing.T) {
	info := "d6:lengthi40000e4:name5:a.mkv12:piece lengthi16384e6:pieces60:" + strings.Repeat("h", 60) + "7:unknownd1:xi1eee"
	tor, err := Parse([]byte("d8:announce19:http://t.example/an4:info" + info + "e"))
	if err != nil {
		t.Fatal(err)
	}
	if tor.InfoHash != sha1.Sum([]byte(info)) || string(tor.Info) != info {
		t.Error("the info-hash is not that of the raw info dictionary")
	}
	if got := files(tor); got != "a.mkv:0+40000" || tor.MultiFile || tor.NumPieces() != 3 || tor.PieceSize(2) != 40000-2*16384 {
		t.Errorf("%s %+v", got, tor)
	}
	bare, err := ParseInfo([]byte(info))
	if err != nil || bare.InfoHash != tor.InfoHash || len(bare.Trackers) != 0 {
		t.Error(bare, err)
	}
}

func TestParseDetails(t *testing.T) {
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("http://%d.example/", i)
	}
	for _, c := range []struct {
		name, data string
		got        func(*Torrent) any
		want       any
	}{
		{"announce", torrent(single(), "announce", bstr(" http://a.example/x \n")), trackers, [][]string{{"http://a.example/x"}}},
		{"announce-list", torrent(single(), "announce", bstr("http://no.example/"), "announce-list", blist(strs("http://a.example/", "udp://b.example:1"), strs("https://c.example/"))),
			trackers, [][]string{{"http://a.example/", "udp://b.example:1"}, {"https://c.example/"}}},
		{"announce-list with what is of no use", torrent(single(), "announce-list", blist(strs(), strs("", "x", "//x/", "http://", "http://a\n.example/"), "1:x", strs("http://a.example/", "http://a.example/"), strs("http://a.example/"))),
			trackers, [][]string{{"http://a.example/"}}},
		{"announce-list of no use at all", torrent(single(), "announce", bstr("http://a.example/"), "announce-list", blist(strs("x"))), trackers, [][]string{{"http://a.example/"}}},
		{"thousands of trackers", torrent(single(), "announce-list", blist(strs(many...))), trackers, [][]string{many[:maxURLs]}},
		{"tracker not safe to print", torrent(single(), "announce-list", blist(strs("http://a.example/\xff", "http://a.example/\u009b", "http://a.example/"+strings.Repeat("x", maxURL), "http://a.example/é"))),
			trackers, [][]string{{"http://a.example/é"}}},
		{"no tracker", torrent(single()), trackers, [][]string(nil)},

		{"web seed", torrent(single(), "url-list", bstr("http://a.example/f.iso")), webSeeds, []string{"http://a.example/f.iso"}},
		{"web seeds", torrent(single(), "url-list", strs("http://a.example/f", "ftp://b.example/", "", "x", "http://a.example/f")), webSeeds, []string{"http://a.example/f", "ftp://b.example/"}},
		{"web seeds of a folder", torrent(single("files", blist(bfile("a"))), "url-list", strs("http://a.example/d", "http://a.example/d/", "")), webSeeds, []string{"http://a.example/d/"}},
		{"empty web seed", torrent(single(), "url-list", "0:"), webSeeds, []string(nil)},

		{"nodes", torrent(single(), "nodes", "ll9:127.0.0.1i6881eel12:node.examplei1eel11:2001:db8::1i65535eee"), nodeList, []string{"127.0.0.1:6881", "node.example:1", "[2001:db8::1]:65535"}},
		{"bad nodes", torrent(single(), "nodes", "ll1:ai0eel1:ai65536eel1:ai-1eel0:i1eel3:a/bi1eel1:\x00i1ee1:al1:aee"), nodeList, []string(nil)},

		{"private", torrent(single("private", "i1e")), private, true},
		{"not private", torrent(single("private", "i0e")), private, false},
		{"private unsaid", torrent(single()), private, false},
		{"private in the wrong place", torrent(single(), "private", "i1e"), private, true},
		{"private said twice", torrent(single("private", "i0e"), "private", "i1e"), private, false},

		{"created", torrent(single(), "creation date", "i1700000000e"), created, time.Unix(1_700_000_000, 0).UTC()},
		{"created unsaid", torrent(single()), created, time.Time{}},
		{"created at 0", torrent(single(), "creation date", "i0e"), created, time.Time{}},
		{"created before 1970", torrent(single(), "creation date", "i-1e"), created, time.Time{}},
		{"created in milliseconds", torrent(single(), "creation date", "i1700000000000e"), created, time.Time{}},
		{"created in the last second of 9999", torrent(single(), "creation date", "i253402300799e"), created, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},

		{"comment", torrent(single(), "comment", bstr("a\nb\tc")), comment, "a\nb\tc"},
		{"comment in UTF-8", torrent(single(), "comment", "1:\xe9", "comment.utf-8", bstr("é")), comment, "é"},
		{"comment with control characters", torrent(single(), "comment", bstr("a\x1b[2Jb\x00\u009b")), comment, "a [2Jb  "},
		{"comment of invalid UTF-8", torrent(single(), "comment", "2:\xe9a"), comment, "\ufffda"},
	} {
		tor, err := Parse([]byte(c.data))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := c.got(tor); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func trackers(t *Torrent) any { return t.Trackers }
func webSeeds(t *Torrent) any { return t.WebSeeds }
func nodeList(t *Torrent) any { return t.Nodes }
func private(t *Torrent) any  { return t.Private }
func created(t *Torrent) any  { return t.Created }
func comment(t *Torrent) any  { return t.Comment }

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if tor, err := Load(write("good.torrent", torrent(single()))); err != nil || tor.Name != "name" {
		t.Error(tor, err)
	}
	large := write("large", "d")
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{filepath.Join(dir, "missing"), "no such file"},
		{dir, "is a directory"},
		{write("page.torrent", "<html>"), "page.torrent: not a torrent file: it is a web page"},
		{large, "larger than 128 MiB"},
		{"/dev/zero", "larger than 128 MiB"},
	} {
		if _, err := Load(c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Load(%s): error %v, want %q", c.path, err, c.want)
		}
	}
}

// TestTruncated reads every part of a torrent that is not all of it.
func TestTruncated(t *testing.T) {
	whole := names("a", "b/c")
	for n := range whole {
		if tor, err := Parse([]byte(whole[:n])); err == nil {
			t.Errorf("%d of %d bytes are read as %s", n, len(whole), files(tor))
		}
	}
}

func TestParseInfoErrors(t *testing.T) {
	for _, c := range []struct{ info, want string }{
		{"", "ends in the middle"}, {"le", "is a list"}, {"1:x", "is a string"}, {single() + "e", "1 bytes follow"}, {single() + "\n", "1 bytes follow"},
		{"d", "ends in the middle"}, {strings.Repeat("l", 1000), "nested deeper"}, {strings.Repeat("x", MaxSize+1), "larger than 128 MiB"},
	} {
		if _, err := ParseInfo([]byte(c.info)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseInfo(%.20q): error %v, want %q", c.info, err, c.want)
		}
	}
}

func TestSpans(t *testing.T) {
	tor := &Torrent{PieceLength: 10, Length: 25, Pieces: make([][20]byte, 3)}
	for _, c := range []struct {
		off, n int64
		want   []Span
	}{
		{0, 25, []Span{{0, 0, 10}, {1, 0, 10}, {2, 0, 5}}},
		{9, 2, []Span{{0, 9, 1}, {1, 0, 1}}},
		{24, 100, []Span{{2, 4, 1}}},
		{-3, 5, []Span{{0, 0, 2}}},
		{25, 1, nil}, {0, 0, nil}, {5, -1, nil}, {-5, 5, nil}, {1 << 62, 1 << 62, nil},
		{-1 << 63, 1<<63 - 1, nil}, {0, 1<<63 - 1, []Span{{0, 0, 10}, {1, 0, 10}, {2, 0, 5}}},
	} {
		var got []Span
		for s := range tor.Spans(c.off, c.n) {
			got = append(got, s)
		}
		if len(got) != len(c.want) {
			t.Errorf("Spans(%d, %d) = %v, want %v", c.off, c.n, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("Spans(%d, %d) = %v, want %v", c.off, c.n, got, c.want)
			}
		}
	}
}

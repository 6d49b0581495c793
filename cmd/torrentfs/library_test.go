package main

import (
	"crypto/sha1"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest/heap"
	"torrentfs/fetch/metainfo"
)

// torrentOf returns a torrent of one file.
func torrentOf(t testing.TB, content string, opt metainfo.CreateOptions) *metainfo.Torrent {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := metainfo.Create(t.Context(), path, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	tor, err := metainfo.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return tor
}

func TestLibraryRemembers(t *testing.T) {
	l := library(filepath.Join(t.TempDir(), "a", "library"))
	want := torrentOf(t, "content", metainfo.CreateOptions{
		Trackers: [][]string{{"http://a.example/", "http://b.example/"}, {"udp://c.example:1"}},
		WebSeeds: []string{"http://seed.example/"}, Comment: "a comment", Created: time.Unix(1e9, 0), Private: true,
	})
	want.Nodes = []string{"node.example:1"}
	if _, err := l.get(want.InfoHash); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("from an empty library: %v", err)
	}
	const url = "https://host.example/x.torrent?key=1"
	for _, from := range []string{url, ""} { // the second time it does not come from there, which forgets nothing
		if err := l.put(want, from); err != nil {
			t.Fatal(err)
		}
	}
	fewer := *want
	fewer.Trackers, fewer.WebSeeds = want.Trackers[:1], nil
	if err := l.put(&fewer, ""); err != nil {
		t.Fatal(err)
	}
	got, err := l.get(want.InfoHash)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
	if got, err := l.byURL(url); err != nil || got.InfoHash != want.InfoHash {
		t.Errorf("by its URL: %v", err)
	}
	if _, err := l.byURL("https://host.example/"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("by another URL: %v", err)
	}
	if info, err := os.Stat(l.path(want.InfoHash)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read it: %v, %v", info.Mode(), err)
	}
	if gone, err := l.forget(want.InfoHash); !gone || err != nil {
		t.Error(gone, err)
	}
	if gone, err := l.forget(want.InfoHash); gone || err != nil {
		t.Error(gone, err)
	}
}

func TestLibraryBelievesNothing(t *testing.T) {
	l := library(t.TempDir())
	one, two := torrentOf(t, "one", metainfo.CreateOptions{}), torrentOf(t, "two", metainfo.CreateOptions{})
	if err := l.put(one, ""); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(l.path(one.InfoHash))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": nil, "torn": good[:len(good)/2], "another torrent": good, "nonsense": []byte("{}"), "null": []byte("null"),
	} {
		if err := os.WriteFile(l.path(two.InfoHash), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := l.get(two.InfoHash); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if err := l.put(two, ""); err != nil { // over the nonsense
		t.Fatal(err)
	}
	if _, err := l.get(two.InfoHash); err != nil {
		t.Error(err)
	}
}

// FuzzRecord: a file of the library, whatever is in it, gives the torrent of its hash or an error, and says the same when it
// is written again.
func FuzzRecord(f *testing.F) {
	good := torrentOf(f, "one", metainfo.CreateOptions{})
	for _, r := range []record{
		{Info: good.Info, Trackers: [][]string{{"http://t.example/announce"}, {}}, WebSeeds: []string{"http://w.example/"}, Created: 1 << 62},
		{Info: good.Info[:20]}, {},
	} {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{"", "null", "{}", `{"info":""}`, `{"info":3}`, `{"trackers":[[1]]}`, strings.Repeat("[", 20_000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r *record
		var err error
		if took := heap.Allocated(func() { r, err = parseRecord(b) }); took > 64<<10+64*uint64(len(b)) {
			t.Errorf("%d bytes allocated for %d", took, len(b))
		}
		if err != nil {
			return
		}
		tor, err := r.torrent(sha1.Sum(r.Info))
		if err != nil {
			return
		}
		if _, err := r.torrent(metainfo.Hash{1}); err == nil {
			t.Error("taken for another torrent")
		}
		printed, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRecord(printed)
		if err != nil {
			t.Fatalf("%s: %v", printed, err)
		}
		if other, err := again.torrent(tor.InfoHash); err != nil || other.InfoHash != tor.InfoHash || !other.Created.Equal(tor.Created) {
			t.Errorf("%+v became %+v, %v", tor, other, err)
		}
	})
}

func TestLibraryPrunes(t *testing.T) {
	l := library(t.TempDir())
	var hashes []metainfo.Hash
	for i, content := range []string{"a", "b", "c", "d"} { // the first is the oldest
		tor := torrentOf(t, content, metainfo.CreateOptions{})
		if err := l.put(tor, ""); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(l.path(tor.InfoHash), at, at); err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, tor.InfoHash)
	}
	halfWritten := filepath.Join(string(l), hashes[0].String()+".1234"+partExt)
	foreign := filepath.Join(string(l), "notes.json")
	for _, path := range []string{halfWritten, foreign} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	const each = 4096 // bytes
	if size := l.prune(10*each, func() map[metainfo.Hash]bool { t.Error("asked"); return nil }); size != 4*each {
		t.Errorf("%d bytes", size)
	}
	if _, err := os.Stat(halfWritten); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a crash left is still there: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
	needed := func() map[metainfo.Hash]bool { return map[metainfo.Hash]bool{hashes[0]: true} }
	if size := l.prune(2*each, needed); size != 3*each {
		t.Errorf("%d bytes", size)
	}
	var left []metainfo.Hash
	for _, b := range l.list() {
		left = append(left, b.hash)
	}
	if want := []metainfo.Hash{hashes[3], hashes[2], hashes[0]}; !slices.Equal(left, want) {
		t.Errorf("left: %v\nwant: %v", left, want)
	}
}

func TestNoLibrary(t *testing.T) {
	t.Chdir(t.TempDir())
	var l library
	tor := torrentOf(t, "content", metainfo.CreateOptions{})
	if err := l.put(tor, ""); err != nil {
		t.Error(err)
	}
	if _, err := l.get(tor.InfoHash); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if size := l.prune(0, nil); size != 0 {
		t.Error(size)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("it wrote to the working directory: %v, %v", left, err)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"torrentfs/fetch/metainfo"
)

// testTorrent has what info may have to show, a hostile name among it.
func testTorrent() *metainfo.Torrent {
	return &metainfo.Torrent{
		Name:        "Album",
		InfoHash:    metainfo.Hash{0x01, 0x23},
		Info:        []byte("d9:file treede12:meta versioni2ee"), // a hybrid
		PieceLength: 256 << 10,
		Pieces:      make([][20]byte, 6),
		Length:      1400000,
		MultiFile:   true,
		Private:     true,
		Created:     time.Date(2024, 2, 29, 12, 30, 0, 0, time.UTC),
		Comment:     "a \x1b[31mred\x1b[0m comment\nof two lines",
		CreatedBy:   "someone",
		Trackers:    [][]string{{"http://a.example/announce", "udp://b.example:80"}, {"http://a.example/announce"}},
		WebSeeds:    []string{"https://seed.example/"},
		Files: []metainfo.File{
			{Path: "Album/one \u202esong.flac", Length: 1000000},
			{Path: "Album/.pad/1", Offset: 1000000, Length: 310720, Padding: true},
			{Path: "Album/two & <three>.flac", Offset: 1310720, Length: 89280},
			{Path: "Album/link to two", Offset: 1310720, Length: 89280},
			{Path: "Album/empty", Offset: 1400000},
		},
	}
}

func TestInfoText(t *testing.T) {
	var out bytes.Buffer
	if err := printInfo(&out, testTorrent()); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "info.txt"), out.Bytes())
	if strings.ContainsAny(out.String(), "\x1b\u202e") {
		t.Error("a stranger's control characters reach the terminal")
	}
}

func TestInfoJSON(t *testing.T) {
	var out bytes.Buffer
	if err := printInfoJSON(&out, testTorrent()); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "info.json"), out.Bytes())
}

func TestInfoOfMadeTorrents(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "folder")
	for path, length := range map[string]int{"a": 40000, "sub/b": 0, "sub/c": 7} {
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, length), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, path string
		opt        metainfo.CreateOptions
		want       infoJSON // but for the info-hash
	}{
		{
			"single file", filepath.Join(folder, "a"),
			metainfo.CreateOptions{PieceLength: 16 << 10},
			infoJSON{
				Name: "a", PieceLength: 16 << 10, Pieces: 3, TotalSize: 40000,
				Trackers: []string{}, WebSeeds: []string{}, Files: []fileJSON{{"a", 40000}},
			},
		},
		{
			"folder", folder,
			metainfo.CreateOptions{
				PieceLength: 32 << 10, Private: true, Trackers: [][]string{{"http://a.example/announce"}},
				WebSeeds: []string{"http://seed.example/"},
			},
			infoJSON{
				Name: "folder", PieceLength: 32 << 10, Pieces: 2, TotalSize: 40007, Private: true,
				Trackers: []string{"http://a.example/announce"}, WebSeeds: []string{"http://seed.example/"},
				Files: []fileJSON{{"folder/a", 40000}, {"folder/sub/b", 0}, {"folder/sub/c", 7}},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, err := metainfo.Create(t.Context(), test.path, test.opt, nil)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "made.torrent")
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			tor, err := metainfo.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			test.want.InfoHash = tor.InfoHash.String()

			ran := runProgram(t, "info", "--json", path)
			if ran.code != exitOK {
				t.Fatal(ran)
			}
			var got infoJSON
			if err := json.Unmarshal([]byte(ran.stdout), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			var keys map[string]any
			if err := json.Unmarshal([]byte(ran.stdout), &keys); err != nil {
				t.Fatal(err)
			}
			if len(keys) != 10 {
				t.Errorf("%d keys", len(keys))
			}

			text := runProgram(t, "info", path)
			for _, want := range []string{test.want.Name, test.want.InfoHash, "a\n"} {
				if text.code != exitOK || !strings.Contains(text.stdout, want) {
					t.Errorf("%q is missing in %s", want, text.stdout)
				}
			}
		})
	}
}

func TestParseSourcesDropsRepeats(t *testing.T) {
	dir := t.TempDir()
	var args []string
	for _, name := range []string{"a", "b"} {
		content := filepath.Join(dir, name)
		if err := os.WriteFile(content, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		b, err := metainfo.Create(t.Context(), content, metainfo.CreateOptions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, copied := range []string{".torrent", ".copy.torrent"} {
			args = append(args, content+copied)
			if err := os.WriteFile(content+copied, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var again []string
	sources, err := parseSources(args, "", func(arg, first string) { again = append(again, arg, first) })
	if err != nil || len(sources) != 2 {
		t.Fatal(len(sources), err)
	}
	if want := []string{args[1], args[0], args[3], args[2]}; !slices.Equal(again, want) {
		t.Errorf("again: %q", again)
	}
}

func TestKindOf(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	const hash = "0123456789abcdef0123456789abcdef01234567"
	for arg, want := range map[string]kind{
		"x.torrent": torrentFile, "": torrentFile, "dir/http://x": torrentFile, "magnet:?xt=x": magnetLink,
		"MAGNET:?xt=x": magnetLink, hash: infoHash, strings.ToUpper(hash): infoHash, strings.Repeat("a7", 16): infoHash,
		"http://x/y": torrentURL, "HTTPS://x/y": torrentURL, "ftp://x/y": otherURL, "file:///x": otherURL,
		hash[1:]: torrentFile,
	} {
		if got := kindOf(arg); got != want {
			t.Errorf("%q is %d, want %d", arg, got, want)
		}
	}
	if err := os.WriteFile(hash, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := kindOf(hash); got != torrentFile {
		t.Errorf("a file with the name of an info-hash is %d", got)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "ünï çødé 漢字 🎬": "ünï çødé 漢字 🎬", `back\slash "quoted"`: `back\slash "quoted"`,
		"a\x1b[31mb": `a\x1b[31mb`, "a\nb": `a\nb`, "a\xffb": `a\xffb`, "a\u202eb": `a\u202eb`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"/mnt/t": "/mnt/t", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "magnet:?xt=1&dn=2": "'magnet:?xt=1&dn=2'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

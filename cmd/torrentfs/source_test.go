package main

import (
	"slices"
	"strings"
	"testing"

	"torrentfs/fetch/metainfo"
)

func TestShownFiles(t *testing.T) {
	torrent := &metainfo.Torrent{Name: "t", MultiFile: true, Files: []metainfo.File{
		{Path: "t/0"}, {Path: "t/.pad/1", Padding: true}, {Path: "t/2"}, {Path: "t/3"},
	}}
	all := []string{"t/0", "t/.pad/1", "t/2", "t/3"}
	for _, test := range []struct {
		so   string // of the link
		want []string
		ok   bool
	}{
		{"", all, true},
		{"&so=0", all[:1], true},
		{"&so=0,2-3", []string{"t/0", "t/2", "t/3"}, true},
		{"&so=1-2", []string{"t/.pad/1", "t/2"}, true},
		{"&so=3-99", all[3:], true},
		{"&so=1", all, false},
		{"&so=4", all, false},
		{"&so=x", all, true},
	} {
		m, err := metainfo.ParseMagnet("magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567" + test.so)
		if err != nil {
			t.Fatal(err)
		}
		s := source{magnet: m, torrent: torrent}
		shown, ok := s.shown()
		var got []string
		for _, f := range shown.Files {
			got = append(got, f.Path)
		}
		if ok != test.ok || !slices.Equal(got, test.want) {
			t.Errorf("%q: %v, %v", test.so, got, ok)
		}
	}
	if len(torrent.Files) != 4 {
		t.Error("the torrent itself was changed")
	}
}

func TestMistypedHash(t *testing.T) {
	for arg, want := range map[string]string{
		"0123456789abcdef0123456789abcdef0123456":   "these are 39 characters",
		"0123456789abcdef0123456789abcdef0123456g":  "40 hexadecimal or 32 base32 digits",
		"AERUKZ4JVPG66AJDIVTYTK6N54ASGRL":           "these are 31 characters",
		"film.torrent":                              "nothing else that names a torrent",
		"a/0123456789abcdef0123456789abcdef0123456": "nothing else that names a torrent",
	} {
		if _, err := parseSource(arg, library("")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestWithLink(t *testing.T) {
	torrent := &metainfo.Torrent{Trackers: [][]string{{"http://a/", "http://b/"}}, WebSeeds: []string{"http://s/"}}
	got := withLink(torrent, metainfo.Magnet{
		Trackers: []string{"http://b/", "http://c/"}, WebSeeds: []string{"http://s/", "http://r/"},
	})
	if len(got.Trackers) != 2 || !slices.Equal(got.Trackers[1], []string{"http://c/"}) || !slices.Equal(got.WebSeeds, []string{"http://s/", "http://r/"}) {
		t.Errorf("%v %v", got.Trackers, got.WebSeeds)
	}
	if len(torrent.Trackers) != 1 || len(torrent.WebSeeds) != 1 {
		t.Error("the torrent itself was changed")
	}
}

func TestLabel(t *testing.T) {
	hash := metainfo.Hash{1}
	for want, s := range map[string]source{
		"name":         {torrent: &metainfo.Torrent{Name: "name"}, kind: magnetLink},
		"from link":    {kind: magnetLink, magnet: metainfo.Magnet{InfoHash: hash, Name: "from link"}},
		hash.String():  {kind: magnetLink, arg: "magnet:?xt=...", magnet: metainfo.Magnet{InfoHash: hash}},
		`http://a/\n`:  {kind: torrentURL, arg: "http://a/\n"},
		"ABCDEF012345": {kind: infoHash, arg: "ABCDEF012345"},
	} {
		if got := s.label(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

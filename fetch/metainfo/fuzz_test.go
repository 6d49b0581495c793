package metainfo

import (
	"bytes"
	"testing"

	"torrentfs/fetch/fetchtest/heap"
)

// maxSeed keeps the seeds small; the table's larger cases are about bounds, which mutation does not find.
const maxSeed = 2 << 10

func FuzzParse(f *testing.F) {
	for _, c := range badTorrents() {
		if len(c.data) <= maxSeed {
			f.Add([]byte(c.data))
		}
	}
	for _, s := range []string{
		"url-list", "http://w.example/f", "announce", "http://t.example/\x01", "comment", "a\x00\nb\t\x1b", "created by", "x",
	} {
		f.Add([]byte(torrent(single(), "announce-list", "ll10:udp://t:80el0:ee", "creation date", "i1700000000e", "comment", bstr(s), "url-list", bstr("http://"+s))))
	}
	f.Add([]byte(torrent(single("length", "", "files", blist(bfile("a"))), "url-list", strs("http://w.example/a", "http://w.example/b/"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var tor *Torrent
		var err error
		// As TestHostileSizes has it: some times the input, and what the parts of lists may take.
		if took := heap.Allocated(func() { tor, err = Parse(b) }); took > 64<<10+4*maxParts || took > 64<<10+512*uint64(len(b)) {
			t.Errorf("%d bytes allocated for %d", took, len(b))
		}
		if err == nil {
			checkTorrent(t, "", tor)
		}
		if !bytes.Equal(b, before) {
			t.Error("the input was changed")
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	for _, c := range badTorrents() {
		if root, _, err := scan([]byte(c.data)); err == nil && len(c.data) <= maxSeed {
			if info, ok := root.member("info"); ok {
				f.Add([]byte(info))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if tor, err := ParseInfo(b); err == nil {
			if !bytes.Equal(tor.Info, b) {
				t.Error("Info is not what was given")
			}
			checkTorrent(t, "", tor)
		}
	})
}

// FuzzScan checks the scan against a walk over what it let pass, and that what Decode fits to a type is well
// formed and stays as it is when fitted again.
func FuzzScan(f *testing.F) {
	for _, c := range badTorrents() {
		if len(c.data) <= maxSeed {
			f.Add([]byte(c.data))
		}
	}
	for _, s := range []string{"d3:inti-7e3:str3:abce", "d5:peersld2:ip1:xeee", "d5:listsll1:aeleee", "d3:anyl4:hosti80eee", "d1:md1:a1:x1:bi1eee",
		"d5:innerdee", "d5:innerl1:xee", "d6:innersl1:xi1edeee", "d4:intsl1:xi7elee", "d4:porti70000ee", "d4:porti80e5:smalli300ee", "d1:mli1eee", "d3:anyllee"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if took := heap.Allocated(func() { _, _, _ = scan(b) }); took > 16<<10+16*uint64(len(b)) {
			t.Errorf("%d bytes allocated to scan %d", took, len(b))
		}
		v, rest, err := scan(b)
		if err != nil {
			return
		}
		if len(v)+len(rest) != len(b) || skip(b, 0) != len(v) {
			t.Fatalf("%d bytes were scanned as %d and %d, %d are skipped", len(b), len(v), len(rest), skip(b, 0))
		}
		walk(t, v)
		var r reply
		if decode(v, &r) != nil {
			return
		}
		var raw Raw
		if err := Decode(v, &raw); err != nil || string(raw) != string(v) {
			t.Errorf("raw is %q of %q (%v)", raw, v, err)
		}
		if r.Peers != "" {
			if _, rest, err := scan([]byte(r.Peers)); err != nil || len(rest) > 0 {
				t.Errorf("%q was taken for one value", r.Peers)
			}
		}
	})
}

// walk checks that every value inside of v is a whole one.
func walk(t *testing.T, v value) {
	if again, rest, err := scan(v); err != nil || len(rest) > 0 || len(again) != len(v) {
		t.Errorf("%q is not a whole value (%v)", v, err)
	}
	for e := range v.elements() {
		walk(t, e)
	}
	for _, m := range v.members() {
		walk(t, m)
	}
}

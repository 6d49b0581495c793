package metainfo

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// words are components that collide in every way they can; the last two are about padding.
var words = []string{"a", "b", "A", "a.txt", "a (2)", "a (2).txt", "a (3)", "", ".", "..", "_", "__", "a\x00", "a\x01", "a/b", "\xff", "é",
	strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("é", 128), " ", ".hidden", "0", ".pad", "_____padding_file_0"}

// generate makes the .torrent file that a script describes, one file for each of its lines: the first byte of a
// line is for attributes, the second for the length, and each of the others for a component. Every such torrent
// is fit to be opened if it has content.
func generate(pieceLength uint16, script string) (data string, length int64) {
	var files []string
	for line := range strings.SplitSeq(script, "\n") {
		if len(line) < 3 {
			continue
		}
		var components []string
		for _, c := range []byte(line[2:min(len(line), 12)]) {
			components = append(components, words[int(c)%len(words)])
		}
		pairs := []string{"length", fmt.Sprintf("i%de", line[1]), "path", strs(components...)}
		switch line[0] % 8 {
		case 1:
			pairs = append(pairs, "attr", "1:p")
		case 2:
			pairs = append(pairs, "attr", "2:xh")
		case 3:
			pairs = append(pairs, "attr", "1:l", "length", "i0e", "symlink path", strs(components[0]))
		case 4:
			pairs = append(pairs, "path", strs("other"), "path.utf-8", strs(components...))
		}
		if line[0]%8 != 3 {
			length += int64(line[1])
		}
		files = append(files, bdict(pairs...))
	}
	size := max(int64(pieceLength), 1)
	info := single("length", "", "name", "1:r", "piece length", fmt.Sprintf("i%de", size), "files", blist(files...),
		"pieces", hashes(int((length+size-1)/size)))
	return torrent(info), length
}

// FuzzTree looks for a tree of files that is not safe and unique.
func FuzzTree(f *testing.F) {
	for seed := range uint64(50) {
		pieceLength, script := randomScript(seed)
		f.Add(pieceLength, script)
	}
	f.Add(uint16(16), "\x00\x05\x00\n\x03\x05\x01\n\x03\x05\x00\n\x00\x05\x17\x16\n\x00\x05\x18") // links and old padding
	f.Fuzz(func(t *testing.T, pieceLength uint16, script string) {
		data, length := generate(pieceLength, script)
		tor, err := Parse([]byte(data))
		switch {
		case length == 0 && err == nil:
			t.Error("a torrent without content was opened")
		case length == 0:
		case err != nil:
			t.Error(err)
		default:
			checkTorrent(t, "", tor)
		}
	})
}

// randomScript describes a torrent without symbolic links and old kinds of padding, which clients differ about.
func randomScript(seed uint64) (pieceLength uint16, script string) {
	r := rand.New(rand.NewPCG(seed, 0))
	first := r.IntN(len(words) - 2) // few words, so that they collide
	var b []byte
	for range 1 + r.IntN(12) {
		b = append(b, "\x00\x01\x02\x04"[r.IntN(4)], byte(r.IntN(256)))
		for range 1 + r.IntN(3) {
			b = append(b, byte(min(first+r.IntN(3), len(words)-3)))
		}
		b = append(b, '\n')
	}
	return uint16(1 + r.IntN(1000)), string(b)
}

// TestRandomTreesAsOthersDo has libtorrent and transmission read some random torrents: what they open is opened
// here, with the same layout.
func TestRandomTreesAsOthersDo(t *testing.T) {
	show := need(t, "transmission-show")
	var cases []badTorrent
	var files []string
	for seed := range uint64(60) {
		data, length := generate(randomScript(seed))
		if length == 0 {
			continue
		}
		cases = append(cases, badTorrent{name: fmt.Sprint("seed ", seed), data: data})
		file := filepath.Join(t.TempDir(), "t.torrent")
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	opened := 0
	for i, r := range askLibtorrent(t, files) {
		tor, err := Parse([]byte(cases[i].data))
		if err != nil {
			t.Errorf("%s: %v", cases[i].name, err)
			continue
		}
		if r.OK {
			opened++
			compare(t, cases[i], "libtorrent", tor, r)
		}
		if i%4 == 0 { // a process for each
			if r := askTransmission(t, show, files[i]); r.OK {
				compare(t, cases[i], "transmission", tor, r)
			}
		}
	}
	if opened < len(cases)/2 {
		t.Errorf("libtorrent opened only %d of %d", opened, len(cases))
	}
}

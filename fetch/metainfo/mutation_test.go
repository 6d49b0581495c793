package metainfo

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// node is a bencoded value taken apart, to be changed: a list, a dictionary, or else its text.
type node struct {
	kind     byte // l, d, or 0
	text     string
	children []*node // of a dictionary, keys and values in turn
}

func parseNode(v value) *node {
	switch {
	case v.isList():
		n := &node{kind: 'l'}
		for e := range v.elements() {
			n.children = append(n.children, parseNode(e))
		}
		return n
	case v.isDict():
		n := &node{kind: 'd'}
		for k, m := range v.members() {
			n.children = append(n.children, &node{text: bstr(string(k))}, parseNode(m))
		}
		return n
	}
	return &node{text: string(v)}
}

func (n *node) print(b *strings.Builder) {
	if n.kind == 0 {
		b.WriteString(n.text)
		return
	}
	b.WriteByte(n.kind)
	for _, c := range n.children {
		c.print(b)
	}
	b.WriteByte('e')
}

// all lists a value and every value in it.
func (n *node) all() []*node {
	list := []*node{n}
	for _, c := range n.children {
		list = append(list, c.all()...)
	}
	return list
}

// oddities are values that are put in the place of others.
var oddities = []string{
	"i0e", "i1e", "i-1e", "i16383e", "i16384e", "i2147483647e", "i2147483648e", "i4294967296e", "i9007199254740993e",
	"i9223372036854775807e", "i9223372036854775808e", "i-9223372036854775808e", "0:", "1:a", "2:..", "1:/", "3:a/b", "1:\x00", "1:\xff",
	"le", "de", "l1:ae", "l0:e", "d4:name1:xe", "20:####################", "1:p", "1:l", "2:xh", "4:path", "6:length", "5:files",
	"10:path.utf-8", "10:name.utf-8", "4:attr", "12:symlink path", "7:private", "12:meta version", "6:pieces", "12:piece length",
	"8:announce", "13:announce-list", "8:url-list", "4:info",
}

// change changes a value, or one in it: another takes its place, an element goes or comes twice, a key is new.
func (n *node) change(rng *rand.Rand) {
	all := n.all()
	n = all[rng.IntN(len(all))]
	odd, _, _ := scan([]byte(oddities[rng.IntN(len(oddities))]))
	switch step := map[byte]int{'l': 1, 'd': 2}[n.kind]; {
	case step == 0 || rng.IntN(3) == 0:
		*n = *parseNode(odd)
	case rng.IntN(2) == 0 && len(n.children) > 0:
		i := step * rng.IntN(len(n.children)/step)
		n.children = slices.Delete(n.children, i, i+step)
	case step == 1 && len(n.children) > 0:
		n.children = append(n.children, n.children[rng.IntN(len(n.children))])
	case step == 2:
		n.children = append(n.children, &node{text: bstr(fmt.Sprint("x", rng.IntN(1000)))}, parseNode(odd))
	}
}

// mutate makes a change to a .torrent, or a few, and now and then flips a bit of what comes of it.
func mutate(data string, rng *rand.Rand) string {
	v, _, err := scan([]byte(data))
	if err != nil {
		return data
	}
	root := parseNode(v)
	for changes := 1; changes > 0; changes-- {
		root.change(rng)
		changes += rng.IntN(4) / 3
	}
	var b strings.Builder
	root.print(&b)
	mutated := []byte(b.String())
	if rng.IntN(8) == 0 {
		mutated[rng.IntN(len(mutated))] ^= 1 << rng.IntN(7)
	}
	return string(mutated)
}

// stricter are the reasons for which torrents are refused that libtorrent opens; the table of cases argues for each.
var stricter = []string{"duplicate key", "integer is not canonical", "nested deeper", "v2-only", "more than 255 components", "has no valid length"}

// TestMutationsAsLibtorrentDoes has libtorrent read some thousand torrents changed at random: what it opens is opened here
// with the same info-hash and layout, but for the reasons that the table argues for.
func TestMutationsAsLibtorrentDoes(t *testing.T) {
	const n = 4000
	var cases []badTorrent
	for _, c := range badTorrents() {
		if c.err == "" && len(c.data) < 2<<10 {
			cases = append(cases, c)
		}
	}
	rng := rand.New(rand.NewPCG(7, 31))
	dir := t.TempDir()
	var mutants []badTorrent
	var files []string
	for i := range n {
		c := cases[rng.IntN(len(cases))]
		c.data = mutate(c.data, rng)
		mutants = append(mutants, c)
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".torrent")))
		if err := os.WriteFile(files[i], []byte(c.data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opened, refused := 0, make(map[string]int)
	for i, r := range askLibtorrent(t, files) {
		c := mutants[i]
		tor, err := Parse([]byte(c.data))
		if err == nil {
			checkTorrent(t, c.name, tor)
		}
		if !r.OK || r.Hash == strings.Repeat("0", 40) { // as version 2 alone
			continue
		}
		opened++
		if err == nil {
			if ours, theirs := layout(tor), r.layout(); ours != theirs {
				t.Errorf("of %q: %q is read as\n%s, by libtorrent as\n%s", c.name, c.data, ours, theirs)
			}
			continue
		}
		why := slices.IndexFunc(stricter, func(s string) bool { return strings.Contains(err.Error(), s) })
		if why < 0 {
			t.Errorf("of %q: libtorrent opens %q, not here: %v", c.name, c.data, err)
			continue
		}
		refused[stricter[why]]++
	}
	if opened < n/10 {
		t.Errorf("libtorrent opened only %d of %d", opened, n)
	}
	t.Logf("libtorrent opened %d of %d, of which refused here: %v", opened, n, refused)
}

// layout is what has to be the same wherever a torrent is opened: what it is called by, and where the bytes of its files are.
// What a link leads to and what is padding clients differ about, and about what is empty.
func layout(tor *Torrent) string {
	s := fmt.Sprintf("%v %d %d", tor.InfoHash, tor.Length, tor.PieceLength)
	var end int64
	for _, f := range tor.Files {
		if f.Length > 0 && f.Offset >= end { // else it is a link, here another name for the bytes of the file before
			end = f.Offset + f.Length
			s += fmt.Sprintf(" %d+%d", f.Offset, f.Length)
		}
	}
	return s
}

func (r *reading) layout() string {
	s := fmt.Sprintf("%s %d %d", r.Hash, r.Length, r.PieceLength)
	for _, f := range r.Files {
		if f.Length > 0 && !f.Link {
			s += fmt.Sprintf(" %d+%d", f.Offset, f.Length)
		}
	}
	return s
}

// TestMutatedMagnetsAsLibtorrentDoes does the same for magnet links.
func TestMutatedMagnetsAsLibtorrentDoes(t *testing.T) {
	var links []string
	for _, c := range badMagnets() {
		if c.err == "" && len(c.link) < 1<<10 {
			links = append(links, c.link)
		}
	}
	rng := rand.New(rand.NewPCG(7, 32))
	pieces := []string{"&", "=", "%", "%3a", "?", "xt=", "xt.1=", "urn:btih:", "urn:btmh:", hexHash, base32Hash, v2Hash, "&dn=", "&tr=", "+", "#", "amp;", "\x00", "é"}
	var mutants []string
	for range 3000 {
		b := links[rng.IntN(len(links))]
		for range 1 + rng.IntN(2) {
			i := rng.IntN(len(b))
			switch rng.IntN(3) {
			case 0:
				b = b[:i] + pieces[rng.IntN(len(pieces))] + b[i:]
			case 1:
				b = b[:i] + b[min(i+1+rng.IntN(8), len(b)):]
			case 2:
				b = b[:i] + string(rune(' '+rng.IntN(95))) + b[i+1:]
			}
			if b == "" {
				b = "m"
			}
		}
		if strings.HasPrefix(strings.ToLower(b), "magnet:") {
			mutants = append(mutants, b)
		}
	}
	opened := 0
	written := []string{hexHash, strings.Repeat("f", 40)}
	for i, r := range askLibtorrent(t, mutants) {
		m, err := ParseMagnet(mutants[i])
		if err == nil {
			checkMagnet(t, m)
		}
		if !r.OK || !slices.Contains(written, r.Hash) { // it takes any digits for some hash or other
			continue
		}
		opened++
		switch {
		case err == nil && m.InfoHash.String() != r.Hash:
			t.Errorf("%q: info-hash %v, libtorrent reads %s", mutants[i], m.InfoHash, r.Hash)
		case err != nil:
			t.Errorf("libtorrent opens %q, not here: %v", mutants[i], err)
		}
	}
	if opened < len(mutants)/10 {
		t.Errorf("libtorrent opened only %d of %d", opened, len(mutants))
	}
	t.Logf("libtorrent opened %d of %d", opened, len(mutants))
}

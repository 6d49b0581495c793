package metainfo

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"torrentfs/fetch/fetchtest/heap"
)

const (
	hexHash    = "0123456789abcdef0123456789abcdef01234567"
	base32Hash = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH" // the same
	v2Hash     = "1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e"
	xt         = "magnet:?xt=urn:btih:" + hexHash
)

// badMagnet is a magnet link, good, odd or bad, and what is to become of it.
type badMagnet struct {
	name, link string
	// want is the parts that were given, or, if err is set, a part of the error.
	want   string
	err    string
	strict string
}

func badMagnets() []badMagnet {
	ok := func(name, link, want string) badMagnet { return badMagnet{name: name, link: link, want: want} }
	bad := func(name, link, err string) badMagnet { return badMagnet{name: name, link: link, err: err} }
	strict := func(name, link, err, why string) badMagnet {
		return badMagnet{name: name, link: link, err: err, strict: why}
	}
	const lenient = "libtorrent takes any digits for some hash or other"
	return []badMagnet{
		ok("plain", xt, ""),
		ok("base32", "magnet:?xt=urn:btih:"+base32Hash, ""),
		ok("lower-case base32", "magnet:?xt=urn:btih:"+strings.ToLower(base32Hash), ""),
		ok("upper-case hexadecimal", "magnet:?xt=urn:btih:"+strings.ToUpper(hexHash), ""),
		ok("scheme in capitals", "MAGNET:?xt=urn:btih:"+hexHash, ""),
		ok("blanks around", "  "+xt+"\r\n", ""),
		ok("escaped colons", "magnet:?xt=urn%3Abtih%3A"+hexHash, ""),
		ok("escaped hash", "magnet:?xt=urn:btih:%30"+hexHash[1:], ""),
		ok("upper-case topic", "magnet:?xt=URN:BTIH:"+hexHash, ""),
		ok("upper-case key", "magnet:?XT=urn:btih:"+hexHash, ""),
		ok("numbered topic", "magnet:?xt.1=urn:btih:"+hexHash, ""),
		ok("topic last", "magnet:?dn=a&xt=urn:btih:"+hexHash, "dn=a"),
		ok("other topic first", "magnet:?xt=urn:ed2k:354B15E68FB8F36D7CD88FF94116CDC1&xt=urn:btih:"+hexHash, ""),
		ok("bad topic first", "magnet:?xt=urn:btih:xyz&xt=urn:btih:"+hexHash, ""),
		ok("two hashes", "magnet:?xt=urn:btih:"+strings.Repeat("f", 40)+"&xt=urn:btih:"+hexHash, ""),
		ok("hybrid", "magnet:?xt=urn:btmh:"+v2Hash+"&xt=urn:btih:"+hexHash, ""),
		ok("out of HTML", "magnet:?xt=urn:btih:"+hexHash+"&amp;dn=a&amp;tr=http://t.example/", "dn=a tr=http://t.example/"),
		ok("stray ampersands", "magnet:?&&xt=urn:btih:"+hexHash+"&&dn=a&", "dn=a"),
		ok("unknown parameters", xt+"&x.foo=1&kt=a+b&mt=http://x.example/&xl=123", ""),
		ok("parameter without value", xt+"&dn&tr&ws=&x.pe", ""),
		ok("fragment", xt+"&dn=a#b", "dn=a#b"),
		ok("no separator before the question mark's parameters", "magnet:?"+"xt=urn:btih:"+hexHash+"&dn=a=b", "dn=a=b"),

		bad("empty", "", "is not a magnet link"),
		bad("only the scheme", "magnet:", "is not a magnet link"),
		bad("no parameters", "magnet:?", "has no info-hash"),
		bad("another scheme", "http://example/?xt=urn:btih:"+hexHash, "is not a magnet link"),
		bad("no topic", "magnet:?dn=a", "has no info-hash"),
		bad("empty topic", "magnet:?xt=", "has no info-hash"),
		bad("topic without hash", "magnet:?xt=urn:btih:", "has no info-hash"),
		bad("another topic", "magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", "has no info-hash"),
		bad("39 digits", "magnet:?xt=urn:btih:"+hexHash[1:], "has 39 characters"),
		bad("41 digits", "magnet:?xt=urn:btih:"+hexHash+"0", "has 41 characters"),
		strict("letters past f", "magnet:?xt=urn:btih:g"+hexHash[1:], "neither hexadecimal nor base32", lenient),
		strict("1 in base32", "magnet:?xt=urn:btih:1"+base32Hash[1:], "neither hexadecimal nor base32", lenient),
		bad("padding in base32", "magnet:?xt=urn:btih:"+base32Hash[:26]+"======", "neither hexadecimal nor base32"),
		bad("bad escape in the topic", "magnet:?xt=urn:btih:"+hexHash[:38]+"%zz", "has no info-hash"),
		strict("zero bytes", "magnet:?xt=urn:btih:"+strings.Repeat("%00", 40), "neither hexadecimal nor base32", lenient),
		strict("v2 only", "magnet:?xt=urn:btmh:"+v2Hash, "v2-only torrents are not supported yet", "not done yet"),
		strict("too long", xt+"&dn="+strings.Repeat("a", maxMagnet), "larger than", "no honest link is"),

		ok("name", xt+"&dn=My+File%20%C3%A9.mkv", "dn=My File é.mkv"),
		ok("first name counts", xt+"&dn=&dn=a&dn=b", "dn=a"),
		ok("name that climbs", xt+"&dn=..%2F..%2Fetc", "dn=.._.._etc"),
		ok("name is two dots", xt+"&dn=..", "dn=__"),
		ok("name with a zero byte", xt+"&dn=a%00b", "dn=a_b"),
		ok("name of invalid UTF-8", xt+"&dn=a%ffb", "dn=a_b"),
		ok("name of 300 bytes", xt+"&dn="+strings.Repeat("x", 300)+".mkv", "dn="+strings.Repeat("x", 251)+".mkv"),
		ok("name with a bad escape", xt+"&dn=100%&tr=http://t.example/", "tr=http://t.example/"),

		ok("trackers", xt+"&tr=http%3A%2F%2Fa.example%2Fannounce%3Fk%3Dv&tr=udp://b.example:80", "tr=http://a.example/announce?k=v tr=udp://b.example:80"),
		ok("numbered trackers", xt+"&tr.0=http://a.example/&tr.1=http://b.example/", "tr=http://a.example/ tr=http://b.example/"),
		ok("same tracker twice", xt+"&tr=http://a.example/&tr=http://a.example/", "tr=http://a.example/"),
		ok("empty tracker", xt+"&tr=&tr=http://a.example/", "tr=http://a.example/"),
		ok("tracker is no URL", xt+"&tr=abc&tr=//x&tr=http://", ""),
		ok("tracker with a newline", xt+"&tr=http://a.example/%0aHost:x", ""),
		ok("thousands of trackers", xt+numbered("&tr=http://a.example/", 5000), "tr×1000"),
		ok("peers", xt+"&x.pe=192.0.2.1:6881&x.pe=[2001:db8::1]:6881&x.pe=host.example:1", "x.pe=192.0.2.1:6881 x.pe=[2001:db8::1]:6881 x.pe=host.example:1"),
		ok("bad peers", xt+"&x.pe=192.0.2.1&x.pe=:1&x.pe=a:0&x.pe=a:65536&x.pe=a:-1&x.pe=a:b&x.pe=2001:db8::1:6881&x.pe=a%20b:1&x.pe=a/b:1", ""),
		ok("thousands of peers", xt+numbered("&x.pe=h:", 5000), "x.pe×1000"),
		ok("web seeds", xt+"&ws=http://a.example/f&ws=ftp://b.example/", "ws=http://a.example/f ws=ftp://b.example/"),
		ok("sources", xt+"&xs=http://a.example/t.torrent&as=https://b.example/t", "xs=http://a.example/t.torrent xs=https://b.example/t"),
		ok("sources of other kinds", xt+"&xs=urn:btpk:00&xs=dchub://x.example/", "xs=dchub://x.example/"),
		ok("sources that are files", xt+"&xs=file:///etc/passwd&as=/etc/passwd", ""),

		ok("selection", xt+"&so=0,2,4-8", "so=[{0 0} {2 2} {4 8}]"),
		ok("selection in two parts", xt+"&so=0&so=5", "so=[{0 0} {5 5}]"),
		ok("bad selection", xt+"&so=-1,a,3-1,1-,-,,%20,2147483648,0-99999999999,1.5", ""),
		ok("selection of one in a range", xt+"&so=7-7", "so=[{7 7}]"),
		ok("thousands of selections", xt+"&so="+strings.Repeat("1,", 5000), "so×1000"),
	}
}

// numbered is s with each number below n behind it.
func numbered(s string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s%d", s, i)
	}
	return b.String()
}

// parts writes what a link gave beside the hash.
func parts(m Magnet) string {
	var list []string
	if m.Name != "" {
		list = append(list, "dn="+m.Name)
	}
	add := func(key string, values []string) {
		if len(values) > 100 {
			values = []string{fmt.Sprintf("×%d", len(values))}
			list = append(list, key+values[0])
			return
		}
		for _, v := range values {
			list = append(list, key+"="+v)
		}
	}
	add("tr", m.Trackers)
	add("x.pe", m.Peers)
	add("ws", m.WebSeeds)
	add("xs", m.Sources)
	if len(m.Select) > 100 {
		list = append(list, fmt.Sprintf("so×%d", len(m.Select)))
	} else if m.Select != nil {
		list = append(list, fmt.Sprintf("so=%v", m.Select))
	}
	return strings.Join(list, " ")
}

func TestBadMagnets(t *testing.T) {
	for _, c := range badMagnets() {
		m, err := ParseMagnet(c.link)
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
		if got := parts(m); m.InfoHash.String() != hexHash || got != c.want {
			t.Errorf("%s: %v %s, want %s", c.name, m.InfoHash, got, c.want)
		}
		checkMagnet(t, m)
	}
}

// checkMagnet checks what holds for every magnet link.
func checkMagnet(t *testing.T, m Magnet) {
	t.Helper()
	if m.Name != "" {
		checkName(t, m.Name)
	}
	again, err := ParseMagnet(m.String())
	if err != nil || !reflect.DeepEqual(m, again) {
		t.Errorf("%q is read as %+v, not %+v (%v)", m.String(), again, m, err)
	}
}

func TestMagnetsAsLibtorrentDoes(t *testing.T) {
	var links []string
	for _, c := range badMagnets() {
		links = append(links, c.link)
	}
	for i, r := range askLibtorrent(t, links) {
		c := badMagnets()[i]
		m, err := ParseMagnet(c.link)
		switch {
		case err != nil && r.OK && c.strict == "":
			t.Errorf("%s: libtorrent opens it, not here: %v", c.name, err)
		case err == nil && r.OK && m.InfoHash.String() != r.Hash:
			t.Errorf("%s: info-hash %v, libtorrent reads %s", c.name, m.InfoHash, r.Hash)
		}
	}
}

func FuzzMagnet(f *testing.F) {
	for _, c := range badMagnets() {
		if len(c.link) < 1<<10 {
			f.Add(c.link)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		if took := heap.Allocated(func() { _, _ = ParseMagnet(s) }); took > 64<<10+512*uint64(len(s)) {
			t.Errorf("%d bytes allocated for %d", took, len(s))
		}
		if m, err := ParseMagnet(s); err == nil {
			checkMagnet(t, m)
		}
	})
}

func TestParseHash(t *testing.T) {
	for _, s := range []string{hexHash, strings.ToUpper(hexHash), base32Hash, strings.ToLower(base32Hash)} {
		if h, err := ParseHash(s); err != nil || h.String() != hexHash {
			t.Errorf("ParseHash(%q) = %v, %v", s, h, err)
		}
	}
	for _, s := range []string{"", "0", hexHash + "0", base32Hash + "A", " " + hexHash[1:], hexHash[:39] + "g", base32Hash[:31] + "!", base32Hash[:31] + "\n", "a\nb\r" + base32Hash[4:]} {
		if h, err := ParseHash(s); err == nil {
			t.Errorf("ParseHash(%q) = %v", s, h)
		}
	}
}

// Clients that split a link without knowing of forms would show a plus as it is.
func TestMagnetWritesNoPlus(t *testing.T) {
	m := Magnet{Name: "a b+c", Trackers: []string{"http://t.example/a?b=c d+e"}, WebSeeds: []string{"http://w.example/a b+c/"}}
	const want = "&dn=a%20b%2Bc&tr=http%3A%2F%2Ft.example%2Fa%3Fb%3Dc%20d%2Be&ws=http%3A%2F%2Fw.example%2Fa%20b%2Bc%2F"
	if got := m.String(); !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

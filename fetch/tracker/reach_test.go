package tracker

import (
	"net/netip"
	"net/url"
	"testing"

	"torrentfs/fetch/reach"
)

func TestPermitPaths(t *testing.T) {
	local := netip.MustParseAddr("192.168.1.1")
	for raw, want := range map[string]bool{
		"http://h/announce":               true,
		"http://h/announce.php?a=b":       true,
		"https://h/0123abcd/announce":     true,
		"udp://h:80":                      true,
		"udp://h:80/any":                  true,
		"http://h/":                       false,
		"http://h":                        false,
		"http://h/reboot?x=/announce":     false,
		"http://h/announce/../reboot":     false,
		"http://h/announce/reboot":        false,
		"http://h/reboot#announce":        false,
		"http://h/announce%2f..%2freboot": false,
		"http://h/ANNOUNCE":               false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := permit(u, local, false) == nil; got != want {
			t.Errorf("%s: permitted %v, want %v", raw, got, want)
		}
	}
}

func TestPlausible(t *testing.T) {
	for _, c := range []struct {
		peer          string
		public, local bool
	}{
		{"1.2.3.4:5", true, true},
		{"192.168.1.2:5", true, true}, // a LAN peer of ours behind the same address
		{"127.0.0.1:5", false, true},
		{"[::1]:5", false, true},
		{"1.2.3.4:0", false, false},
		{"0.0.0.0:5", false, false},
		{"169.254.169.254:80", false, false},
		{"[fe80::1]:5", false, false},
		{"224.0.0.1:5", false, false},
	} {
		p := netip.MustParseAddrPort(c.peer)
		if plausible(p, reach.Public) != c.public || plausible(p, reach.Local) != c.local {
			t.Errorf("%s: not %v from a public and %v from a local tracker", p, c.public, c.local)
		}
	}
}

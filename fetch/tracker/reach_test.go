package tracker

import (
	"net/netip"
	"net/url"
	"testing"
)

func TestReachOf(t *testing.T) {
	for want, list := range map[reach][]string{
		reachNever: {
			"0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
			"255.255.255.255", "100.100.100.200", "168.63.129.16", "::", "fe80::1", "fe80::1%eth0", "ff02::1",
			"fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::a9fe:a9fe",
		},
		reachLocal: {
			"127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1",
			"198.18.0.1", "192.0.0.1", "::1", "fc00::1", "fd12:3456::1", "fec0::1", "::ffff:127.0.0.1",
			"::ffff:192.168.1.1", "64:ff9b::7f00:1", "64:ff9b::c0a8:101", "2002:7f00:1::1", "2002:a00:1::1", "::127.0.0.1",
		},
		reachPublic: {
			"1.1.1.1", "9.9.9.9", "172.15.0.1", "172.32.0.1", "100.128.0.1", "192.167.1.1", "223.255.255.255",
			"2606:4700::1111", "2001:db8::1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
		},
	} {
		for _, s := range list {
			if got := reachOf(netip.MustParseAddr(s)); got != want {
				t.Errorf("reach of %s is %d, want %d", s, got, want)
			}
		}
	}
	if reachOf(netip.Addr{}) != reachNever {
		t.Error("no address can be reached")
	}
}

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
		if plausible(p, reachPublic) != c.public || plausible(p, reachLocal) != c.local {
			t.Errorf("%s: not %v from a public and %v from a local tracker", p, c.public, c.local)
		}
	}
}

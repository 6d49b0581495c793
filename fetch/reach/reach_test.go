package reach

import (
	"net/netip"
	"testing"
)

func TestOf(t *testing.T) {
	for want, list := range map[Class][]string{
		Never: {
			"0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
			"255.255.255.255", "100.100.100.200", "168.63.129.16", "::", "fe80::1", "fe80::1%eth0", "ff02::1",
			"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "192.0.0.192", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::a9fe:a9fe",
		},
		Local: {
			"127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1",
			"198.18.0.1", "192.0.0.1", "::1", "fc00::1", "fd12:3456::1", "fec0::1", "::ffff:127.0.0.1",
			"::ffff:192.168.1.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "64:ff9b::c0a8:101", "2002:7f00:1::1", "2002:a00:1::1", "::127.0.0.1",
		},
		Public: {
			"1.1.1.1", "9.9.9.9", "172.15.0.1", "172.32.0.1", "100.128.0.1", "192.167.1.1", "223.255.255.255",
			"2606:4700::1111", "2001:db8::1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
		},
	} {
		for _, s := range list {
			if got := Of(netip.MustParseAddr(s)); got != want {
				t.Errorf("reach of %s is %d, want %d", s, got, want)
			}
		}
	}
	if Of(netip.Addr{}) != Never {
		t.Error("no address can be reached")
	}
}

func TestMayName(t *testing.T) {
	for _, c := range []struct {
		by, named string
		want      bool
	}{
		{"60.1.2.3", "70.1.2.3", true},
		{"60.1.2.3", "192.168.1.1", false},
		{"60.1.2.3", "100.64.0.1", false},
		{"60.1.2.3", "127.0.0.1", false},
		{"60.1.2.3", "::ffff:127.0.0.1", false},
		{"60.1.2.3", "169.254.169.254", false},
		{"60.1.2.3", "::ffff:a9fe:a9fe", false},
		{"60.1.2.3", "64:ff9b::7f00:1", false},
		{"60.1.2.3", "::1", false},
		{"60.1.2.3", "fd00::1", false},
		{"60.1.2.3", "fe80::1", false},
		{"60.1.2.3", "::", false},
		{"60.1.2.3", "224.0.0.1", false},
		{"2606:4700::1", "2606:4700::2", true},
		{"192.168.1.7", "192.168.1.1", true},
		{"192.168.1.7", "60.1.2.3", true},
		{"192.168.1.7", "127.0.0.1", false},
		{"192.168.1.7", "169.254.169.254", false},
		{"169.254.7.7", "192.168.1.1", true},
		{"fe80::1", "127.0.0.1", false},
		{"127.0.0.1", "127.0.0.2", true},
		{"127.0.0.1", "::1", true},
		{"::1", "192.168.1.1", true},
		{"127.0.0.1", "60.1.2.3", true},
		{"127.0.0.1", "169.254.169.254", false},
	} {
		if got := MayName(netip.MustParseAddr(c.by), netip.MustParseAddr(c.named)); got != c.want {
			t.Errorf("%s may name %s: %v", c.by, c.named, got)
		}
	}
}

func TestHome(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"60.1.2.3", "60.1.2.3", true},
		{"60.1.2.3", "::ffff:60.1.2.3", true},
		{"60.1.2.3", "60.1.2.4", false},
		{"2606:4700:0:1::1", "2606:4700:0:1:ffff::2", true},
		{"2606:4700:0:1::1", "2606:4700:0:2::1", false},
		{"fd00::1", "fd00::2", false},
		{"fe80::1%eth0", "fe80::1", true},
		{"fe80::1", "fe80::2", false},
	} {
		a, okA := Home(netip.MustParseAddr(c.a))
		b, okB := Home(netip.MustParseAddr(c.b))
		if !okA || !okB || (a == b) != c.same {
			t.Errorf("%s is at home in %v, %s in %v", c.a, a, c.b, b)
		}
	}
	for _, a := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		if home, ok := Home(netip.MustParseAddr(a)); ok {
			t.Errorf("%s is at home in %v", a, home)
		}
	}
}

package fetch

import (
	"net/netip"
	"slices"
	"testing"
)

func TestNameOfBothFamiliesIsOnePeer(t *testing.T) {
	at := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		addrs, told []netip.AddrPort
		dialled     string
	}{
		"both families": {
			[]netip.AddrPort{at("[2001:db8::1]:1"), at("192.0.2.1:1"), at("192.0.2.2:1")}, []netip.AddrPort{at("[2001:db8::1]:1")}, "host:1"},
		"IPv4 alone": {[]netip.AddrPort{at("192.0.2.1:1"), at("192.0.2.2:1")}, []netip.AddrPort{at("192.0.2.1:1"), at("192.0.2.2:1")}, "192.0.2.1:1"},
		"IPv6 alone": {[]netip.AddrPort{at("[2001:db8::1]:1")}, []netip.AddrPort{at("[2001:db8::1]:1")}, "[2001:db8::1]:1"},
		"none":       {},
	} {
		var n names
		if got := n.stand("host:1", c.addrs); !slices.Equal(got, c.told) {
			t.Errorf("%s: told of %v", name, got)
		}
		if len(c.addrs) > 0 {
			if got := n.of(c.addrs[0].String()); got != c.dialled {
				t.Errorf("%s: dials %s, want %s", name, got, c.dialled)
			}
		}
	}
}

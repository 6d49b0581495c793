package swarm

import (
	"encoding/hex"
	"hash/crc32"
	"net/netip"
	"testing"
	"time"
)

func TestPriority(t *testing.T) {
	of := func(digits string) uint32 {
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	}
	for _, c := range []struct {
		name, a, b string
		want       uint32
	}{
		{"the BEP's first example", "123.213.32.10:1", "98.76.54.32:2", 0xec2d7224},
		{"the BEP's second example", "123.213.32.10:1", "123.213.32.234:2", 0x99568189},
		{"different /16", "230.120.23.1:1", "230.12.123.3:2", of("e60c5101e6781501")},
		{"the same /16", "230.12.23.1:1", "230.12.123.3:2", of("e60c1701e60c7b01")},
		{"the same /24", "230.12.123.1:1", "230.12.123.3:2", of("e60c7b01e60c7b03")},
		{"the same address", "230.12.123.3:1234", "230.12.123.3:300", of("012c04d2")},
		{"different /48", "[2001:db8:ffff:ffff::1]:1", "[2001:db8:fff0:ffff::3]:2",
			of("20010db8fff05555" + "0000000000000001" + "20010db8ffff5555" + "0000000000000001")},
		{"the same /48", "[2001:db8:1:ffff:ffff::1]:1", "[2001:db8:1:ff:ffff::3]:2",
			of("20010db800010055" + "5555000000000001" + "20010db80001ff55" + "5555000000000001")},
		{"the same /56", "[2001:db8:1:ffff:ffff::1]:1", "[2001:db8:1:ff0f:ffff::3]:2",
			of("20010db80001ff0f" + "5555000000000001" + "20010db80001ffff" + "5555000000000001")},
		{"different only at the end", "[2001:db8::1]:1", "[2001:db8::3]:2",
			of("20010db8000000000000000000000001" + "20010db8000000000000000000000003")},
		{"the same IPv6 address", "[2001:db8::1]:1234", "[2001:db8::1]:300", of("012c04d2")},
		{"different families", "230.12.123.3:1", "[2001:db8::1]:1", 0},
	} {
		a, b := netip.MustParseAddrPort(c.a), netip.MustParseAddrPort(c.b)
		if there, back := priority(a, b), priority(b, a); there != c.want || back != c.want {
			t.Errorf("%s: %08x and %08x, want %08x", c.name, there, back, c.want)
		}
	}
	if got := priority(netip.AddrPort{}, netip.MustParseAddrPort("230.12.123.3:1")); got != 0 {
		t.Errorf("with no address of our own: %08x", got)
	}
}

// Candidates are tried in order of promise: those that delivered before, of these the nearest first, then by canonical
// priority, and what only peers named by chance.
func TestOrderOfPromise(t *testing.T) {
	at := netip.MustParseAddrPort
	p := newCandidates()
	p.locate([2]netip.Addr{netip.MustParseAddr("123.213.32.10"), netip.MustParseAddr("2001:db8:1::1")}, 6881)
	delivered := func(addr string, rtt time.Duration) netip.AddrPort {
		p.add(&candidate{addr: at(addr), source: byTracker})
		c := p.byAddr[at(addr)]
		c.delivered, c.rtt = true, rtt
		return c.addr
	}
	want := []netip.AddrPort{
		delivered("60.0.0.1:1", 3*time.Millisecond), delivered("60.0.0.2:1", 45*time.Millisecond),
		delivered("60.0.0.3:1", 0), delivered("60.0.0.4:1", 400*time.Millisecond),
	}
	var named []netip.AddrPort
	for _, a := range []string{"98.76.54.32:2", "123.213.32.234:2", "[2001:db8:2::1]:1", "[2001:db8:1::7]:1"} {
		named = append(named, at(a))
		p.add(&candidate{addr: at(a), source: byTracker})
	}
	p.hear(netip.MustParseAddr("98.76.54.32"), at("99.1.1.1:1"))
	var got []netip.AddrPort
	for c := p.next(0); c != nil; c = p.next(0) {
		got = append(got, c.addr)
		c.notBefore = time.Hour
	}
	if len(got) != len(want)+len(named)+1 {
		t.Fatalf("tried %v", got)
	}
	for i, a := range want {
		if got[i] != a {
			t.Errorf("number %d is %v, want %v", i, got[i], a)
		}
	}
	ours := func(a netip.AddrPort) netip.AddrPort {
		if a.Addr().Is6() {
			return at("[2001:db8:1::1]:6881")
		}
		return at("123.213.32.10:6881")
	}
	rest := got[len(want) : len(got)-1]
	for i := 1; i < len(rest); i++ {
		if priority(ours(rest[i-1]), rest[i-1]) <= priority(ours(rest[i]), rest[i]) {
			t.Errorf("%v comes before %v", rest[i-1], rest[i])
		}
	}
	if last := got[len(got)-1]; last != at("99.1.1.1:1") {
		t.Errorf("the last is %v", last)
	}
}

// An address of ours that becomes known later counts from then on.
func TestOurAddressBecomesKnown(t *testing.T) {
	at := netip.MustParseAddrPort
	p := newCandidates()
	for n := range 50 {
		p.add(&candidate{addr: addr4(40, byte(n), n), source: byTracker})
	}
	self := at("123.213.32.10:6881")
	p.locate([2]netip.Addr{self.Addr()}, self.Port())
	last := ^uint32(0)
	for c := p.next(0); c != nil; c = p.next(0) {
		if now := priority(self, c.addr); now > last {
			t.Fatalf("%08x after %08x", now, last)
		} else {
			last = now
		}
		c.notBefore = time.Hour
	}
}

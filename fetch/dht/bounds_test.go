package dht

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func ip4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func TestStoreBounds(t *testing.T) {
	s := newStore()
	now := time.Unix(1e9, 0)
	hash := [idSize]byte{1}
	for i := range uint16(3 * maxAnnounced) {
		s.add(hash, netip.AddrPortFrom(ip4(1<<24), i+1), now.Add(time.Duration(i)*time.Second))
	}
	later := now.Add(3 * maxAnnounced * time.Second)
	if n := len(s.torrents[hash]); n != maxAnnounced {
		t.Errorf("%d peers of a torrent", n)
	}
	if _, ok := s.torrents[hash][netip.AddrPortFrom(ip4(1<<24), 1)]; ok {
		t.Error("the oldest peer is still there")
	}
	if n := len(s.get(hash, later)); n != maxReturned {
		t.Errorf("%d peers returned", n)
	}
	if got := s.get(hash, later.Add(peerLife)); len(got) != 0 || len(s.torrents) != 0 {
		t.Errorf("%d peers and %d torrents are still there when they expired", len(got), len(s.torrents))
	}
	for i := range uint32(3 * maxTorrents) {
		s.add([idSize]byte(binary.BigEndian.AppendUint32(make([]byte, 16), i)), netip.AddrPortFrom(ip4(i), 1), now)
	}
	if n := len(s.torrents); n != maxTorrents {
		t.Errorf("%d torrents", n)
	}
	s.add(hash, netip.AddrPortFrom(ip4(1), 1), now.Add(2*peerLife))
	if n := len(s.torrents); n > maxTorrents || len(s.get(hash, now.Add(2*peerLife))) != 1 {
		t.Errorf("%d torrents when all but one expired", n)
	}
}

func TestTokens(t *testing.T) {
	s := newStore()
	now := time.Unix(1e9, 0).Truncate(tokenLife)
	a, b := ip4(1), netip.MustParseAddr("2001:db8::1")
	token := s.token(a, now)
	for _, c := range []struct {
		name  string
		token string
		ip    netip.Addr
		after time.Duration
		want  bool
	}{
		{"at once", token, a, 0, true},
		{"from another address", token, b, 0, false},
		{"none", "", a, 0, false},
		{"longer", token + "x", a, 0, false},
		{"in the next period", token, a, tokenLife, true},
		{"in the one after", token, a, 2 * tokenLife, false},
		{"long after", token, a, 10 * tokenLife, false},
	} {
		if got := s.valid(c.token, c.ip, now.Add(c.after)); got != c.want {
			t.Errorf("%s: valid is %v", c.name, got)
		}
	}
}

func TestGate(t *testing.T) {
	g := newGate()
	now := time.Unix(1e9, 0)
	passed := func(ip netip.Addr, n int, now time.Time) (passed int) {
		for range n {
			if g.admit(ip, now) {
				passed++
			}
		}
		return passed
	}
	if n := passed(ip4(1<<24), 1000, now); n != perOrigin {
		t.Errorf("%d queries of one address answered", n)
	}
	// One customer's network counts as one.
	six := netip.MustParseAddr("2001:db8::1").As16()
	n := 0
	for i := range byte(100) {
		six[15] = i
		n += passed(netip.AddrFrom16(six), 1, now)
	}
	if n > perOrigin {
		t.Errorf("%d queries of one network answered", n)
	}
	now = now.Add(10 * time.Second)
	n = 0
	for i := range uint32(1000) {
		n += passed(ip4(1<<24+i), 1, now)
	}
	if n > queryBurst {
		t.Errorf("%d queries answered at once", n)
	}
	now = now.Add(10 * time.Second)
	if n := passed(netip.MustParseAddr("127.0.0.1"), 50, now); n != 50 {
		t.Errorf("%d of 50 queries of this host answered", n)
	}
}

func TestContacts(t *testing.T) {
	now := time.Unix(1e9, 0)
	var c contacts
	one := at(1, "198.51.100.1:1")
	for _, s := range []struct {
		name  string
		node  contact
		after time.Duration
		want  bool
	}{
		{"the first", one, 0, true},
		{"again", one, time.Minute, true},
		{"another port", at(1, "198.51.100.1:2"), time.Minute, false},
		{"another id", at(2, "198.51.100.1:1"), time.Minute, false},
		{"another id when the first is gone", at(2, "198.51.100.1:1"), time.Minute + fresh, true},
		{"IPv6", at(3, "[2001:db8::1]:1"), 0, true},
		{"the same network", at(4, "[2001:db8::2]:1"), 0, false},
		{"another network", at(4, "[2001:db8:0:1::2]:1"), 0, true},
		{"this host", at(5, "127.0.0.1:1"), 0, true},
		{"this host, another port", at(6, "127.0.0.1:2"), 0, true},
		{"the local network", at(6, "10.0.0.1:2"), 0, true},
	} {
		if got := c.admit(s.node, now.Add(s.after)); got != s.want {
			t.Errorf("%s: admitted is %v", s.name, got)
		}
	}
	for i := range uint32(10 * maxContacts) {
		id := [idSize]byte{byte(i)}
		c.admit(contact{id, netip.AddrPortFrom(ip4(1<<24+i), 1)}, now)
	}
	if n := c.size(); n >= maxContacts {
		t.Errorf("%d nodes whose ids don't fit their addresses", n)
	}
	for i := range uint32(10 * maxContacts) {
		a := ip4(2<<24 + i)
		c.admit(contact{secureID(a), netip.AddrPortFrom(a, 1)}, now)
	}
	if n := c.size(); n != maxContacts {
		t.Errorf("%d nodes", n)
	}
	late := ip4(3 << 24)
	if !c.admit(contact{secureID(late), netip.AddrPortFrom(late, 1)}, now.Add(2*fresh)) || c.size() > maxContacts/2 {
		t.Errorf("those that are gone take the room of others: %d", c.size())
	}
}

func TestVotes(t *testing.T) {
	var v votes
	us, lie := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("203.0.113.66")
	for range 100 {
		v.cast(ip4(1<<24), lie) // one voter, however often
	}
	for i := range uint32(quorum - 1) {
		v.cast(ip4(2<<24+i), us)
	}
	if got := v.winner(); got.IsValid() {
		t.Errorf("%v wins with too few votes", got)
	}
	v.cast(ip4(3<<24), us)
	if got := v.winner(); got != us {
		t.Errorf("%v wins", got)
	}
	for i := range uint32(100) {
		v.cast(netip.MustParseAddr("192.168.0.1").Next(), us)
		v.cast(ip4(4<<24+i), netip.MustParseAddr("10.0.0.1"))
	}
	if got := v.winner(); got != us || len(v.box) != quorum+1 {
		t.Errorf("%v wins of %d votes, when local ones don't count", got, len(v.box))
	}
	for i := range uint32(ballots) {
		v.cast(ip4(5<<24+i), lie)
	}
	if got := v.winner(); got != lie || len(v.box) != ballots {
		t.Errorf("%v wins of %d votes, when our address has changed", got, len(v.box))
	}
	for i := range uint32(ballots / 2) {
		v.cast(ip4(6<<24+i), ip4(7<<24+i))
	}
	if got := v.winner(); got.IsValid() {
		t.Errorf("%v wins without a majority", got)
	}
}

func TestReach(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"8.8.8.8", "9.9.9.9:1", true},
		{"8.8.8.8", "9.9.9.9:0", false},
		{"8.8.8.8", "127.0.0.1:1", false},
		{"8.8.8.8", "10.0.0.1:1", false},
		{"8.8.8.8", "192.168.1.1:1", false},
		{"8.8.8.8", "169.254.169.254:80", false},
		{"8.8.8.8", "0.0.0.0:1", false},
		{"8.8.8.8", "0.1.2.3:1", false},
		{"8.8.8.8", "224.0.0.1:1", false},
		{"8.8.8.8", "255.255.255.255:1", false},
		{"10.0.0.1", "10.0.0.2:1", true},
		{"10.0.0.1", "9.9.9.9:1", true},
		{"10.0.0.1", "127.0.0.1:1", false},
		{"127.0.0.1", "127.0.0.2:1", true},
		{"127.0.0.1", "169.254.169.254:80", false},
		{"2001:db8::1", "[2001:db8::2]:1", true},
		{"2001:db8::1", "[::1]:1", false},
		{"2001:db8::1", "[fd00::1]:1", false},
		{"2001:db8::1", "[fe80::1]:1", false},
		{"2001:db8::1", "[::]:1", false},
		{"2001:db8::1", "[ff02::1]:1", false},
		{"fd00::1", "[fd00::2]:1", true},
	} {
		if got := nameable(netip.MustParseAddr(c.from), netip.MustParseAddrPort(c.to)); got != c.want {
			t.Errorf("%s may send us to %s: %v", c.from, c.to, got)
		}
	}
}

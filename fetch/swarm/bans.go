package swarm

import (
	"net/netip"

	"torrentfs/fetch/reach"
)

// bans are the peers that sent wrong bytes. They are shut out for as long as the swarm lives.
//
// A liar is known by the address that we dialled, port included, and by its IP address together with its peer id. A peer
// that dialled us has only the latter: its port is made up for each connection. Either can be changed, but a whole IP
// address can be home to many: behind the NAT of a provider, a university or a company sit honest peers and a liar under
// one address, and shutting all of them out for one would hurt readers more than the liar does. So a conviction bans the
// peer, and the third at the same address (of IPv6: the same /64, which is one customer's) bans the address. Then whoever
// is connected from there and has proved itself stays. On loopback a port is all that peers differ in, and there is no NAT
// behind it, so addresses there are never banned whole.
type bans struct {
	addrs   map[netip.AddrPort]struct{}
	ids     map[identity]struct{}
	strikes map[netip.Prefix]int
}

// identity is a peer as far as one that dialled us can be told from its neighbours.
type identity struct {
	ip netip.Addr
	id [20]byte
}

const (
	maxStrikes = 3
	maxBans    = 4096 // of each kind; then some are forgotten, which costs a piece fetched twice
)

func newBans() bans {
	return bans{
		addrs: make(map[netip.AddrPort]struct{}), ids: make(map[identity]struct{}), strikes: make(map[netip.Prefix]int),
	}
}

// add bans a peer.
func (b *bans) add(addr netip.AddrPort, id [20]byte, incoming bool) {
	if !incoming {
		limit(b.addrs)
		b.addrs[addr] = struct{}{}
	}
	limit(b.ids)
	b.ids[identity{addr.Addr(), id}] = struct{}{}
	if home, ok := reach.Home(addr.Addr()); ok {
		limit(b.strikes)
		b.strikes[home]++
	}
}

// limit makes room in a map for one more.
func limit[K comparable, V any](m map[K]V) {
	for k := range m {
		if len(m) < maxBans {
			return
		}
		delete(m, k)
	}
}

// home reports whether everybody at an IP address is banned.
func (b *bans) home(ip netip.Addr) bool {
	home, ok := reach.Home(ip)
	return ok && b.strikes[home] >= maxStrikes
}

// addr reports whether there is no use in dialling an address.
func (b *bans) addr(addr netip.AddrPort) bool {
	_, banned := b.addrs[addr]
	return banned || b.home(addr.Addr())
}

// peer reports whether a connection is not to be taken in.
func (b *bans) peer(addr netip.AddrPort, id [20]byte) bool {
	_, banned := b.ids[identity{addr.Addr(), id}]
	return banned || b.addr(addr)
}

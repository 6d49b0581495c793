package dht

import (
	"net/netip"

	"torrentfs/fetch/reach"
)

// sendable says whether a node or a peer can be at a.
func sendable(a netip.AddrPort) bool { return reach.Of(a.Addr()) != reach.Never && a.Port() != 0 }

// local says whether an address is of this host or a private network.
func local(ip netip.Addr) bool { return reach.Of(ip) != reach.Public }

// nameable says whether a node at from may send us to a.
func nameable(from netip.Addr, a netip.AddrPort) bool {
	return a.Port() != 0 && reach.MayName(from, a.Addr())
}

// origin stands for whoever controls an address: the address, or for IPv6 the network that one customer has.
func origin(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}
	return ip
}

package dht

import "net/netip"

// sendable says whether a node or a peer can be at a.
func sendable(a netip.AddrPort) bool {
	ip := a.Addr()
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || a.Port() == 0 {
		return false
	}
	return !ip.Is4() || ip.As4()[0] != 0 && ip.As4()[0] < 240
}

// local says whether an address is of this host or a private network.
func local(ip netip.Addr) bool { return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() }

// nameable says whether a node at from may send us to a: one out on the Internet has no business with our own network.
func nameable(from netip.Addr, a netip.AddrPort) bool {
	return sendable(a) && (!local(a.Addr()) || local(from))
}

// origin stands for whoever controls an address: the address, or for IPv6 the network that one customer has.
func origin(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}
	return ip
}

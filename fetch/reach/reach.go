// Package reach tells addresses that a stranger's word may lead to from those that it may not: a .torrent file, a magnet
// link or a redirect must not have us poke at services that only this machine or its network can reach. It classes
// addresses; what is allowed where is for its callers to say.
package reach

import "net/netip"

// Class is how far away an address is.
type Class int

// The classes of addresses.
const (
	Never  Class = iota // link-local, multicast, reserved: no stranger's word leads there
	Local               // this host and private networks
	Public              // everything else
)

var (
	localNets = []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // carrier NAT, and many an overlay network
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"),  // benchmarking
		netip.MustParsePrefix("fec0::/10"),      // site-local, of old
		netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64 of a network's own, which can lead anywhere in it
	}
	neverNets = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), // Linux takes these for this host
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("100.100.100.200/32"), // a cloud's metadata service outside link-local
		netip.MustParsePrefix("168.63.129.16/32"),   // another's
		netip.MustParsePrefix("192.0.0.192/32"),     // a third
		netip.MustParsePrefix("fd00:ec2::/32"),      // and over IPv6
		netip.MustParsePrefix("fd20:ce::254/128"),
	}
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4  = netip.MustParsePrefix("2002::/16")
	mapped4 = netip.MustParsePrefix("::/96") // IPv4-compatible, deprecated; ::1 and :: are told apart first
)

// Of classes an address. One that embeds an IPv4 address is classed by that.
func Of(a netip.Addr) Class {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return Never
	case within(a, neverNets):
		return Never
	case a.IsLoopback(), a.IsPrivate(), within(a, localNets):
		return Local
	}
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a), mapped4.Contains(a):
			return Of(netip.AddrFrom4([4]byte(b[12:])))
		case sixTo4.Contains(a):
			return Of(netip.AddrFrom4([4]byte(b[2:])))
		}
	}
	return Public
}

// MayName reports whether a stranger at by may have us connect to a: never to a class Never, and to nothing that is nearer
// to us than the stranger is, since that would be to knock at doors that it can't reach itself.
func MayName(by, a netip.Addr) bool {
	return Of(a) != Never && distance(a) >= distance(by)
}

// distance tells this host from its network from the rest of the world. What is link-local names as its network does.
func distance(a netip.Addr) int {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return 0
	case Of(a) == Public:
		return 2
	}
	return 1
}

// Home is the range of addresses that is held to be one household: an IPv4 address, or what one customer has of IPv6. It is
// false for this host, where many may be behind one address.
func Home(a netip.Addr) (netip.Prefix, bool) {
	a = a.Unmap()
	if a.IsLoopback() {
		return netip.Prefix{}, false
	}
	bits := a.BitLen()
	if a.Is6() && !a.IsPrivate() && !a.IsLinkLocalUnicast() {
		bits = 64
	}
	home, err := a.WithZone("").Prefix(bits)
	return home, err == nil
}

func within(a netip.Addr, nets []netip.Prefix) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

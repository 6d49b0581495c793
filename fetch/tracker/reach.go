package tracker

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// A .torrent file comes from a stranger, and so do the tracker URLs in it and whatever they redirect to. The rules
// below keep them from being used to poke at services that only this machine or its network can reach:
//
//   - link-local (which is where clouds keep their metadata service), multicast and unspecified addresses: never;
//   - this host and private networks: allowed, since people run trackers there, but over HTTP only with a path whose
//     last element begins with "announce", and never as a redirect from a public tracker;
//   - everything else: allowed.
//
// They apply to addresses, after resolving names, to each address just before it is dialled: a name that resolves
// differently a second time gains nothing.

// reach is how far away an address is, for the rules above.
type reach int

const (
	reachNever reach = iota
	reachLocal
	reachPublic
)

var (
	localNets = []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // carrier NAT, and many an overlay network
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"), // benchmarking
		netip.MustParsePrefix("fec0::/10"),     // site-local, of old
	}
	neverNets = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), // Linux takes these for this host
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("100.100.100.200/32"), // a cloud's metadata service outside link-local
		netip.MustParsePrefix("168.63.129.16/32"),   // another's
		netip.MustParsePrefix("fd00:ec2::254/128"),  // and one over IPv6
	}
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4  = netip.MustParsePrefix("2002::/16")
	mapped4 = netip.MustParsePrefix("::/96") // IPv4-compatible, deprecated; ::1 and :: are told apart first
)

// reachOf classes an address. One that embeds an IPv4 address is classed by that.
func reachOf(a netip.Addr) reach {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return reachNever
	case within(a, neverNets):
		return reachNever
	case a.IsLoopback(), a.IsPrivate(), within(a, localNets):
		return reachLocal
	}
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a), mapped4.Contains(a):
			return reachOf(netip.AddrFrom4([4]byte(b[12:])))
		case sixTo4.Contains(a):
			return reachOf(netip.AddrFrom4([4]byte(b[2:])))
		}
	}
	return reachPublic
}

func within(a netip.Addr, nets []netip.Prefix) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// permit says whether an announce to u may go to the address a, which u's host stands for. afterPublic says that a
// public tracker sent us there.
func permit(u *url.URL, a netip.Addr, afterPublic bool) error {
	switch reachOf(a) {
	case reachNever:
		return fmt.Errorf("%w: %s is link-local, multicast or reserved", ErrReach, a)
	case reachLocal:
		if afterPublic {
			return fmt.Errorf("%w: a public tracker redirects to %s on the local network", ErrReach, a)
		}
		if u.Scheme != "udp" && !strings.HasPrefix(path.Base(u.Path), "announce") {
			return fmt.Errorf("%w: on the local network (%s) a tracker's path has to end in announce", ErrReach, a)
		}
	}
	return nil
}

// plausible says whether a tracker at reach r can mean a as a peer. It drops what nobody can connect to, and this
// host as seen by a tracker on the Internet, which can only be an attempt to have us connect to our own services.
func plausible(a netip.AddrPort, r reach) bool {
	if a.Port() == 0 || reachOf(a.Addr()) == reachNever {
		return false
	}
	return r == reachLocal || !a.Addr().IsLoopback()
}

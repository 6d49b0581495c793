package tracker

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"torrentfs/fetch/reach"
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

// permit says whether an announce to u may go to the address a, which u's host stands for. afterPublic says that a
// public tracker sent us there.
func permit(u *url.URL, a netip.Addr, afterPublic bool) error {
	switch reach.Of(a) {
	case reach.Never:
		return fmt.Errorf("%w: %s is link-local, multicast or reserved", ErrReach, a)
	case reach.Local:
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
func plausible(a netip.AddrPort, r reach.Class) bool {
	if a.Port() == 0 || reach.Of(a.Addr()) == reach.Never {
		return false
	}
	return r == reach.Local || !a.Addr().IsLoopback()
}

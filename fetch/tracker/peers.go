package tracker

import (
	"encoding/binary"
	"net/netip"

	"torrentfs/fetch/reach"
)

// Sizes of one peer in a compact list: its address and its port (BEP 23, BEP 7).
const (
	compact4 = 4 + 2
	compact6 = 16 + 2
)

// compactPeers reads a compact list whose peers take size bytes each. What is left over at the end of a list of wrong
// length is dropped, and so is what goes beyond maxPeers.
func compactPeers(b []byte, size int) []netip.AddrPort {
	n := min(len(b)/size, maxPeers)
	if n == 0 {
		return nil
	}
	peers := make([]netip.AddrPort, n)
	for i := range peers {
		p := b[i*size : (i+1)*size]
		a, _ := netip.AddrFromSlice(p[:size-2])
		peers[i] = netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(p[size-2:]))
	}
	return peers
}

// appendCompact appends a peer to a compact list of its family.
func appendCompact(b []byte, p netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(append(b, p.Addr().AsSlice()...), p.Port())
}

// sift keeps the first maxPeers of the peers that a tracker at reach r can mean, each once, in their order.
func sift(peers []netip.AddrPort, r reach.Class) []netip.AddrPort {
	seen := make(map[netip.AddrPort]bool, len(peers))
	kept := peers[:0]
	for _, p := range peers {
		if len(kept) == maxPeers {
			break
		}
		if !seen[p] && plausible(p, r) {
			seen[p] = true
			kept = append(kept, p)
		}
	}
	return kept
}

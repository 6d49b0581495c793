package dht

import (
	"net/netip"
	"sync"
)

const (
	ballots = 32 // the latest that count
	quorum  = 8
)

// votes finds our address out from what the nodes that answer us say of it (BEP 42): one vote for each origin, and the
// majority of the latest ones wins.
type votes struct {
	mu  sync.Mutex
	box []ballot
}

type ballot struct{ voter, ip netip.Addr }

// cast counts the vote of a node. Votes for and by local addresses don't count: no id has to fit those.
func (v *votes) cast(voter, ip netip.Addr) {
	if local(voter) || local(ip) || !sendable(netip.AddrPortFrom(ip, 1)) {
		return
	}
	b := ballot{origin(voter), ip}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.box {
		if v.box[i].voter == b.voter {
			v.box = append(v.box[:i], v.box[i+1:]...)
			break
		}
	}
	if len(v.box) == ballots {
		v.box = append(v.box[:0], v.box[1:]...)
	}
	v.box = append(v.box, b)
}

// winner is the address that most agree on, or none.
func (v *votes) winner() netip.Addr {
	v.mu.Lock()
	defer v.mu.Unlock()
	count := make(map[netip.Addr]int)
	for _, b := range v.box {
		if count[b.ip]++; count[b.ip] >= quorum && 2*count[b.ip] > len(v.box) {
			return b.ip
		}
	}
	return netip.Addr{}
}

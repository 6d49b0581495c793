package dht

import (
	"net"
	"net/netip"
	"sync"
	"time"

	lib "github.com/anacrolix/dht/v2"
)

const (
	maxContacts = 2048
	// fresh is how long a node counts as up after its last answer (BEP 5).
	fresh = 15 * time.Minute
	// enough is how many nodes it takes to be choosy about the next.
	enough = 64
)

// contacts remembers who answered us lately, one node of each origin, so that nobody with a few addresses can fill
// the routing table. It holds maxContacts at most.
type contacts struct {
	mu    sync.Mutex
	by    map[netip.AddrPort]known
	swept time.Time
}

type known struct {
	contact
	at time.Time
}

// desk is the key of a node: its origin, or for a local one its whole address, since there many may share one.
func desk(a netip.AddrPort) netip.AddrPort {
	if local(a.Addr()) {
		return a
	}
	return netip.AddrPortFrom(origin(a.Addr()), 0)
}

// admit notes that a node answered, and says whether the routing table may have it: unless another node of its
// origin is there, or its id doesn't fit its address (BEP 42) and there are enough others.
func (c *contacts) admit(n contact, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[netip.AddrPort]known)
	}
	k := desk(n.addr)
	old, taken := c.by[k]
	switch {
	case taken && old.contact != n && now.Sub(old.at) < fresh:
		return false
	case !taken && len(c.by) >= enough && !lib.NodeIdSecure(n.id, net.IP(n.addr.Addr().AsSlice())):
		return false
	case !taken && len(c.by) >= maxContacts:
		if c.sweep(now); len(c.by) >= maxContacts {
			return false
		}
	}
	c.by[k] = known{n, now}
	return true
}

// sweep forgets those that are gone, every minute at most.
func (c *contacts) sweep(now time.Time) {
	if now.Sub(c.swept) < time.Minute {
		return
	}
	c.swept = now
	for k, old := range c.by {
		if now.Sub(old.at) >= fresh {
			delete(c.by, k)
		}
	}
}

func (c *contacts) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by)
}

// up says whether a node answered lately.
func (c *contacts) up(n contact, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.by[desk(n.addr)]
	return ok && k.contact == n && now.Sub(k.at) < fresh
}

// know says whether a node at an address answered within a while.
func (c *contacts) know(a netip.AddrPort, within time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.by[desk(a)]
	return ok && k.addr == a && time.Since(k.at) < within
}

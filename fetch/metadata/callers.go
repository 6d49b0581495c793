package metadata

import (
	"net"
	"net/netip"
	"slices"

	"torrentfs/fetch/reach"
	"torrentfs/fetch/wire"
)

// maxCallers is how many of the peers that dialled us are asked at once, beside those that we dialled, and maxAtHome how many of
// one household.
const (
	maxCallers = 20
	maxAtHome  = 5
)

// byItself is who named a peer that dialled us.
const byItself = "incoming"

// Accept takes over a connection whose peer dialled us from addr, after the handshake, theirs; the peer is asked as if it had
// been dialled. Run has to run, or to have ended: then the connection is closed, as it is if there is no room.
func (f *Fetcher) Accept(nc net.Conn, addr netip.AddrPort, theirs wire.Handshake) {
	c := f.newConversation(&source{addr: addr, named: byItself}, nc)
	c.peer = theirs
	select {
	case f.came <- c:
	case <-f.over:
		_ = nc.Close()
	}
}

// admit takes in a peer that dialled us, in the place of one that has given nothing for longest if there are too many, of its
// household or in all; false: all of those are of use.
func (f *Fetcher) admit(c *conversation) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	crowd, limit := f.callers, maxCallers
	if home, ok := reach.Home(c.s.addr.Addr()); ok {
		neighbours := slices.DeleteFunc(slices.Clone(f.callers), func(o *conversation) bool {
			theirs, _ := reach.Home(o.s.addr.Addr())
			return theirs != home
		})
		if len(neighbours) >= maxAtHome {
			crowd, limit = neighbours, maxAtHome
		}
	}
	if len(crowd) >= limit {
		i := slices.IndexFunc(crowd, func(o *conversation) bool { return !o.gave })
		if i < 0 {
			return false
		}
		_ = crowd[i].nc.Close()
		f.forget(crowd[i])
	}
	f.callers = append(f.callers, c)
	return true
}

// dismiss notes that a conversation with a peer that dialled us has ended.
func (f *Fetcher) dismiss(c *conversation, err error) {
	f.mu.Lock()
	f.forget(c)
	f.mu.Unlock()
	if err != nil {
		f.cfg.Logger.Debug("no metadata from peer", "peer", c.s.addr, "err", err, "incoming", true)
	}
}

// forget takes a conversation out of the list of callers. The caller holds mu.
func (f *Fetcher) forget(c *conversation) {
	f.callers = slices.DeleteFunc(f.callers, func(o *conversation) bool { return o == c })
}

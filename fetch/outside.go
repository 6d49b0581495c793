package fetch

import (
	"net"
	"net/netip"
	"sync"

	"torrentfs/fetch/reach"
)

// outside is where others see us, of IPv4 and IPv6.
type outside struct {
	client *Client
	routed func() [2]netip.Addr

	mu    sync.Mutex
	named [2]netip.Addr // by trackers (BEP 24)
}

func newOutside(c *Client) *outside { return &outside{client: c, routed: sync.OnceValue(c.routed)} }

// learn takes a tracker's word for it. One that is on our own network sees us elsewhere than the Internet does.
func (o *outside) learn(a netip.Addr) {
	if a = a.Unmap(); reach.Of(a) != reach.Public {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.named[family(a)] = a
}

// addrs are the addresses, as far as they are known: by the DHT, where many have to agree, by trackers, or by the routes of
// this host.
func (o *outside) addrs() [2]netip.Addr {
	o.mu.Lock()
	addrs := o.named
	o.mu.Unlock()
	for _, a := range o.client.trackerless.external() {
		addrs[family(a)] = a
	}
	for i, a := range o.routed() {
		if !addrs[i].IsValid() {
			addrs[i] = a
		}
	}
	return addrs
}

// family is 0 for IPv4 and 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

// routed are the addresses that this host has towards the Internet. It sends nothing.
func (c *Client) routed() (addrs [2]netip.Addr) {
	for i, far := range []string{"8.8.8.8:53", "[2001:4860:4860::8888]:53"} {
		conn, err := c.sockets.DialContext(c.ctx, "udp", far)
		if err != nil {
			continue
		}
		if at, ok := conn.LocalAddr().(*net.UDPAddr); ok {
			addrs[i] = at.AddrPort().Addr().Unmap()
		}
		_ = conn.Close()
	}
	return addrs
}

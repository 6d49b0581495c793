package fetch

import (
	"net/netip"
	"sync"
)

// names are the hosts given by hand that have addresses of IPv4 and of IPv6. Each is one peer: it is known by one of its
// addresses and dialled by its name, which has net.Dialer race both families (RFC 8305) and close the loser.
type names struct {
	mu sync.Mutex
	by map[string]string // host:port of a name, by the address that stands for it
}

// stand picks the address that stands for a host, where its addresses are of both families. Else all stand for themselves.
func (n *names) stand(hostport string, addrs []netip.AddrPort) []netip.AddrPort {
	six := 0
	for _, a := range addrs {
		six += family(a.Addr())
	}
	if six == 0 || six == len(addrs) {
		return addrs
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.by == nil {
		n.by = make(map[string]string)
	}
	n.by[addrs[0].String()] = hostport
	return addrs[:1]
}

// of is what to dial for an address.
func (n *names) of(addr string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name := n.by[addr]; name != "" {
		return name
	}
	return addr
}

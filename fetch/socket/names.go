package socket

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// LookupNetIP resolves a name, network being ip, ip4 or ip6. Behind a proxy, which is to resolve it, the answer is an
// address that stands for the name in DialContext.
func (o *Opener) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if o.proxy != nil {
		if ip, err := netip.ParseAddr(host); err == nil {
			return []netip.Addr{ip}, nil
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.standIns.add(host)
	}
	resolver := o.resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	return resolver.LookupNetIP(ctx, network, host)
}

// upstream lists the name servers behind the one that systemd-resolved runs on this host.
const upstream = "/run/systemd/resolve/resolv.conf"

// dialNameServer connects to a name server of the system's. One on this host would ask others by whatever route and from
// whatever address there is: those that it would ask are asked in its place. Where they are not known it is asked all the
// same, unless there is a device, by which it can't be reached.
func (o *Opener) dialNameServer(ctx context.Context, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() || o.loopback() {
		return o.dial(ctx, network, address, nil)
	}
	servers := nameServers(o.upstream)
	if o.cfg.Local.IsValid() {
		servers = slices.DeleteFunc(servers, func(ip netip.Addr) bool { return familyOf(ip.Unmap()) != o.family })
	}
	switch {
	case len(servers) > 0:
		next := servers[int(o.asked.Add(1))%len(servers)]
		return o.dial(ctx, network, netip.AddrPortFrom(next, at.Port()).String(), nil)
	case o.cfg.Device != "":
		return nil, fmt.Errorf("the name server %s is on this host, and %s doesn't lead there", at.Addr(), o.cfg.Device)
	}
	return new(net.Dialer).DialContext(ctx, network, address) // it may be of the other family
}

// loopback says whether the device or the address is one that leads to this host alone.
func (o *Opener) loopback() bool {
	if o.cfg.Device == "" {
		return o.cfg.Local.IsLoopback()
	}
	ifi, err := net.InterfaceByName(o.cfg.Device)
	return err == nil && ifi.Flags&net.FlagLoopback != 0
}

// nameServers reads those name servers of a resolv.conf that are not on this host.
func nameServers(path string) (servers []netip.Addr) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		fields := strings.Fields(in.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if ip, err := netip.ParseAddr(fields[1]); err == nil && !ip.IsLoopback() {
			servers = append(servers, ip)
		}
	}
	return servers
}

// maxStandIns bounds the names that are stood in for.
const maxStandIns = 1 << 12

// standIns are addresses in the place of names that a proxy is to resolve: peers are known by their addresses. They lie in
// 100::/64, which leads nowhere (RFC 6666), should one get out.
type standIns struct {
	byName map[string]netip.Addr
	names  []string // by the last bytes of the address
}

// add returns the address that stands for a name.
func (s *standIns) add(name string) ([]netip.Addr, error) {
	if a, ok := s.byName[name]; ok {
		return []netip.Addr{a}, nil
	}
	if len(s.names) == maxStandIns {
		return nil, fmt.Errorf("%s: too many names", name)
	}
	if s.byName == nil {
		s.byName = make(map[string]netip.Addr)
	}
	n := len(s.names)
	a := netip.AddrFrom16([16]byte{0: 1, 14: byte(n >> 8), 15: byte(n)})
	s.names = append(s.names, name)
	s.byName[name] = a
	return []netip.Addr{a}, nil
}

// name returns address, with the name that its host stands for in its place.
func (s *standIns) name(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	b := at.Addr().As16()
	n := int(b[14])<<8 | int(b[15])
	if n < len(s.names) && s.byName[s.names[n]] == at.Addr() {
		return net.JoinHostPort(s.names[n], strconv.Itoa(int(at.Port())))
	}
	return address
}

package socket

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
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

// dialNameServer connects to a name server of the system's. One on this host would ask others by whatever route there is,
// and can't be reached by a device besides: those that it would ask are asked in its place, where they are known.
func (o *Opener) dialNameServer(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() && o.cfg.Device != "" && !o.loopback() {
		servers := nameServers(upstream)
		if len(servers) == 0 {
			return nil, fmt.Errorf("the name server %s is on this host, and %s doesn't lead there", host, o.cfg.Device)
		}
		address = net.JoinHostPort(servers[int(o.asked.Add(1))%len(servers)].String(), port)
	}
	return o.direct(nil)(ctx, network, address)
}

// loopback says whether the device is one that leads to this host alone.
func (o *Opener) loopback() bool {
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

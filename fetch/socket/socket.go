// Package socket opens every socket of the process: to and from peers, trackers, the DHT, the local network, web servers
// and name servers. What the user says of sockets holds for all of them that way: the device that they are bound to, the
// address that they speak from, the proxy that they go through. It fails closed: where that can't be had, there is no
// socket. It knows no protocol but SOCKS.
package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Config says how sockets are made.
type Config struct {
	// Device is the network interface that all traffic goes through, whatever the routing table says; empty: any.
	Device string
	// Local is the address that all traffic is sent from; there is then none of the other family. Unspecified (0.0.0.0 or
	// ::): any of its family, which name servers need not be of. Invalid: any.
	Local netip.Addr
	// Proxy, if not nil, is the SOCKS5 proxy that all connections go through. Nothing listens then, no datagram is sent,
	// and no name but the proxy's own is resolved here.
	Proxy *url.URL
	// Logger is told when the proxy or the device goes and comes; nil: nowhere.
	Logger *slog.Logger
}

// Opener opens sockets. The zero value opens them as the system does by default. Its methods are safe for concurrent use.
type Opener struct {
	cfg      Config        // Local is invalid where it was unspecified
	family   string        // "4" or "6", as networks of package net end; "": both
	resolver *net.Resolver // nil: the system's
	upstream string        // see there
	proxy    *proxy        // nil: none
	asked    atomic.Uint32 // name servers, for taking turns

	mu       sync.Mutex
	index    int // of the device, by which its sockets are bound
	lasting  map[lasting]struct{}
	standIns standIns
}

// ErrProxied is returned for sockets that there are none of behind a proxy.
var ErrProxied = errors.New("not through a proxy")

// New returns an Opener. It fails where sockets can't be made as cfg says, and then says why.
func New(cfg Config) (*Opener, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Local = cfg.Local.Unmap()
	family := familyOf(cfg.Local)
	if cfg.Local.IsUnspecified() {
		cfg.Local = netip.Addr{}
	}
	o := &Opener{cfg: cfg, family: family, upstream: upstream}
	if cfg.Device != "" || cfg.Local.IsValid() {
		o.resolver = &net.Resolver{PreferGo: true, Dial: o.dialNameServer}
	}
	if cfg.Device != "" {
		if err := o.tryDevice(); err != nil {
			return nil, fmt.Errorf("cannot bind to the interface %q: %w", cfg.Device, err)
		}
	}
	if cfg.Local.IsValid() {
		if err := o.tryLocal(); err != nil {
			return nil, fmt.Errorf("cannot bind to the address %s: %w", cfg.Local, err)
		}
	}
	if cfg.Proxy != nil {
		var err error
		if o.proxy, err = newProxy(cfg.Proxy, o.direct(nil), cfg.Logger); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// tryDevice finds the device, and opens a socket that is bound to it.
func (o *Opener) tryDevice() error {
	ifi, err := net.InterfaceByName(o.cfg.Device)
	if err != nil {
		return fmt.Errorf("there is none of that name; there are %s", strings.Join(interfaceNames(), ", "))
	}
	o.index = ifi.Index
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.BindToDevice(fd, o.cfg.Device)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w; before Linux 5.7 it takes root, or CAP_NET_RAW", err)
	}
	return err
}

// tryLocal opens a socket at the address that all is sent from.
func (o *Opener) tryLocal() error {
	c, err := o.config().ListenPacket(context.Background(), "udp"+o.family, netip.AddrPortFrom(o.cfg.Local, 0).String())
	if err == nil {
		return c.Close()
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		err = failed.Err // without a port that nobody asked for
	}
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return o.lacking(err)
	}
	return err
}

// lacking says which addresses there are in place of the one that nothing can be bound to. That may be there and not usable
// yet, which is left to err to say.
func (o *Opener) lacking(err error) error {
	all, _ := net.Interfaces() // where they can't be listed, none are named
	who := "no interface of this machine has"
	if o.cfg.Device != "" {
		all = slices.DeleteFunc(all, func(ifi net.Interface) bool { return ifi.Name != o.cfg.Device })
		who = fmt.Sprintf("the interface %q doesn't have", o.cfg.Device)
	}
	var there []string
	for _, ifi := range all {
		if has(ifi, o.cfg.Local) {
			return err
		}
		for _, ip := range ips(ifi) {
			there = append(there, fmt.Sprintf("%s (%s)", ip, ifi.Name))
		}
	}
	if len(there) == 0 {
		return fmt.Errorf("%s that address, nor any", who)
	}
	return fmt.Errorf("%s that address; there are %s", who, strings.Join(there, ", "))
}

func interfaceNames() (names []string) {
	all, _ := net.Interfaces() // where they can't be listed, none are named
	for _, ifi := range all {
		names = append(names, ifi.Name)
	}
	return names
}

// Proxied says whether all goes through a proxy. Names are then resolved there.
func (o *Opener) Proxied() bool { return o.proxy != nil }

// Bound says whether sockets are held to a device or an address.
func (o *Opener) Bound() bool { return o.cfg.Device != "" || o.cfg.Local.IsValid() }

// DialContext connects to address by a network of package net.
func (o *Opener) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return o.DialPermitted(ctx, network, address, nil)
}

// DialPermitted is DialContext, and has each address that a name stands for permitted just before it is dialled. Through
// a proxy, which resolves names, only an address that is given as one can be judged.
func (o *Opener) DialPermitted(ctx context.Context, network, address string, permit func(netip.AddrPort) error) (net.Conn, error) {
	if o.proxy == nil {
		return o.direct(permit).DialContext(ctx, network, address)
	}
	if !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("%s to %s: %w", network, address, ErrProxied)
	}
	asked := address
	o.mu.Lock()
	address = o.standIns.name(address)
	o.mu.Unlock()
	if at, err := netip.ParseAddrPort(address); err == nil && permit != nil {
		if err := permit(at); err != nil {
			return nil, err
		}
	}
	c, err := o.proxy.DialContext(ctx, "tcp", address)
	if at, bad := netip.ParseAddrPort(asked); err == nil && bad == nil {
		c = &relayed{c, net.TCPAddrFromAddrPort(at)}
	}
	return c, err
}

// direct is a dialer without a proxy.
func (o *Opener) direct(permit func(netip.AddrPort) error) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		network, err := o.narrow(network)
		if err != nil {
			return nil, err
		}
		return o.dial(ctx, network, address, permit)
	}
}

// dial connects from the address and by the device that all goes by.
func (o *Opener) dial(ctx context.Context, network, address string, permit func(netip.AddrPort) error) (net.Conn, error) {
	d := net.Dialer{Resolver: o.resolver, ControlContext: func(_ context.Context, network, address string, c syscall.RawConn) error {
		if permit != nil {
			at, err := netip.ParseAddrPort(address)
			if err == nil {
				err = permit(at)
			}
			if err != nil {
				return err
			}
		}
		return o.bind(network, address, c)
	}}
	if o.cfg.Local.IsValid() {
		if strings.HasPrefix(network, "udp") {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(o.cfg.Local, 0))
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.cfg.Local, 0))
		}
	}
	return d.DialContext(ctx, network, address)
}

// dialer connects somewhere.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// DialContext implements the dialers of package golang.org/x/net/proxy.
func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

// Dial implements the dialers of package golang.org/x/net/proxy.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

// bind ties a socket to the device.
func (o *Opener) bind(network, _ string, c syscall.RawConn) error {
	if o.cfg.Device == "" {
		return nil
	}
	var err error
	if failed := c.Control(func(fd uintptr) {
		if err = unix.BindToDevice(int(fd), o.cfg.Device); err != nil {
			err = fmt.Errorf("bind to the interface %q: %w", o.cfg.Device, err)
			return
		}
		if strings.HasPrefix(network, "tcp") {
			// A connection that was bound to a device that is gone would hang for a quarter of an hour.
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(lostAfter.Milliseconds()))
		}
	}); failed != nil {
		return failed
	}
	return err
}

// Interfaces are the interfaces that sockets may use.
func (o *Opener) Interfaces() ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil || !o.Bound() {
		return all, err
	}
	var ours []net.Interface
	for _, ifi := range all {
		if o.cfg.Device != "" && ifi.Name != o.cfg.Device || o.cfg.Local.IsValid() && !has(ifi, o.cfg.Local) {
			continue
		}
		ours = append(ours, ifi)
	}
	return ours, nil
}

// has says whether an interface has an address.
func has(ifi net.Interface, ip netip.Addr) bool {
	return slices.ContainsFunc(ips(ifi), func(a netip.Addr) bool { return a.WithZone("") == ip.WithZone("") })
}

// ips are the addresses of an interface.
func ips(ifi net.Interface) (ips []netip.Addr) {
	addrs, _ := ifi.Addrs() // of one that is gone there are none
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := p.Addr().Unmap()
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(ifi.Name) // as it is to be written
		}
		ips = append(ips, ip)
	}
	return ips
}

// familyOf is how networks of an address's family end; "" for none.
func familyOf(ip netip.Addr) string {
	switch {
	case !ip.IsValid():
		return ""
	case ip.Is4():
		return "4"
	}
	return "6"
}

// narrow has a network be of the family that all sockets are of.
func (o *Opener) narrow(network string) (string, error) {
	if o.family == "" || strings.HasSuffix(network, o.family) {
		return network, nil
	}
	if strings.HasSuffix(network, "4") || strings.HasSuffix(network, "6") {
		return "", fmt.Errorf("%s: everything goes over IPv%s", network, o.family)
	}
	return network + o.family, nil
}

// Local is the address that all is sent from; invalid: any.
func (o *Opener) Local() netip.Addr { return o.cfg.Local }

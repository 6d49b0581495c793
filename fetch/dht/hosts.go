package dht

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"torrentfs/fetch/socket"
)

const (
	maxHosts   = 64 // learned beside those configured
	resolveFor = 5 * time.Second
	hostLife   = 30 * time.Minute // of a resolved name, or one that is known not to be
	hostRetry  = 30 * time.Second // after a failure
)

// hosts are the places to ask when nobody in the routing table answers: the bootstrap nodes, and the nodes that a
// .torrent file names.
type hosts struct {
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	routed func(six bool) bool // is the Internet there, in a family?

	mu       sync.Mutex
	fixed    []string // host:port
	learned  []string // the latest last
	resolved map[string]resolved
}

type resolved struct {
	ips   []netip.Addr
	until time.Time
}

func newHosts(fixed []string, sockets *socket.Opener) *hosts {
	return &hosts{
		lookup: sockets.LookupNetIP, routed: func(six bool) bool { return routed(sockets, six) }, fixed: fixed,
		resolved: make(map[string]resolved),
	}
}

// routed says whether this host has a route to the Internet in a family. It sends nothing.
func routed(sockets *socket.Opener, six bool) bool {
	network, far := "udp4", "8.8.8.8:53"
	if six {
		network, far = "udp6", "[2001:4860:4860::8888]:53"
	}
	conn, err := sockets.DialContext(context.Background(), network, far)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// learn adds a host:port.
func (h *hosts) learn(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Contains(h.fixed, host) || slices.Contains(h.learned, host) {
		return
	}
	if len(h.learned) == maxHosts {
		h.learned = slices.Delete(h.learned, 0, 1)
	}
	h.learned = append(h.learned, host)
}

// resolve tells the addresses of all hosts in a family as they become known; found may be called twice at a time. It takes
// resolveFor at most, and leaves out what doesn't resolve by then.
func (h *hosts) resolve(ctx context.Context, six bool, found func(netip.AddrPort)) {
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	h.mu.Lock()
	all := slices.Concat(h.learned, h.fixed)
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, hostport := range all {
		host, port, ok := splitHost(hostport)
		if !ok {
			continue
		}
		wg.Go(func() {
			for _, ip := range h.ips(ctx, host, six) {
				if a := netip.AddrPortFrom(ip, port); ip.Is6() == six && sendable(a) {
					found(a)
				}
			}
		})
	}
	wg.Wait()
}

// ips returns the addresses of a host in a family.
func (h *hosts) ips(ctx context.Context, host string, six bool) []netip.Addr {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}
	}
	network := "ip4"
	if six {
		network = "ip6"
	}
	key := network + " " + host
	now := time.Now()
	h.mu.Lock()
	r, ok := h.resolved[key]
	h.mu.Unlock()
	if ok && now.Before(r.until) {
		return r.ips
	}
	if !h.routed(six) {
		return nil
	}
	ips, err := h.lookup(ctx, network, host)
	if ctx.Err() != nil && len(ips) == 0 {
		return nil // which says nothing about the name
	}
	r = resolved{until: now.Add(hostLife)}
	var unknown *net.DNSError
	if err != nil && !(errors.As(err, &unknown) && unknown.IsNotFound) {
		r.until = now.Add(hostRetry)
	}
	for _, ip := range ips {
		r.ips = append(r.ips, ip.Unmap())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.resolved) > 4*maxHosts {
		clear(h.resolved)
	}
	h.resolved[key] = r
	return r.ips
}

// splitHost takes a host:port apart.
func splitHost(s string) (host string, port uint16, ok bool) {
	host, p, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(p, 10, 16)
	return host, uint16(n), err == nil && perr == nil && n > 0 && host != "" && len(host) < 256
}

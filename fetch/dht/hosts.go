package dht

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	maxHosts   = 64 // learned beside those configured
	resolveFor = 5 * time.Second
	hostLife   = 30 * time.Minute // of a resolved name
	hostRetry  = 30 * time.Second // after a failure
)

// hosts are the places to ask when nobody in the routing table answers: the bootstrap nodes, and the nodes that a
// .torrent file names.
type hosts struct {
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	mu       sync.Mutex
	fixed    []string // host:port
	learned  []string // the latest last
	resolved map[string]resolved
}

type resolved struct {
	ips   []netip.Addr
	until time.Time
}

func newHosts(fixed []string) *hosts {
	return &hosts{lookup: net.DefaultResolver.LookupNetIP, fixed: fixed, resolved: make(map[string]resolved)}
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

// resolve returns the addresses of all hosts in a family. It takes resolveFor at most; a name that doesn't resolve is
// left out.
func (h *hosts) resolve(ctx context.Context, six bool) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	h.mu.Lock()
	all := slices.Concat(h.learned, h.fixed)
	h.mu.Unlock()
	addrs := make([][]netip.AddrPort, len(all))
	var wg sync.WaitGroup
	for i, hostport := range all {
		host, port, ok := splitHost(hostport)
		if !ok {
			continue
		}
		wg.Go(func() {
			for _, ip := range h.ips(ctx, host, six) {
				if a := netip.AddrPortFrom(ip, port); ip.Is6() == six && sendable(a) {
					addrs[i] = append(addrs[i], a)
				}
			}
		})
	}
	wg.Wait()
	return slices.Concat(addrs...)
}

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
	ips, err := h.lookup(ctx, network, host)
	if ctx.Err() != nil && len(ips) == 0 {
		return nil // which says nothing about the name
	}
	r = resolved{until: now.Add(hostLife)}
	if err != nil {
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

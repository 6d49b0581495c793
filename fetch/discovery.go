package fetch

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/reach"
	"torrentfs/fetch/tracker"
)

// The ways in which peers are found, as the swarm names them.
const (
	byHand    = "by hand"
	byLink    = "magnet link" // a stranger's word, which does not lead everywhere
	byTracker = "tracker"
	byDHT     = "dht"
	byLSD     = "lsd"
)

// listener is who is told of the peers of a torrent: its swarm, or while its metadata is missing, who fetches that.
type listener interface {
	// AddPeers takes addresses that source named.
	AddPeers(source string, addrs []netip.AddrPort)
	// report is what trackers are told of us.
	report() tracker.Request
	// short reports whether more peers are needed soon.
	short() bool
	// completed is closed once the whole torrent has been downloaded.
	completed() <-chan struct{}
}

// discovery finds the peers of one torrent, by every way that the torrent allows, for as long as it runs.
type discovery struct {
	client    *Client
	announcer *tracker.Announcer // nil without trackers
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu     sync.Mutex
	to     listener
	search *search // nil for a private torrent
}

// discover starts to find the peers of t, and tells l of them: at the addresses given by hand, by the trackers and, unless
// the torrent is private (BEP 27), by the DHT and on the local network. Of a torrent that is to be resolved, t is what the
// link says, and linked the addresses of peers in it.
func (c *Client) discover(t *metainfo.Torrent, peers, linked []string, l listener) *discovery {
	ctx, cancel := context.WithCancel(c.ctx)
	d := &discovery{client: c, cancel: cancel, to: l}
	d.wg.Go(func() { d.resolve(ctx, byHand, peers) })
	d.wg.Go(func() { d.resolve(ctx, byLink, linked) })
	tiers := c.usable(t.Trackers)
	if c.sockets.Proxied() && len(tiers)+len(peers)+len(linked) == 0 {
		c.log.Warn("no peers will be found: they are given by --peer or by http trackers, which go through the proxy", "torrent", t.Name)
	}
	if len(tiers) > 0 {
		d.announcer = tracker.NewAnnouncer(c.trackers, tiers,
			func() tracker.Request { return d.listener().report() },
			func(_ string, addrs []netip.AddrPort) { d.listener().AddPeers(byTracker, addrs) }, c.log)
		d.announcer.Outside = c.outside.learn
		d.wg.Go(func() { d.announcer.Run(ctx) })
	}
	if !t.Private {
		d.search = c.search(t.InfoHash, t.Nodes, d)
	}
	d.wg.Go(func() { d.hurry(ctx) })
	return d
}

// lookEvery is how often it is asked whether peers are short.
const lookEvery = 10 * time.Second

// hurry has peers looked for sooner while they are short, and trackers told when the download is complete.
func (d *discovery) hurry(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := false
	for {
		completed := d.listener().completed()
		if told || d.announcer == nil {
			completed = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-completed:
			told = true
			d.announcer.Completed()
			continue
		case <-tick.C:
		}
		if d.listener().short() {
			d.want()
		}
	}
}

// want has peers looked for soon.
func (d *discovery) want() {
	if d.announcer != nil {
		d.announcer.Want()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.search != nil && d.search.lookup != nil {
		d.search.lookup.Want()
	}
}

// usable are the trackers that may be asked: behind a proxy, those that are not asked by UDP.
func (c *Client) usable(tiers [][]string) (usable [][]string) {
	switch {
	case c.cfg.NoTrackers:
		return nil
	case !c.sockets.Proxied():
		return tiers
	}
	for _, tier := range tiers {
		tier = slices.DeleteFunc(slices.Clone(tier), func(tracker string) bool {
			return strings.HasPrefix(strings.ToLower(strings.TrimSpace(tracker)), "udp:")
		})
		if len(tier) > 0 {
			usable = append(usable, tier)
		}
	}
	return usable
}

// close ends the finding; trackers are told.
func (d *discovery) close() {
	d.cancel()
	d.keepPrivate()
	d.wg.Wait()
}

// keepPrivate ends what only a public torrent may do: a magnet link does not say that its torrent is private.
func (d *discovery) keepPrivate() {
	d.mu.Lock()
	s := d.search
	d.search = nil
	d.mu.Unlock()
	if s != nil {
		s.end()
	}
}

func (d *discovery) listener() listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to
}

// tell has another listener told from now on.
func (d *discovery) tell(l listener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = l
}

// trackers says how announcing goes.
func (d *discovery) trackers() []tracker.Status {
	if d.announcer == nil {
		return nil
	}
	return d.announcer.Status()
}

// resolvePause is how long a name that does not resolve is left alone.
const resolvePause = 15 * time.Second

// resolve looks up the peers that source named, until each name has had an answer.
func (d *discovery) resolve(ctx context.Context, source string, hosts []string) {
	for len(hosts) > 0 {
		var failed []string
		for _, h := range hosts {
			addrs, err := d.client.lookup(ctx, h)
			if err != nil && ctx.Err() == nil {
				level := slog.LevelWarn
				if source == byLink { // which may name a thousand
					level = slog.LevelDebug
				}
				d.client.log.Log(ctx, level, "cannot look up a peer's address", "peer", h, "err", err)
				failed = append(failed, h)
			}
			if source == byLink {
				addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return reach.Of(a.Addr()) == reach.Never })
			} else {
				addrs = d.client.names.stand(h, addrs)
			}
			d.listener().AddPeers(source, addrs)
		}
		if hosts = failed; len(hosts) == 0 {
			return
		}
		select {
		case <-time.After(resolvePause):
		case <-ctx.Done():
			return
		}
	}
}

// lookup finds the addresses of a host:port.
func (c *Client) lookup(ctx context.Context, hostport string) (addrs []netip.AddrPort, err error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("bad port in %q", hostport)
	}
	ips, err := c.sockets.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return addrs, err
}

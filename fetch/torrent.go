package fetch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/swarm"
	"torrentfs/fetch/tracker"
)

// AddOptions say how one torrent is treated.
type AddOptions struct {
	Peers []string // host:port of peers known by hand
	Seed  bool     // the store has it all: want nothing, serve everything
}

// Torrent is a torrent that the client takes part in. It reads as fs.Content.
type Torrent struct {
	client    *Client
	meta      *metainfo.Torrent
	swarm     *swarm.Swarm
	announcer *tracker.Announcer // nil without trackers
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closing   sync.Once
}

// Stats is what a torrent can say of itself.
type Stats struct {
	swarm.Stats
	Trackers []tracker.Status
}

// Add starts taking part in a torrent, whose pieces are kept in store. Adding one that is there already is an error.
func (c *Client) Add(t *metainfo.Torrent, store swarm.Store, opt AddOptions) (*Torrent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, net.ErrClosed
	}
	if c.torrents[t.InfoHash] != nil {
		return nil, fmt.Errorf("torrent %v is given twice", t.InfoHash)
	}
	ctx, cancel := context.WithCancel(c.ctx)
	x := &Torrent{client: c, meta: t, cancel: cancel}
	x.swarm = swarm.New(swarm.Config{
		Torrent: t, Store: store, PeerID: c.peerID, Port: c.port(), Version: "torrentfs " + c.cfg.Version,
		InFlight: c.cfg.InFlight, MaxPeers: c.cfg.MaxPeers, Upload: c.cfg.Upload || opt.Seed, Seed: opt.Seed,
		PEX: !c.cfg.NoPEX, Logger: c.log.With("torrent", t.Name),
	})
	c.torrents[t.InfoHash] = x
	if len(opt.Peers) > 0 {
		x.wg.Go(func() { x.resolve(ctx, opt.Peers) })
	}
	if len(t.Trackers) > 0 && !c.cfg.NoTrackers {
		x.announcer = tracker.NewAnnouncer(c.trackers, t.Trackers, x.request, x.found, c.log)
		x.wg.Go(func() { x.announcer.Run(ctx) })
	}
	return x, nil
}

// request is what trackers are told of us.
func (t *Torrent) request() tracker.Request {
	st := t.swarm.Stats()
	port := t.client.port()
	if port == 0 {
		port = 1 // trackers refuse 0; where nobody listens, nobody will be reached either way
	}
	return tracker.Request{
		InfoHash: t.meta.InfoHash, PeerID: t.client.peerID, Port: port,
		Uploaded: st.Uploaded, Downloaded: st.Downloaded, Left: max(t.meta.Length-st.Verified, 0), NumWant: 100,
	}
}

// found passes the addresses of a tracker's reply on.
func (t *Torrent) found(_ string, peers []netip.AddrPort) { t.swarm.AddPeers("tracker", peers) }

// resolvePause is how long a name that does not resolve is left alone.
const resolvePause = 15 * time.Second

// resolve looks the peers up that were given by hand, until each name has had an answer.
func (t *Torrent) resolve(ctx context.Context, hosts []string) {
	for len(hosts) > 0 {
		var failed []string
		for _, h := range hosts {
			addrs, err := lookup(ctx, h)
			if err != nil && ctx.Err() == nil {
				t.client.log.Warn("cannot look up a peer's address", "peer", h, "err", err)
				failed = append(failed, h)
			}
			t.swarm.AddPeers("by hand", addrs)
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
func lookup(ctx context.Context, hostport string) (addrs []netip.AddrPort, err error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("bad port in %q", hostport)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return addrs, err
}

// ReadAt fills p with verified bytes of the torrent from off on, or returns an error; see fs.Content.
func (t *Torrent) ReadAt(ctx context.Context, p []byte, off int64) error {
	return t.swarm.ReadAt(ctx, p, off)
}

// Ahead says what will be read soon; see fs.Content.
func (t *Torrent) Ahead(cursor uint64, off, n, rate int64) { t.swarm.Ahead(cursor, off, n, rate) }

// Stats returns the torrent's figures as they are now.
func (t *Torrent) Stats() Stats {
	st := Stats{Stats: t.swarm.Stats()}
	if t.announcer != nil {
		st.Trackers = t.announcer.Status()
	}
	return st
}

// Close leaves the swarm: blocked reads end with an error, trackers are told, and nothing runs when it returns.
func (t *Torrent) Close() error {
	t.closing.Do(func() {
		t.client.mu.Lock()
		delete(t.client.torrents, t.meta.InfoHash)
		t.client.mu.Unlock()
		t.cancel()
		t.wg.Wait()
		t.swarm.Close()
	})
	return nil
}

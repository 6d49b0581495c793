package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"torrentfs/fetch/metadata"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/peer"
	"torrentfs/fetch/tracker"
	"torrentfs/fetch/web"
)

// resolution is the finding of the metadata of a torrent of which only the info-hash is known.
type resolution struct {
	client  *Client
	hash    metainfo.Hash
	share   *share
	fetcher *metadata.Fetcher
}

// accept takes in a peer that dialled us.
func (r *resolution) accept(conn *peer.Conn) {
	nc, theirs := conn.Detach()
	r.fetcher.Accept(nc, conn.Addr(), theirs)
}

// AddPeers implements listener.
func (r *resolution) AddPeers(source string, addrs []netip.AddrPort) {
	r.fetcher.AddPeers(source, addrs)
}

// report implements listener.
func (r *resolution) report() tracker.Request {
	return r.client.announce(r.hash, tracker.Request{Left: tracker.LeftUnknown})
}

// short implements listener: until the metadata is there, no number of peers is enough.
func (r *resolution) short() bool { return true }

// completed implements listener.
func (r *resolution) completed() <-chan struct{} { return nil }

// CanResolve says whether there is any way to the metadata of a magnet link; peers are addresses known by hand. The error
// says why there is none, and what would be one.
func (c *Client) CanResolve(m metainfo.Magnet, peers []string) error {
	named := len(peers) + len(m.Peers) + len(m.Sources)
	if len(m.Trackers) > 0 {
		named += len(c.usable([][]string{m.Trackers}))
	}
	switch local := !c.cfg.NoLSD && c.port() != 0; {
	case named > 0 || !c.cfg.NoDHT || local || c.told():
		return nil
	case c.sockets.Proxied() && len(m.Trackers) > 0 && !c.cfg.NoTrackers:
		return errors.New("its trackers are asked by UDP, which does not go through the proxy, nor does the DHT; a --peer, or a link with an http tracker, would be a way")
	case c.sockets.Proxied():
		return errors.New("it names no tracker and no peer, and the DHT does not go through the proxy; a --peer would be a way")
	}
	return errors.New("no tracker, no peer, and the flags rule out the rest")
}

// told says whether peers may have been told by hand where to dial us: at a port that the user chose.
func (c *Client) told() bool {
	_, port, _ := net.SplitHostPort(c.cfg.Listen)
	return c.port() != 0 && port != "0"
}

// Resolve gets the metadata of a magnet link from its peers (BEP 9), those that dial us too, and beside them from the links
// that it names. peers are addresses known by hand; progress, if any, is called now and then. The discovery that it
// started goes on for Add, and so do the connections that it made. It ends with ctx.
func (c *Client) Resolve(ctx context.Context, m metainfo.Magnet, peers []string, progress func(metadata.Progress)) (*metainfo.Torrent, error) {
	share := c.budget.join()
	r := &resolution{client: c, hash: m.InfoHash, share: share, fetcher: metadata.New(metadata.Config{
		InfoHash: m.InfoHash, PeerID: c.peerID, Version: c.version(), NoPEX: c.cfg.NoPEX, Room: share.take,
		Dial: share.dialer(c.dialer(m.InfoHash)), Redial: c.redial(share), Logger: c.log,
	})}
	tiers := make([][]string, 0, len(m.Trackers))
	for _, t := range m.Trackers {
		tiers = append(tiers, []string{t})
	}
	c.mu.Lock()
	c.resolving[m.InfoHash] = r
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.resolving[m.InfoHash] == r {
			delete(c.resolving, m.InfoHash)
		}
	}()
	known := &metainfo.Torrent{InfoHash: m.InfoHash, Trackers: tiers}
	d := c.discover(known, peers, m.Peers, r)
	t, err := r.run(ctx, m, progress)
	f := &found{discovery: d, share: share, peers: r.fetcher.Peers(), live: r.fetcher.Live()}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("no metadata for %v: %w", m.InfoHash, err)
	}
	if t.Private {
		f.keepPrivate()
	}
	t.Trackers = append(t.Trackers, tiers...)
	t.WebSeeds = append(t.WebSeeds, m.WebSeeds...)
	c.mu.Lock()
	old := f
	if c.found != nil { // the client is not closed
		old = c.found[m.InfoHash]
		c.found[m.InfoHash] = f
	}
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
	return t, nil
}

// found is what a resolution leaves for the torrent: a discovery that runs, the peers that it has found by who named them,
// and the connections to some.
type found struct {
	discovery *discovery
	share     *share
	peers     map[string][]netip.AddrPort
	live      []metadata.Live
}

// close ends all of it.
func (f *found) close() {
	f.discovery.close()
	for _, l := range f.live {
		_ = l.Conn.Close()
	}
	f.share.leave()
}

// keepPrivate drops what only a public torrent may know: the link did not say that this one is private (BEP 27). Who dialled us
// may have found us in the DHT.
func (f *found) keepPrivate() {
	f.discovery.keepPrivate()
	allowed := func(source string) bool { return source == byHand || source == byLink || source == byTracker }
	maps.DeleteFunc(f.peers, func(source string, _ []netip.AddrPort) bool { return !allowed(source) })
	f.live = slices.DeleteFunc(f.live, func(l metadata.Live) bool {
		if !allowed(l.Source) {
			_ = l.Conn.Close()
		}
		return !allowed(l.Source)
	})
}

// give hands all of it to the torrent.
func (f *found) give(t *Torrent) {
	t.discovery = f.discovery
	f.discovery.tell(t)
	for _, l := range f.live { // before the addresses, which would be dialled
		conn := peer.Resume(l.Conn, t.swarm.Link(), l.Peer, l.RTT, l.Incoming)
		if l.Incoming {
			t.swarm.Accept(conn)
		} else {
			t.swarm.Resume(l.Source, l.Addr, conn)
		}
	}
	for source, addrs := range f.peers {
		t.swarm.AddPeers(source, addrs)
	}
}

// run asks peers and links until one of them gives the right metadata.
func (r *resolution) run(ctx context.Context, m metainfo.Magnet, progress func(metadata.Progress)) (*metainfo.Torrent, error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.client.ctx, cancel)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	results := make(chan *metainfo.Torrent, 1+len(m.Sources))
	var fatal error
	wg.Go(func() {
		info, err := r.fetcher.Run(ctx)
		if err != nil {
			return // ctx has ended
		}
		t, err := metainfo.ParseInfo(info)
		if err != nil {
			fatal = fmt.Errorf("the torrent can't be used: %w", err)
			cancel()
			return
		}
		results <- t
	})
	for _, link := range m.Sources {
		wg.Go(func() {
			if t := r.download(ctx, link); t != nil {
				results <- t
			}
		})
	}
	if progress != nil {
		wg.Go(func() { r.fetcher.Watch(ctx, progress) })
	}
	select {
	case t := <-results:
		return t, nil
	case <-ctx.Done():
		wg.Wait()
		select {
		case t := <-results:
			return t, nil
		default:
		}
		return nil, errors.Join(fatal, ctx.Err())
	}
}

// download gets a .torrent that a magnet link names, nil if it is of no use.
func (r *resolution) download(ctx context.Context, link string) *metainfo.Torrent {
	b, err := r.client.web().Get(ctx, link, web.Stranger)
	var t *metainfo.Torrent
	if err == nil {
		t, err = metainfo.Parse(b)
	}
	if err == nil && t.InfoHash != r.hash {
		err = errors.New("it is another torrent")
	}
	if err != nil {
		r.client.log.Info("the link in the magnet gave no torrent", "url", link, "err", err)
		return nil
	}
	return t
}

// Download gets the .torrent file at an http or https link that the user gave.
func (c *Client) Download(ctx context.Context, link string) (*metainfo.Torrent, error) {
	b, err := c.web().Get(ctx, link, web.User)
	if err != nil {
		return nil, err
	}
	return metainfo.Parse(b)
}

// web gets files for the client.
func (c *Client) web() web.Client { return web.Client{Sockets: c.sockets, UserAgent: c.userAgent()} }

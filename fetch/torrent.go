package fetch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/swarm"
	"torrentfs/fetch/tracker"
)

// AddOptions say how one torrent is treated.
type AddOptions struct {
	Peers []string // host:port of peers known by hand
	Seed  bool     // the store has it all: want nothing, serve everything
	Keep  bool     // fetch it whole in the background, after everything that readers want
}

// Torrent is a torrent that the client takes part in. It reads as fs.Content.
type Torrent struct {
	client    *Client
	meta      *metainfo.Torrent
	swarm     *swarm.Swarm
	discovery *discovery
	share     *share
	seed      bool // it wants nothing
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
	f := c.found[t.InfoHash] // it was a magnet link: its discovery runs already
	x := &Torrent{client: c, meta: t, seed: opt.Seed}
	if f != nil {
		delete(c.found, t.InfoHash)
		x.share = f.share
	} else {
		x.share = c.budget.join()
	}
	config := swarm.Config{
		Torrent: t, Store: store, PeerID: c.peerID, Port: c.port(), Version: c.version(),
		InFlight: c.cfg.InFlight, ReadAhead: c.cfg.ReadAhead, MaxPeers: c.cfg.MaxPeers, Upload: c.cfg.Upload || opt.Seed, Seed: opt.Seed,
		Keep: opt.Keep, PEX: !c.cfg.NoPEX, Room: x.share.take, Dial: x.share.dialer(c.dialer(t.InfoHash)),
		Redial: c.redial(x.share), Outside: c.outside.addrs, Logger: c.log.With("torrent", t.Name),
	}
	if c.upload != nil {
		config.Pace = c.upload
	}
	if !t.Private { // for a private one nothing of the kind begins
		config.DHTPort, config.Node = c.dhtPort(), c.node
	}
	x.swarm = swarm.New(config)
	x.share.listen(x.swarm.Shed, x.swarm.RoomFreed)
	if f != nil {
		f.give(x)
	} else {
		x.discovery = c.discover(t, opt.Peers, nil, x)
	}
	c.torrents[t.InfoHash] = x
	return x, nil
}

// AddPeers implements listener.
func (t *Torrent) AddPeers(source string, addrs []netip.AddrPort) { t.swarm.AddPeers(source, addrs) }

// report implements listener.
func (t *Torrent) report() tracker.Request {
	st := t.swarm.Stats()
	return t.client.announce(t.meta.InfoHash, tracker.Request{
		Uploaded: st.Uploaded, Downloaded: st.Downloaded, Left: st.Left, NumWant: 100,
	})
}

// enoughPeers is how many connections a torrent should have before it stops asking for more.
const enoughPeers = 5

// short implements listener.
func (t *Torrent) short() bool { return !t.seed && short(t.swarm.Stats()) }

// short reports whether more peers are needed soon. While nothing is wanted it is enough that somebody serves us: what is read
// next can begin.
func short(st swarm.Stats) bool {
	switch {
	case st.Left == 0:
		return false
	case st.Wanted == 0:
		return st.Unchoked == 0
	}
	return st.Unchoked < enoughPeers
}

// completed implements listener.
func (t *Torrent) completed() <-chan struct{} { return t.swarm.Completed() }

// ReadAt fills p with verified bytes of the torrent from off on, or returns an error; see fs.Content.
func (t *Torrent) ReadAt(ctx context.Context, p []byte, off int64) error {
	return t.swarm.ReadAt(ctx, p, off)
}

// View returns bytes that are in memory in one stretch; see fs.Content.
func (t *Torrent) View(off, n int64) (data []byte, release func(), ok bool) {
	return t.swarm.View(off, n)
}

// Ahead says what will be read soon; see fs.Content.
func (t *Torrent) Ahead(cursor uint64, off, n, rate int64) { t.swarm.Ahead(cursor, off, n, rate) }

// Lost says that the store may hold a piece no more. It never blocks.
func (t *Torrent) Lost(piece int) { t.swarm.Lost(piece) }

// Stats returns the torrent's figures as they are now.
func (t *Torrent) Stats() Stats {
	return Stats{Stats: t.swarm.Stats(), Trackers: t.discovery.trackers()}
}

// Close leaves the swarm: blocked reads end with an error, trackers are told, and nothing runs when it returns.
func (t *Torrent) Close() error {
	t.closing.Do(func() {
		t.client.mu.Lock()
		delete(t.client.torrents, t.meta.InfoHash)
		t.client.mu.Unlock()
		t.discovery.close()
		t.swarm.Close()
		t.share.leave()
	})
	return nil
}

package fetch

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"

	"torrentfs/fetch/dht"
	"torrentfs/fetch/lsd"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/portmap"
	"torrentfs/fetch/reach"
)

// bootstrap are the DHT nodes that a new node begins with, those that other clients begin with too.
var bootstrap = []string{
	"router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "router.utorrent.com:6881", "dht.libtorrent.org:25401",
}

// trackerless are the ways to find peers without a tracker: the DHT and the local network. Each begins with the first
// torrent that may use it, since a process with private torrents alone has no business there (BEP 27).
type trackerless struct {
	mu     sync.Mutex
	begun  bool
	closed bool
	node   *dht.Node    // nil: none
	local  *lsd.Service // nil: none

	listeners map[metainfo.Hash]*discovery // of what is found on the local network
}

// begin starts what is not running yet. What cannot run is logged, and done without.
func (c *Client) begin() (*dht.Node, *lsd.Service) {
	t := &c.trackerless
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun || t.closed {
		return t.node, t.local
	}
	t.begun = true
	var err error
	if !c.cfg.NoDHT {
		if t.node, err = dht.New(c.dhtConfig()); err != nil {
			c.log.Warn("there will be no DHT", "err", err)
		} else if c.ports != nil {
			for _, a := range t.node.Addrs() {
				if a.Addr().Is4() {
					c.ports.Map(portmap.UDP, a.Port())
				}
			}
		}
	}
	if !c.cfg.NoLSD && c.port() != 0 {
		if t.local, err = c.localService(); err != nil {
			c.log.Warn("peers on the local network will not be found", "err", err)
		}
	}
	return t.node, t.local
}

func (c *Client) localService() (*lsd.Service, error) {
	return lsd.New(lsd.Config{Found: c.foundLocally, Sockets: c.sockets, Logger: c.log})
}

// renew has the local network looked at through another device, whose name is that of the one before.
func (t *trackerless) renew(c *Client) {
	t.mu.Lock()
	old := t.local
	t.mu.Unlock()
	if old == nil {
		return
	}
	local, err := c.localService()
	if err != nil {
		c.log.Warn("peers on the local network will no longer be found", "err", err)
		return
	}
	t.mu.Lock()
	if t.closed {
		old = local
	} else {
		t.local = local
		for hash := range t.listeners {
			local.Announce(hash, c.port())
		}
	}
	t.mu.Unlock()
	_ = old.Close() // it may be telling of a peer, which takes the lock
}

// dht is the node, nil if there is none.
func (t *trackerless) dht() *dht.Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.node
}

// external are our addresses as the DHT sees them.
func (t *trackerless) external() []netip.Addr {
	if node := t.dht(); node != nil {
		return node.External()
	}
	return nil
}

// peerCame notes that a peer has dialled us. One from outside shows that announcing our port helps others.
func (t *trackerless) peerCame(from net.Addr) {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if node := t.dht(); node != nil && reach.Of(ip) == reach.Public {
		node.PeersCome(ip)
	}
}

// mapped notes that the router lets others in.
func (c *Client) mapped(protocol portmap.Protocol) {
	node := c.trackerless.dht()
	switch {
	case node == nil:
	case protocol == portmap.UDP:
		node.Mapped()
	default:
		node.PeersCome(netip.IPv4Unspecified())
	}
}

func (c *Client) dhtConfig() dht.Config {
	host := ""
	if c.cfg.Listen != "" {
		host, _, _ = net.SplitHostPort(c.cfg.Listen)
	}
	cfg := dht.Config{
		Listen: net.JoinHostPort(host, strconv.Itoa(int(c.port()))), Bootstrap: c.cfg.Bootstrap,
		ReadOnly: c.port() == 0, Sockets: c.sockets, Logger: c.log,
	}
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = bootstrap
	}
	if c.cfg.StateDir != "" {
		cfg.TablePath = filepath.Join(c.cfg.StateDir, "dht-nodes")
	}
	return cfg
}

// dhtPort is where our DHT node can be reached, 0 if there is none that can.
func (c *Client) dhtPort() uint16 {
	node, _ := c.begin()
	if node == nil || c.port() == 0 {
		return 0
	}
	for _, a := range node.Addrs() { // of both families, on one port if that could be had
		return a.Port()
	}
	return 0
}

// node passes a peer's DHT node on to ours.
func (c *Client) node(a netip.AddrPort) {
	if node, _ := c.begin(); node != nil {
		node.AddNodes([]string{a.String()})
	}
}

// foundLocally passes a peer on the local network to its torrent.
func (c *Client) foundLocally(hash [20]byte, peer netip.AddrPort) {
	c.trackerless.mu.Lock()
	d := c.trackerless.listeners[hash]
	c.trackerless.mu.Unlock()
	if d != nil {
		d.listener().AddPeers(byLSD, []netip.AddrPort{peer})
	}
}

// close ends both.
func (t *trackerless) close() {
	t.mu.Lock()
	t.closed = true
	node, local := t.node, t.local
	t.mu.Unlock() // for they may be telling of a peer, which takes it
	if node != nil {
		_ = node.Close()
	}
	if local != nil {
		_ = local.Close()
	}
}

// search is the looking for one torrent's peers without a tracker.
type search struct {
	client *Client
	hash   metainfo.Hash
	lookup *dht.Lookup // nil: no DHT
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// search starts to look for a torrent's peers, and tells d's listener of them. nodes are DHT nodes that the torrent names.
func (c *Client) search(hash metainfo.Hash, nodes []string, d *discovery) *search {
	node, local := c.begin()
	ctx, cancel := context.WithCancel(c.ctx)
	s := &search{client: c, hash: hash, cancel: cancel}
	if local != nil {
		c.trackerless.listen(hash, d)
		local.Announce(hash, c.port())
	}
	if node != nil {
		node.AddNodes(nodes)
		s.lookup = node.Lookup(hash, c.port(), func(addrs []netip.AddrPort) { d.listener().AddPeers(byDHT, addrs) })
		s.wg.Go(func() { s.lookup.Run(ctx) })
	}
	return s
}

// end ends the search.
func (s *search) end() {
	s.cancel()
	s.wg.Wait()
	if _, local := s.client.begin(); local != nil {
		local.Withdraw(s.hash)
	}
	s.client.trackerless.listen(s.hash, nil)
}

// listen notes who is to be told of a torrent's peers on the local network; nil: nobody.
func (t *trackerless) listen(hash metainfo.Hash, d *discovery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d == nil {
		delete(t.listeners, hash)
		return
	}
	if t.listeners == nil {
		t.listeners = make(map[metainfo.Hash]*discovery)
	}
	t.listeners[hash] = d
}

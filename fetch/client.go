// Package fetch is the side of torrentfs that faces the network, behind one door: a Client for the process, a Torrent for
// each torrent that is mounted or seeded. It joins discovery (trackers, addresses given by hand, peers that dial us) to
// the swarm, and holds no algorithm of its own: which block is asked of whom is decided in packages swarm and picker.
package fetch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/peer"
	"torrentfs/fetch/portmap"
	"torrentfs/fetch/socket"
	"torrentfs/fetch/tracker"
)

// Config is what a Client is made of; its zero value is a client that listens nowhere and uploads nothing.
type Config struct {
	// Listen is the host:port for peers that dial us; empty: none can. Port 0 is one that is kept in StateDir, or another
	// while somebody else has that. With a host, which is an address of this host, all traffic is sent from it; 0.0.0.0 and ::
	// are all that this host has of IPv4 and IPv6, and leave the other alone.
	Listen     string
	Device     string   // network interface that all traffic goes through; empty: any
	Proxy      *url.URL // SOCKS5 proxy that all traffic goes through, which rules out much: see New; nil: none
	MaxPeers   int      // connections per torrent; 0: 80
	MaxConns   int      // of all torrents together, those under way included; 0: 500
	Upload     bool     // serve what we hold
	NoTrackers bool
	NoPEX      bool
	NoDHT      bool
	NoLSD      bool
	NoPortMap  bool       // don't ask the router to let peers in
	Encryption Encryption // empty: AllowEncryption
	Bootstrap  []string   // host:port of DHT nodes to begin with; nil: well-known ones
	StateDir   string     // where the DHT's routing table and the port are kept between runs; empty: nowhere
	// Limits for all torrents together, in bytes of traffic a second; 0: none.
	DownloadLimit, UploadLimit int64
	InFlight                   int64  // bytes of incomplete pieces per torrent; 0: 64 MiB
	ReadAhead                  int64  // bytes that are fetched ahead of a reader that is stuck at most; 0: no more than it says (Torrent.Ahead)
	Version                    string // of the program, told to peers and trackers
	Logger                     *slog.Logger
}

const (
	defaultMaxPeers = 80
	defaultInFlight = 64 << 20
	handshakeLimit  = 15 * time.Second
	firstBytesLimit = 5 * time.Second // who dials has them ready
	acceptWarning   = time.Hour       // between warnings that peers can't be accepted
)

// ParseProxy reads what names a proxy for Config: socks5://[user:password@]host:port. The error says what would have been
// right.
func ParseProxy(s string) (*url.URL, error) { return socket.ParseProxy(s) }

// Client is the network side of one process. Its methods are safe for concurrent use.
type Client struct {
	cfg         Config
	log         *slog.Logger
	sockets     *socket.Opener
	peerID      [20]byte
	trackers    *tracker.Client
	download    *limiter // nil: no limit
	upload      *limiter
	budget      *budget
	lobby       lobby
	outside     *outside
	names       names
	manners     manners
	trackerless trackerless
	listener    net.Listener
	ports       *portmap.Mapper // nil: none
	ctx         context.Context //nolint:containedctx // the client's own lifetime
	cancel      context.CancelFunc
	wg          sync.WaitGroup

	mu        sync.Mutex
	torrents  map[metainfo.Hash]*Torrent
	resolving map[metainfo.Hash]*resolution
	found     map[metainfo.Hash]*found // resolved, and not added yet
}

// New starts a client. The error says why it cannot listen, or be held to a device or address. Behind a proxy there are no
// peers that dial us, no DHT, no peers on the local network and no UDP trackers: none of these goes through it.
func New(cfg Config) (*Client, error) {
	if cfg.MaxPeers == 0 {
		cfg.MaxPeers = defaultMaxPeers
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConnections
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = defaultInFlight
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	local, err := listenHost(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for peers: %w", err)
	}
	sockets, err := socket.New(socket.Config{Device: cfg.Device, Local: local, Proxy: cfg.Proxy, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	if sockets.Proxied() {
		cfg.Listen, cfg.NoDHT, cfg.NoLSD = "", true, true
		cfg.Logger.Info("everything goes through the proxy: no incoming connections, no DHT, no peers on the local network, no UDP trackers",
			"proxy", cfg.Proxy.Redacted())
	}
	c := &Client{cfg: cfg, sockets: sockets, log: cfg.Logger, peerID: newPeerID(), torrents: make(map[metainfo.Hash]*Torrent),
		resolving: make(map[metainfo.Hash]*resolution), found: make(map[metainfo.Hash]*found),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.outside = newOutside(c)
	c.budget = newBudget(cfg.MaxConns)
	c.download, c.upload = newLimiter(cfg.DownloadLimit), newLimiter(cfg.UploadLimit)
	if cfg.Listen != "" {
		if c.listener, err = c.listen(); err != nil {
			c.cancel()
			return nil, err
		}
		c.log.Debug("listening for peers", "address", c.Addr())
		c.wg.Go(c.accept)
		if !cfg.NoPortMap {
			c.ports = portmap.New(portmap.Config{Sockets: sockets, Logger: cfg.Logger, Open: c.mapped})
			c.ports.Map(portmap.TCP, c.port())
		}
	}
	c.wg.Go(func() { sockets.Watch(c.ctx, c.back) })
	c.trackers = tracker.NewClient(tracker.ClientOptions{
		UserAgent: c.userAgent(), DialContext: sockets.DialContext, Lookup: sockets.LookupNetIP, RemoteDNS: sockets.Proxied(),
	})
	return c, nil
}

// newPeerID makes the process's peer id: a mark of the program, then chance (BEP 20).
func newPeerID() (id [20]byte) {
	_, _ = rand.Read(id[copy(id[:], "-TF0100-"):]) // never fails
	return id
}

// version is what peers are told of the program.
func (c *Client) version() string { return "torrentfs " + c.cfg.Version }

// userAgent is what HTTP servers are told of the program.
func (c *Client) userAgent() string { return "torrentfs/" + c.cfg.Version }

// announce fills in what a tracker is told of the client itself.
func (c *Client) announce(hash metainfo.Hash, r tracker.Request) tracker.Request {
	r.InfoHash, r.PeerID, r.Port = hash, c.peerID, c.port()
	if r.Port == 0 {
		r.Port = 1 // trackers refuse 0; where nobody listens, nobody will be reached either way
	}
	return r
}

// Addr is where the client listens; nil if nowhere.
func (c *Client) Addr() net.Addr {
	if c.listener == nil {
		return nil
	}
	return c.listener.Addr()
}

// port is the port that the client listens on, 0 if none.
func (c *Client) port() uint16 {
	if a, ok := c.Addr().(*net.TCPAddr); ok {
		return uint16(a.Port)
	}
	return 0
}

// dial connects to a peer.
func (c *Client) dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := c.sockets.DialContext(ctx, "tcp", c.names.of(addr))
	if err != nil {
		return nil, err
	}
	return c.limit(nc), nil
}

// back has everybody looked for and tried again once a network that was gone is back: what failed meanwhile says nothing
// about them.
func (c *Client) back() {
	c.trackerless.renew(c)
	if c.ports != nil {
		c.ports.Again()
	}
	c.mu.Lock()
	open := slices.Collect(maps.Values(c.torrents))
	c.mu.Unlock()
	for _, t := range open {
		t.swarm.Retry()
		t.discovery.want()
	}
}

// accept takes peers in that dial us.
func (c *Client) accept() {
	var warned time.Time
	for {
		nc, err := c.listener.Accept()
		if err != nil {
			if c.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if time.Since(warned) > acceptWarning { // out of descriptors, say: it may pass
				c.log.Warn("accepting peers fails", "err", err)
				warned = time.Now()
			}
			select {
			case <-time.After(time.Second):
			case <-c.ctx.Done():
				return
			}
			continue
		}
		c.trackerless.peerCame(nc.RemoteAddr())
		g := c.lobby.enter(nc)
		c.wg.Go(func() { c.receive(g) })
	}
}

// receive shakes hands with a peer that dialled us and passes it to its torrent.
func (c *Client) receive(g *guest) {
	ctx, cancel := context.WithTimeout(c.ctx, handshakeLimit)
	defer cancel()
	defer c.lobby.leave(g)
	var to host
	open, err := c.decrypt(ctx, g)
	var conn *peer.Conn
	if err == nil {
		entry := &counted{Conn: open}
		conn, err = peer.Receive(ctx, entry, func(hash [20]byte) *peer.Torrent {
			if to = c.host(hash); to.link == nil || !entry.enter(to.share) {
				return nil
			}
			return to.link
		})
	}
	if err == nil && !c.lobby.leave(g) {
		conn.Close()
		err = errGaveWay
	}
	if err != nil {
		c.log.Debug("incoming connection refused", "peer", g.nc.RemoteAddr(), "err", err)
		return
	}
	to.accept(conn)
}

// host is who takes the peers of a torrent in that dial us: its swarm, or who looks for its metadata.
type host struct {
	link   *peer.Torrent // nil: nobody does
	share  *share
	accept func(*peer.Conn)
}

func (c *Client) host(hash metainfo.Hash) host {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.torrents[hash]; t != nil {
		return host{t.swarm.Link(), t.share, t.swarm.Accept}
	}
	if r := c.resolving[hash]; r != nil {
		return host{&peer.Torrent{InfoHash: hash, PeerID: c.peerID}, r.share, r.accept}
	}
	return host{}
}

// expects gives the torrent whose peers may dial us and of which match is true.
func (c *Client) expects(match func(hash [20]byte) bool) ([20]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for hash := range c.torrents {
		if match(hash) {
			return hash, true
		}
	}
	for hash := range c.resolving {
		if match(hash) {
			return hash, true
		}
	}
	return [20]byte{}, false
}

// Close ends all torrents and the client; nothing of it runs when it returns.
func (c *Client) Close() error {
	c.cancel()
	if c.listener != nil {
		_ = c.listener.Close()
	}
	c.mu.Lock()
	open := make([]*Torrent, 0, len(c.torrents))
	for _, t := range c.torrents {
		open = append(open, t)
	}
	found := c.found
	c.found = nil
	c.mu.Unlock()
	var wg sync.WaitGroup
	if c.ports != nil {
		wg.Go(c.ports.Close)
	}
	for _, t := range open {
		wg.Go(func() { _ = t.Close() })
	}
	for _, f := range found {
		wg.Go(f.close)
	}
	wg.Wait()
	c.wg.Wait()
	c.trackerless.close()
	c.trackers.Close()
	return nil
}

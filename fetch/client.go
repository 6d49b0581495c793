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
	"net"
	"sync"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/peer"
	"torrentfs/fetch/tracker"
)

// Config is what a Client is made of; its zero value is a client that listens nowhere and uploads nothing.
type Config struct {
	Listen     string // host:port for peers that dial us; empty: none can
	MaxPeers   int    // connections per torrent; 0: 80
	Upload     bool   // serve what we hold
	NoTrackers bool
	NoPEX      bool
	NoDHT      bool
	NoLSD      bool
	Encryption Encryption // empty: AllowEncryption
	Bootstrap  []string   // host:port of DHT nodes to begin with; nil: well-known ones
	StateDir   string     // where the DHT's routing table is kept between runs; empty: nowhere
	// Limits for all torrents together, in bytes of traffic a second; 0: none.
	DownloadLimit, UploadLimit int64
	InFlight                   int64  // bytes of incomplete pieces per torrent; 0: 64 MiB
	Version                    string // of the program, told to peers and trackers
	Logger                     *slog.Logger
}

const (
	defaultMaxPeers = 80
	defaultInFlight = 64 << 20
	handshakeLimit  = 15 * time.Second
)

// Client is the network side of one process. Its methods are safe for concurrent use.
type Client struct {
	cfg         Config
	log         *slog.Logger
	peerID      [20]byte
	trackers    *tracker.Client
	limits      limits
	curt        curt
	trackerless trackerless
	listener    net.Listener
	ctx         context.Context //nolint:containedctx // the client's own lifetime
	cancel      context.CancelFunc
	wg          sync.WaitGroup

	mu       sync.Mutex
	torrents map[metainfo.Hash]*Torrent
	found    map[metainfo.Hash]*found // resolved, and not added yet
}

// New starts a client. The error says why it cannot listen.
func New(cfg Config) (*Client, error) {
	if cfg.MaxPeers == 0 {
		cfg.MaxPeers = defaultMaxPeers
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = defaultInFlight
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, log: cfg.Logger, peerID: newPeerID(), torrents: make(map[metainfo.Hash]*Torrent),
		found: make(map[metainfo.Hash]*found),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.limits = limits{down: newLimiter(cfg.DownloadLimit), up: newLimiter(cfg.UploadLimit)}
	if cfg.Listen != "" {
		l, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			c.cancel()
			return nil, fmt.Errorf("cannot listen for peers: %w", err)
		}
		c.listener = l
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			c.accept()
		}()
	}
	c.trackers = tracker.NewClient(tracker.ClientOptions{UserAgent: c.userAgent()})
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
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.limits.wrap(c.ctx, nc), nil
}

// accept takes peers in that dial us.
func (c *Client) accept() {
	for {
		nc, err := c.listener.Accept()
		if err != nil {
			if c.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			c.log.Warn("accepting peers fails", "err", err) // out of descriptors, say: it may pass
			select {
			case <-time.After(time.Second):
			case <-c.ctx.Done():
				return
			}
			continue
		}
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			c.receive(nc)
		}()
	}
}

// receive shakes hands with a peer that dialled us and passes it to its torrent's swarm.
func (c *Client) receive(nc net.Conn) {
	ctx, cancel := context.WithTimeout(c.ctx, handshakeLimit)
	defer cancel()
	var t *Torrent
	open, err := c.decrypt(ctx, c.limits.wrap(c.ctx, nc))
	var conn *peer.Conn
	if err == nil {
		conn, err = peer.Receive(ctx, open, func(hash [20]byte) *peer.Torrent {
			c.mu.Lock()
			defer c.mu.Unlock()
			if t = c.torrents[hash]; t == nil {
				return nil
			}
			return t.swarm.Link()
		})
	}
	if err != nil {
		c.log.Debug("incoming connection refused", "peer", nc.RemoteAddr(), "err", err)
		return
	}
	t.swarm.Accept(conn)
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
	for _, t := range open {
		wg.Go(func() { _ = t.Close() })
	}
	for _, f := range found {
		wg.Go(f.discovery.close)
	}
	wg.Wait()
	c.wg.Wait()
	c.trackerless.close()
	c.trackers.Close()
	return nil
}

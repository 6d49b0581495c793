package fetch

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/mse"
)

// Encryption says how connections between peers are hidden from who looks at them in passing.
type Encryption string

const (
	// AllowEncryption takes peers in either way, and dials in plaintext, which is two round trips sooner; peers that
	// hang up on that are dialled encrypted the next time. It is the default.
	AllowEncryption Encryption = "allow"
	// PreferEncryption takes peers in either way, and dials encrypted first, as other clients do.
	PreferEncryption Encryption = "prefer"
	// RequireEncryption has no connection that is not encrypted from end to end.
	RequireEncryption Encryption = "require"
	// NoEncryption has none that is.
	NoEncryption Encryption = "off"
)

// encryptLimit is how long a peer may take to shake hands encrypted before it is tried in plaintext.
const encryptLimit = 4 * time.Second

var errRefused = errors.New("plaintext refused: encryption is required")
var errUnwanted = errors.New("not a BitTorrent handshake, and encryption is off")

// dialer returns what dials peers of a torrent.
func (c *Client) dialer(hash metainfo.Hash) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		switch c.cfg.Encryption {
		case NoEncryption:
			return c.dial(ctx, addr)
		case RequireEncryption:
			nc, err := c.dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			return mse.Initiate(ctx, nc, hash, mse.RC4)
		case PreferEncryption:
			return c.dialEither(ctx, addr, hash)
		}
		if c.curt.take(addr) {
			return c.dialEither(ctx, addr, hash)
		}
		nc, err := c.dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &plain{Conn: nc, silent: func() { c.curt.add(addr) }}, nil
	}
}

// dialEither tries encrypted, then in plaintext.
func (c *Client) dialEither(ctx context.Context, addr string, hash metainfo.Hash) (net.Conn, error) {
	nc, err := c.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, encryptLimit)
	defer cancel()
	hidden, err := mse.Initiate(limited, nc, hash, mse.Plain|mse.RC4)
	if err == nil || ctx.Err() != nil {
		return hidden, err
	}
	c.log.Debug("trying in plaintext", "peer", addr, "err", err)
	return c.dial(ctx, addr)
}

// decrypt finds out how a peer that dialled us speaks, and returns what it says without the encryption. It ends with ctx;
// on error the connection is closed.
func (c *Client) decrypt(ctx context.Context, g *guest) (net.Conn, error) {
	first, cancel := context.WithTimeout(ctx, firstBytesLimit)
	defer cancel()
	nc, plain, err := mse.Sniff(first, c.download.limit(g.nc))
	if err == nil {
		c.lobby.spoke(g)
	}
	switch {
	case err != nil:
		return nil, err
	case plain && c.cfg.Encryption == RequireEncryption:
		_ = nc.Close()
		return nil, errRefused
	case plain:
		return nc, nil
	case c.cfg.Encryption == NoEncryption:
		_ = nc.Close()
		return nil, errUnwanted
	}
	accept := mse.Plain | mse.RC4
	if c.cfg.Encryption == RequireEncryption {
		accept = mse.RC4
	}
	return mse.Receive(ctx, nc, accept, func(match func([20]byte) bool) ([20]byte, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for hash := range c.torrents {
			if match(hash) {
				return hash, true
			}
		}
		return [20]byte{}, false
	})
}

// maxCurt bounds the peers that are remembered for hanging up.
const maxCurt = 1000

// curt are the peers that hung up on plaintext without a word.
type curt struct {
	mu    sync.Mutex
	addrs map[string]bool
}

func (c *curt) add(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.addrs) >= maxCurt {
		clear(c.addrs)
	}
	if c.addrs == nil {
		c.addrs = make(map[string]bool)
	}
	c.addrs[addr] = true
}

// take says whether addr is among them, and forgets it.
func (c *curt) take(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.addrs[addr]
	delete(c.addrs, addr)
	return was
}

// plain is a connection that tells when it is closed before anything came.
type plain struct {
	net.Conn
	heard  atomic.Bool
	silent func()
}

func (c *plain) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.heard.Load() {
		c.heard.Store(true)
	}
	return n, err
}

func (c *plain) Close() error {
	if !c.heard.Swap(true) {
		c.silent()
	}
	return c.Conn.Close()
}

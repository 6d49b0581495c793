package fetch

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/mse"
)

// Encryption says how connections between peers are hidden from who looks at them in passing.
type Encryption string

const (
	// AllowEncryption takes peers in either way, and dials in plaintext, which is two round trips sooner; peers that
	// hang up on that are dialled encrypted at once, and from then on. It is the default.
	AllowEncryption Encryption = "allow"
	// PreferEncryption takes peers in either way, and has everything encrypted where the peer can; it dials in plaintext
	// those that can't. So does what transmission calls preferred.
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
		nc, err := c.dial(ctx, addr)
		if err != nil || c.cfg.Encryption == NoEncryption {
			return nc, err
		}
		if c.cfg.Encryption == RequireEncryption {
			return mse.Initiate(ctx, nc, hash, mse.RC4)
		}
		known := c.manners.of(addr)
		if known == unknown && c.cfg.Encryption != PreferEncryption {
			return c.plain(nc, addr), nil
		}
		offer, shaking := mse.Plain|mse.RC4, ctx
		if known != hungUp { // there is plaintext to fall back on
			if c.cfg.Encryption == PreferEncryption {
				offer = mse.RC4
			}
			var cancel context.CancelFunc
			shaking, cancel = context.WithTimeout(ctx, encryptLimit)
			defer cancel()
		}
		hidden, err := mse.Initiate(shaking, nc, hash, offer)
		if err == nil {
			c.manners.note(addr, encrypts)
			return hidden, nil
		}
		c.manners.note(addr, unknown)
		if known == hungUp || ctx.Err() != nil {
			return nil, err
		}
		c.log.Debug("trying in plaintext", "peer", addr, "err", err)
		if nc, err = c.dial(ctx, addr); err != nil {
			return nil, err
		}
		return c.plain(nc, addr), nil
	}
}

// redial returns what says whether a peer that did not shake hands is worth dialling again at once.
func (c *Client) redial(s *share) func(addr string) bool {
	return func(addr string) bool { return c.manners.of(addr) == hungUp && s.take() }
}

// decrypt finds out how a peer that dialled us speaks, and returns what it says without the encryption. It ends with ctx;
// on error the connection is closed.
func (c *Client) decrypt(ctx context.Context, g *guest) (net.Conn, error) {
	first, cancel := context.WithTimeout(ctx, firstBytesLimit)
	defer cancel()
	nc, plain, err := mse.Sniff(first, c.limit(g.nc))
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
	accept := []mse.Method{mse.Plain, mse.RC4}
	switch c.cfg.Encryption {
	case PreferEncryption:
		accept = []mse.Method{mse.RC4, mse.Plain}
	case RequireEncryption:
		accept = []mse.Method{mse.RC4}
	}
	return mse.Receive(ctx, nc, accept, c.expects)
}

// manner is how a peer is to be dialled, as far as it has shown that.
type manner int

const (
	unknown  manner = iota
	hungUp          // on plaintext, just now and without a word
	encrypts        // it has answered encrypted, or left plaintext unanswered
)

// maxManners bounds the peers of which it is remembered.
const maxManners = 1000

// manners are those that are known, by address.
type manners struct {
	mu     sync.Mutex
	byAddr map[string]manner
}

func (m *manners) of(addr string) manner {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byAddr[addr]
}

func (m *manners) note(addr string, how manner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byAddr, addr)
	if how == unknown {
		return
	}
	if m.byAddr == nil {
		m.byAddr = make(map[string]manner)
	}
	for forgotten := range m.byAddr {
		if len(m.byAddr) < maxManners {
			break
		}
		delete(m.byAddr, forgotten)
	}
	m.byAddr[addr] = how
}

// plain is a connection that was dialled in plaintext, and notes how the peer takes that.
func (c *Client) plain(nc net.Conn, addr string) net.Conn {
	return &plain{Conn: nc, note: func(how manner) { c.manners.note(addr, how) }}
}

type plain struct {
	net.Conn
	known atomic.Bool // something came, or nothing ever will
	note  func(manner)
}

func (c *plain) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.known.Load() {
		return n, err
	}
	gone := n == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET))
	if (n > 0 || gone) && !c.known.Swap(true) && gone {
		c.note(hungUp)
	}
	return n, err
}

func (c *plain) Close() error {
	if !c.known.Swap(true) {
		c.note(encrypts)
	}
	return c.Conn.Close()
}

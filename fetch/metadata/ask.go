package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"torrentfs/fetch/wire"
)

// The numbers under which we take extended messages.
const (
	extMetadata = 1
	extPEX      = 2
)

// lifetime is how long a peer may stay without delivering a part.
const lifetime = time.Minute

// maxFrame bounds a message in bytes: bitfields of the largest torrents fit.
const maxFrame = 1 << 20

// ask gets what it can from one peer. It returns nil when the info dictionary is there, whoever brought it.
func (f *Fetcher) ask(ctx context.Context, s *source) error {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := f.cfg.Dial(dialCtx, s.addr.String())
	if err != nil {
		return err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &conversation{f: f, s: s, nc: nc, part: -1, until: time.Now().Add(lifetime)}
	f.mu.Lock()
	f.talks[c] = struct{}{}
	f.mu.Unlock()
	defer c.end()
	if err := c.shake(); err != nil {
		return err
	}
	return c.run()
}

// conversation is the exchange with one peer.
type conversation struct {
	f     *Fetcher
	s     *source
	nc    net.Conn
	rd    *wire.Reader
	until time.Time // when it is over, if no part comes

	// Guarded by the Fetcher's mutex.
	ext  uint8 // the number under which the peer takes metadata messages; 0 unknown
	grid *grid // what its parts go into; nil while the peer has none
	own  bool  // the grid is this peer's alone
	part int   // asked for and not here; -1 none
}

func (c *conversation) shake() error {
	_ = c.nc.SetDeadline(time.Now().Add(patience))
	h := wire.Handshake{Features: wire.Features{Extended: true}, InfoHash: c.f.cfg.InfoHash, PeerID: c.f.cfg.PeerID}
	hello := wire.ExtendedHandshake{
		Messages: map[string]uint8{wire.ExtMetadata: extMetadata, wire.ExtPEX: extPEX}, Version: c.f.cfg.Version,
	}
	if _, err := c.nc.Write(h.Append(nil)); err != nil {
		return err
	}
	theirs, err := wire.ReadHandshake(c.nc)
	switch {
	case err != nil:
		return err
	case theirs.InfoHash != c.f.cfg.InfoHash:
		return fmt.Errorf("%w: another torrent", errLiar)
	case theirs.PeerID == c.f.cfg.PeerID:
		return fmt.Errorf("%w: ourselves", errLiar)
	case !theirs.Features.Extended:
		return errors.New("the peer has no extension protocol")
	}
	c.f.mu.Lock()
	c.s.answered = true
	c.f.mu.Unlock()
	c.rd = wire.NewReader(c.nc, maxFrame)
	return c.send(wire.Message{ID: wire.Extended, Data: hello.Append(nil)})
}

func (c *conversation) send(m wire.Message) error {
	_, err := c.nc.Write(m.Append(nil))
	return err
}

// run listens until the info dictionary is there or the peer is of no more use. A peer that has none yet is kept while it
// says anything at all: it may tell of others.
func (c *conversation) run() error {
	for {
		deadline := time.Now().Add(patience)
		if c.until.Before(deadline) {
			deadline = c.until
		}
		_ = c.nc.SetDeadline(deadline)
		select {
		case <-c.f.done:
			return nil
		default:
		}
		m, err := c.rd.Next()
		if err != nil {
			return err
		}
		if m.ID != wire.Extended {
			continue
		}
		switch m.Ext {
		case 0:
			err = c.greeted(m.Data)
		case extMetadata:
			err = c.answered(m.Data)
		case extPEX:
			if e, err := wire.ParseExchange(m.Data); err == nil {
				c.f.AddPeers(e.Added)
			}
		}
		if err != nil {
			return err
		}
	}
}

// greeted takes the peer's extension handshake in and asks for the first part.
func (c *conversation) greeted(payload []byte) error {
	h, err := wire.ParseExtendedHandshake(payload)
	if err != nil {
		return err
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.ext = h.Messages[wire.ExtMetadata]
	if c.ext == 0 || h.MetadataSize == 0 || c.grid != nil {
		return nil // it has none (yet), or said so before
	}
	g := c.f.shared[h.MetadataSize]
	if g == nil {
		if g, err = c.f.newGrid(h.MetadataSize); err != nil {
			return err
		}
		c.f.shared[h.MetadataSize] = g
	}
	c.grid = g
	return c.next()
}

// next asks for another part. Where the shared grid has proved to be mixed with a liar's parts, the peer gets one of its
// own. The caller holds the Fetcher's mutex; a request is too short for its write to wait.
func (c *conversation) next() (err error) {
	if c.grid.mixed && !c.own {
		if c.grid, err = c.f.newGrid(c.grid.size); err != nil {
			return err
		}
		c.own = true
	}
	part, ok := c.grid.take()
	if !ok {
		return nil
	}
	c.part = part
	return c.send(wire.Message{ID: wire.Extended, Ext: c.ext, Data: wire.Metadata{Type: wire.MetadataRequest, Piece: part}.Append(nil)})
}

// answered takes a metadata message in.
func (c *conversation) answered(payload []byte) error {
	m, err := wire.ParseMetadata(payload)
	if err != nil {
		return err
	}
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.Type == wire.MetadataRequest && c.ext != 0:
		return c.send(wire.Message{ID: wire.Extended, Ext: c.ext, Data: wire.Metadata{Type: wire.MetadataReject, Piece: m.Piece}.Append(nil)})
	case m.Type == wire.MetadataReject && m.Piece == c.part:
		return errors.New("will not send the metadata")
	case m.Type != wire.MetadataData || m.Piece != c.part || c.part < 0:
		return nil
	}
	c.part = -1
	c.until = time.Now().Add(lifetime)
	c.grid.asked[m.Piece]--
	whole, err := c.grid.put(m.Piece, m.Data)
	if err != nil {
		return fmt.Errorf("%w: %w", errLiar, err)
	}
	if whole == nil || f.finish(whole) {
		return c.next()
	}
	if c.own {
		return errLiar
	}
	c.grid.mixed = true
	for other := range f.talks {
		if other.grid == c.grid && other != c && other.part < 0 {
			if err := other.next(); err != nil {
				_ = other.nc.Close()
			}
		}
	}
	return c.next()
}

// end gives back what the peer did not deliver.
func (c *conversation) end() {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	delete(c.f.talks, c)
	if c.grid != nil && c.part >= 0 {
		c.grid.asked[c.part]--
	}
	if c.own {
		c.f.held -= c.grid.size
	}
}

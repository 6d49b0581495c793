package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"torrentfs/fetch/reach"
	"torrentfs/fetch/wire"
)

// lifetime is how long a peer may stay without delivering a part.
const lifetime = time.Minute

// pipeline is how many parts a peer that delivers is asked for at once: one alone would cost a round trip for every 16 KiB.
// firstDepth is how many one is asked for that has not delivered yet, so that most info dictionaries come in one round
// trip. What it keeps waiting is asked of others as soon as they have nothing else to do.
const (
	pipeline   = 16
	firstDepth = 8
)

// maxFrame bounds a message in bytes: bitfields of the largest torrents fit.
const maxFrame = 1 << 20

// errOver says that the search has ended, by whoever's doing.
var errOver = errors.New("the search for metadata is over")

// ask gets what it can from one peer that it dials.
func (f *Fetcher) ask(ctx context.Context, s *source) error {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for again := false; ; again = true {
		nc, err := f.cfg.Dial(dialCtx, s.addr.String())
		if err != nil {
			return err
		}
		c := f.newConversation(s, nc)
		err = c.hold(ctx, c.shake)
		if err == nil || c.rd != nil || again || ctx.Err() != nil || f.cfg.Redial == nil || !f.cfg.Redial(s.addr.String()) {
			return err
		}
	}
}

// hold has a conversation, which begins with greet, for as long as it is of use. When the search ends meanwhile, the
// connection is kept: see Live.
func (c *conversation) hold(ctx context.Context, greet func() error) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)); close(interrupted) })
	c.f.mu.Lock()
	c.f.talks[c] = struct{}{}
	c.f.mu.Unlock()
	err := greet()
	if err == nil {
		err = c.run(ctx)
	}
	if !stop() {
		<-interrupted // or it would move the deadline later
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errOver
		}
	}
	c.end()
	if errors.Is(err, errOver) && c.handOver() {
		return nil
	}
	_ = c.nc.Close()
	return err
}

// conversation is the exchange with one peer.
type conversation struct {
	f     *Fetcher
	s     *source
	nc    net.Conn
	rd    *wire.Reader
	until time.Time // when it is over, if no part comes
	depth int       // how many parts the peer is asked for at once
	heard time.Time // when it last told of others; zero never

	// For whoever takes the connection over.
	peer   wire.Handshake
	rtt    time.Duration
	said   []byte      // what the peer said beside metadata
	mute   bool        // it said too much to be kept
	broken atomic.Bool // what we sent may have been cut short; others' conversations send on this one too

	// Guarded by the Fetcher's mutex.
	ext   uint8        // the number under which the peer takes metadata messages; 0 unknown
	grid  *grid        // what its parts go into; nil while the peer has none
	own   bool         // the grid is this peer's alone
	asked map[int]bool // parts that the peer was asked for and has not sent
	gave  bool         // a part that was asked for
}

func (f *Fetcher) newConversation(s *source, nc net.Conn) *conversation {
	return &conversation{f: f, s: s, nc: nc, depth: firstDepth, asked: make(map[int]bool), until: time.Now().Add(lifetime)}
}

// shake shakes hands with a peer that we dialled, and greets it.
func (c *conversation) shake() error {
	_ = c.nc.SetDeadline(time.Now().Add(patience))
	h := wire.Handshake{
		Features: wire.Features{Fast: true, Extended: true}, InfoHash: c.f.cfg.InfoHash, PeerID: c.f.cfg.PeerID,
	}
	sent := time.Now()
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
	}
	c.peer, c.rtt = theirs, time.Since(sent)
	return c.greet()
}

// greet says what comes first after the handshake.
func (c *conversation) greet() error {
	if !c.peer.Features.Extended {
		return errors.New("the peer has no extension protocol")
	}
	_ = c.nc.SetDeadline(time.Now().Add(patience))
	c.f.mu.Lock()
	c.s.answered = true
	c.f.mu.Unlock()
	c.rd = wire.NewReader(c.nc, maxFrame)
	hello := wire.ExtendedHandshake{Messages: map[string]uint8{wire.ExtMetadata: wire.OurMetadata}, Version: c.f.cfg.Version}
	if !c.f.cfg.NoPEX {
		hello.Messages[wire.ExtPEX] = wire.OurPEX
	}
	first := wire.Message{ID: wire.Extended, Data: hello.Append(nil)}
	// The content will be wanted next. Some clients look only every ten seconds at who is interested; said now, that time
	// passes while the metadata comes.
	interested := wire.Message{ID: wire.Interested}
	if c.peer.Features.Fast { // then something has to be said of what we have, first of all (BEP 6)
		return c.send(wire.Message{ID: wire.HaveNone}, first, interested)
	}
	return c.send(first, interested)
}

func (c *conversation) send(messages ...wire.Message) error {
	var b []byte
	for _, m := range messages {
		b = m.Append(b)
	}
	_, err := c.nc.Write(b)
	if err != nil {
		c.broken.Store(true)
	}
	return err
}

// run listens until the info dictionary is there or the peer is of no more use. A peer that has none yet is kept while it
// says anything at all: it may tell of others.
func (c *conversation) run(ctx context.Context) error {
	for {
		deadline := time.Now().Add(patience)
		if c.until.Before(deadline) {
			deadline = c.until
		}
		_ = c.nc.SetDeadline(deadline)
		select {
		case <-c.f.done:
			return errOver
		case <-ctx.Done():
			return errOver
		default:
		}
		m, err := c.rd.Next()
		if err != nil {
			return err
		}
		switch {
		case m.ID != wire.Extended:
			c.note(m)
		case m.Ext == 0:
			c.note(m)
			err = c.greeted(m.Data)
		case m.Ext == wire.OurMetadata:
			err = c.answered(m.Data)
		case m.Ext == wire.OurPEX:
			c.hear(m.Data)
		}
		if err != nil {
			return err
		}
	}
}

// hear takes in the addresses that a peer tells of, unless it does so too often.
func (c *conversation) hear(payload []byte) {
	if c.f.cfg.NoPEX || !c.heard.IsZero() && time.Since(c.heard) < wire.PEXPause {
		return
	}
	c.heard = time.Now()
	e, err := wire.ParseExchange(payload)
	if err != nil {
		return
	}
	c.f.AddPeers(byPeers, slices.DeleteFunc(e.Added, func(a netip.AddrPort) bool {
		return !reach.MayName(c.s.addr.Addr(), a.Addr())
	}))
}

// greeted takes the peer's extension handshake in and asks for the first parts.
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
	if h.MetadataSize > maxSize {
		return fmt.Errorf("claims metadata of %d bytes", h.MetadataSize)
	}
	if c.grid = c.f.shared[h.MetadataSize]; c.grid == nil {
		c.grid = c.f.newGrid(h.MetadataSize)
		c.f.shared[h.MetadataSize] = c.grid
	}
	c.grid.users++
	return c.next()
}

// next asks for more parts. Where the shared grid has proved to be mixed with a liar's parts, the peer gets one of its
// own. The caller holds the Fetcher's mutex; requests are too short for their write to wait.
func (c *conversation) next() error {
	if c.grid.mixed && !c.own {
		c.separate()
	}
	for len(c.asked) < c.depth {
		part, ok := c.grid.take(c.asked)
		if !ok || c.grid.asked[part] > 0 && len(c.asked) > 0 {
			return nil // what is on its way from others is asked for twice only by those with nothing else to do
		}
		c.grid.asked[part]++
		c.asked[part] = true
		m := wire.Metadata{Type: wire.MetadataRequest, Piece: part}
		if err := c.send(wire.Message{ID: wire.Extended, Ext: c.ext, Data: m.Append(nil)}); err != nil {
			return err
		}
	}
	return nil
}

// separate gives the peer a grid of its own, in which what is on its way from it will be put.
func (c *conversation) separate() {
	old := c.grid
	c.own, c.grid = true, c.f.newGrid(old.size)
	c.grid.users++
	for part := range c.asked {
		old.asked[part]--
		c.grid.asked[part]++
	}
	c.f.leave(old)
}

// answered takes a metadata message in.
func (c *conversation) answered(payload []byte) error {
	m, err := wire.ParseMetadata(payload)
	if err != nil {
		return err
	}
	if m.Type == wire.MetadataRequest {
		if c.ext == 0 {
			return nil
		}
		// Without the mutex: a peer that does not read has nobody but itself wait.
		no := wire.Metadata{Type: wire.MetadataReject, Piece: m.Piece}
		return c.send(wire.Message{ID: wire.Extended, Ext: c.ext, Data: no.Append(nil)})
	}
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !c.asked[m.Piece]:
		return nil
	case m.Type == wire.MetadataReject:
		return errors.New("will not send the metadata")
	case m.Type != wire.MetadataData:
		return nil
	}
	delete(c.asked, m.Piece)
	c.gave = true
	c.depth = min(2*c.depth, pipeline)
	c.until = time.Now().Add(lifetime)
	whole, err := f.put(c.grid, m.Piece, m.Data)
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
		if other.grid == c.grid && other != c && len(other.asked) == 0 {
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
	if c.grid == nil {
		return
	}
	for part := range c.asked {
		c.grid.asked[part]--
	}
	c.f.leave(c.grid)
}

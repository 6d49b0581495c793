package fetchtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"torrentfs/fetch/wire"
)

// Conduct is how a peer behaves. What is nil is done as an honest seeder does it, so a misbehaviour says only where it
// differs. Its functions run on the session's goroutines; an error ends the connection.
type Conduct struct {
	Features *wire.Features
	// Shake takes the place of the handshake.
	Shake func(s *Session) error
	// Greet takes the place of what follows the handshake: pieces, extension handshake.
	Greet func(s *Session) error
	// Heed sees each message of the other side first; done says that there is nothing more to do about it.
	Heed func(s *Session, m wire.Message) (done bool, err error)
	// Answer takes the place of sending the block that a request asks for.
	Answer func(s *Session, req wire.Message) error
	// Beside runs beside the conversation, from the greeting on.
	Beside func(s *Session) error
}

// Peer is a peer of a swarm under test: what connects to it finds a seeder of the content, changed by a Conduct.
type Peer struct {
	Content *Content
	ID      [20]byte
	conduct Conduct
	listen  net.Listener
	ctx     context.Context //nolint:containedctx // the peer's own lifetime
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	tally   tally

	mu       sync.Mutex
	sessions map[*Session]bool
	served   map[[2]uint32]int // blocks sent, by piece and begin
	missing  map[int]bool      // pieces that it has not
}

// tally counts what a peer did.
type tally struct {
	sessions, requests, blocks, cancels, lies, heard atomic.Int64
}

var numbers atomic.Uint64

// NewPeer starts a peer behind a listener, which it owns from here on. Nil: nobody can connect to it.
func NewPeer(c *Content, l net.Listener, conduct Conduct) *Peer {
	p := &Peer{
		Content: c, conduct: conduct, listen: l,
		sessions: make(map[*Session]bool), served: make(map[[2]uint32]int), missing: make(map[int]bool),
	}
	copy(p.ID[:], fmt.Sprintf("-FT0001-%012d", numbers.Add(1)))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if l != nil {
		p.wg.Go(p.accept)
	}
	return p
}

// Addr is where the peer listens.
func (p *Peer) Addr() netip.AddrPort {
	a, _ := netip.ParseAddrPort(p.listen.Addr().String())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (p *Peer) accept() {
	for {
		nc, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { _ = p.talk(nc, true) }) // why a session ended is the other side's affair
	}
}

// Join talks to somebody over a connection that the peer has opened, until it ends.
func (p *Peer) Join(nc net.Conn) {
	p.wg.Go(func() { _ = p.talk(nc, false) })
}

// Lacks says that the peer does not have a piece, or all of them. It counts for connections made from now on.
func (p *Peer) Lacks(pieces ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range pieces {
		p.missing[i] = true
	}
}

// Has reports whether the peer has a piece.
func (p *Peer) Has(piece int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.missing[piece]
}

// Gain gives the peer a piece and tells everybody.
func (p *Peer) Gain(piece int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.missing, piece)
	for s := range p.sessions {
		s.later(wire.Message{ID: wire.Have, Index: uint32(piece)})
	}
}

// Drop ends all of the peer's connections; it can be connected to again.
func (p *Peer) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.sessions {
		_ = s.Conn.Close()
	}
}

// Sessions is the number of connections that are open.
func (p *Peer) Sessions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions)
}

// Close ends the peer.
func (p *Peer) Close() {
	if p.listen != nil {
		_ = p.listen.Close()
	}
	p.cancel()
	p.wg.Wait()
}

// Served is how often each block was sent, by piece and begin.
func (p *Peer) Served() map[[2]uint32]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := make(map[[2]uint32]int, len(p.served))
	for k, n := range p.served {
		m[k] = n
	}
	return m
}

// Shaken is the number of handshakes that the peer has been through.
func (p *Peer) Shaken() int { return int(p.tally.sessions.Load()) }

// Requests is the number of requests that the peer got.
func (p *Peer) Requests() int { return int(p.tally.requests.Load()) }

// Blocks is the number of blocks that it sent in answer to requests.
func (p *Peer) Blocks() int { return int(p.tally.blocks.Load()) }

// Cancels is the number of requests that were taken back.
func (p *Peer) Cancels() int { return int(p.tally.cancels.Load()) }

// Lies is the number of blocks that it sent in answer to requests and that were not what the torrent says.
func (p *Peer) Lies() int { return int(p.tally.lies.Load()) }

// Session is one connection of a peer.
type Session struct {
	*Peer
	Conn   net.Conn
	Theirs wire.Handshake
	ctx    context.Context //nolint:containedctx // the session's own lifetime
	rd     *wire.Reader

	mu       sync.Mutex
	out      *bufio.Writer
	hello    wire.ExtendedHandshake
	unchoked bool           // we serve the other side
	queue    []wire.Message // requests to be answered
	extra    []byte         // messages of later
	wake     chan struct{}  // capacity 1
	writing  chan struct{}  // capacity 1: full while somebody writes; a mutex would stop made-up time
}

var everything = wire.Features{Fast: true, Extended: true}

// talk runs one session.
func (p *Peer) talk(nc net.Conn, incoming bool) error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	s := &Session{Peer: p, Conn: nc, ctx: ctx, rd: wire.NewReader(nc, 4<<20), out: bufio.NewWriterSize(nc, 32<<10), wake: make(chan struct{}, 1), writing: make(chan struct{}, 1)}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	defer nc.Close()
	shake := p.conduct.Shake
	if shake == nil {
		shake = func(s *Session) error { return s.Shake(incoming) }
	}
	if err := shake(s); err != nil {
		return err
	}
	p.tally.sessions.Add(1)
	p.mu.Lock()
	p.sessions[s] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.sessions, s)
	}()
	greet := p.conduct.Greet
	if greet == nil {
		greet = (*Session).Greet
	}
	if err := greet(s); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	run := func(f func() error) {
		wg.Go(func() {
			if f() != nil {
				cancel()
			}
		})
	}
	run(s.serve)
	if p.conduct.Beside != nil {
		run(func() error { return p.conduct.Beside(s) })
	}
	return s.listen()
}

// Features are what the peer's handshake announces.
func (s *Session) Features() wire.Features {
	if f := s.conduct.Features; f != nil {
		return *f
	}
	return everything
}

// Shake shakes hands as one should.
func (s *Session) Shake(incoming bool) error {
	ours := wire.Handshake{Features: s.Features(), InfoHash: s.Content.InfoHash, PeerID: s.ID}.Append(nil)
	var err error
	if !incoming {
		if _, err = s.Conn.Write(ours); err != nil {
			return err
		}
	}
	if s.Theirs, err = wire.ReadHandshake(s.Conn); err != nil {
		return err
	}
	if incoming {
		_, err = s.Conn.Write(ours)
	}
	return err
}

// Greet says what the peer has and which extensions it speaks.
func (s *Session) Greet() error {
	return s.Send(s.Having(), s.Hello(wire.ExtendedHandshake{ReqQ: 250}))
}

// Having is the message that says which pieces the peer has.
func (s *Session) Having() wire.Message {
	n := s.Content.NumPieces()
	bits := make([]byte, (n+7)/8)
	all := true
	for i := range n {
		if s.Has(i) {
			wire.SetBit(bits, i, true)
		} else {
			all = false
		}
	}
	if all && s.Features().Fast {
		return wire.Message{ID: wire.HaveAll}
	}
	return wire.Message{ID: wire.Bitfield, Data: bits}
}

// Hello is an extension handshake; a keep-alive for who speaks no extensions.
func (s *Session) Hello(h wire.ExtendedHandshake) wire.Message {
	if !s.Features().Extended {
		return wire.Message{ID: wire.KeepAlive}
	}
	return wire.Message{ID: wire.Extended, Data: h.Append(nil)}
}

// Send sends messages at once.
func (s *Session) Send(ms ...wire.Message) error {
	var b []byte
	for _, m := range ms {
		b = m.Append(b)
	}
	return s.Write(b)
}

// Write sends bytes as they are.
func (s *Session) Write(b []byte) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	if _, err := s.out.Write(b); err != nil {
		return err
	}
	return s.out.Flush()
}

// later has the serving goroutine send a message, for callers that must not wait.
func (s *Session) later(m wire.Message) {
	s.mu.Lock()
	s.extra = m.Append(s.extra)
	s.mu.Unlock()
	s.poke()
}

func (s *Session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// listen reads what the other side says, until the connection ends.
func (s *Session) listen() error {
	for {
		m, err := s.rd.Next()
		if err != nil {
			return err
		}
		s.tally.heard.Add(1)
		switch m.ID {
		case wire.Request:
			s.tally.requests.Add(1)
		case wire.Cancel:
			s.tally.cancels.Add(1)
		case wire.Extended:
			if h, err := wire.ParseExtendedHandshake(m.Data); m.Ext == 0 && err == nil {
				s.mu.Lock()
				s.hello = h
				s.mu.Unlock()
			}
		}
		if heed := s.conduct.Heed; heed != nil {
			if done, err := heed(s, m); done || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := s.heed(m); err != nil {
			return err
		}
	}
}

// heed does what an honest seeder does about a message.
func (s *Session) heed(m wire.Message) error {
	switch m.ID {
	case wire.Interested:
		return s.Unchoke(true)
	case wire.Request:
		s.mu.Lock()
		serves := s.unchoked
		if serves {
			s.queue = append(s.queue, m)
		}
		s.mu.Unlock()
		if !serves {
			return s.reject(m)
		}
		s.poke()
	case wire.Cancel:
		s.mu.Lock()
		i := slices.IndexFunc(s.queue, func(r wire.Message) bool { return r.Index == m.Index && r.Begin == m.Begin })
		if i >= 0 {
			s.queue = slices.Delete(s.queue, i, i+1)
		}
		s.mu.Unlock()
		if i >= 0 {
			return s.reject(m)
		}
	}
	return nil
}

// Their is the other side's number for an extension, 0 if it does not speak it.
func (s *Session) Their(extension string) uint8 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hello.Messages[extension]
}

// Unchoke serves the other side, or no more.
func (s *Session) Unchoke(yes bool) error {
	s.mu.Lock()
	s.unchoked = yes
	var drop []wire.Message
	if !yes {
		drop, s.queue = s.queue, nil
	}
	s.mu.Unlock()
	id := wire.Choke
	if yes {
		id = wire.Unchoke
	}
	if err := s.Send(wire.Message{ID: id}); err != nil {
		return err
	}
	for _, m := range drop {
		if err := s.reject(m); err != nil {
			return err
		}
	}
	return nil
}

// reject says no to a request, where the fast extension has a word for that.
func (s *Session) reject(m wire.Message) error {
	if !s.Features().Fast || !s.Theirs.Features.Fast {
		return nil
	}
	return s.Send(wire.Message{ID: wire.Reject, Index: m.Index, Begin: m.Begin, Length: m.Length})
}

// serve answers requests, one after the other.
func (s *Session) serve() error {
	for {
		s.mu.Lock()
		extra := s.extra
		s.extra = nil
		var req wire.Message
		some := len(s.queue) > 0
		if some {
			req = s.queue[0]
			s.queue = s.queue[1:]
		}
		s.mu.Unlock()
		if len(extra) > 0 {
			if err := s.Write(extra); err != nil {
				return err
			}
		}
		if !some {
			select {
			case <-s.wake:
			case <-s.ctx.Done():
				return nil
			}
			continue
		}
		answer := s.conduct.Answer
		if answer == nil {
			answer = (*Session).Answer
		}
		if err := answer(s, req); err != nil {
			return err
		}
	}
}

// Answer sends the block that a request asks for, or rejects it.
func (s *Session) Answer(req wire.Message) error {
	block, ok := s.Content.block(req.Index, req.Begin, req.Length)
	if !ok || !s.Has(int(req.Index)) {
		return s.reject(req)
	}
	return s.Give(req, block)
}

// Block is the right answer to a request, a copy.
func (s *Session) Block(req wire.Message) []byte {
	b, _ := s.Content.block(req.Index, req.Begin, req.Length)
	return slices.Clone(b)
}

// Give answers a request with these bytes.
func (s *Session) Give(req wire.Message, block []byte) error {
	right, _ := s.Content.block(req.Index, req.Begin, req.Length)
	if !slices.Equal(block, right) {
		s.tally.lies.Add(1)
	}
	s.tally.blocks.Add(1)
	s.Peer.mu.Lock()
	s.served[[2]uint32{req.Index, req.Begin}]++
	s.Peer.mu.Unlock()
	return s.Send(wire.Message{ID: wire.Piece, Index: req.Index, Begin: req.Begin, Data: block})
}

var errOver = errors.New("the session has ended")

// Pause waits, or fails when the session ends.
func (s *Session) Pause(d time.Duration) error {
	if sleep(s.ctx, time.Now().Add(d)) != nil {
		return errOver
	}
	return nil
}

// Package picker answers one question: which block is asked of which peer next? It is pure: plain integers, bitfields and
// times that its caller gives it, no net, no clock, no channel, no mutex, so that a table or a simulation can drive it
// through hours of swarm in milliseconds. It owns the state of blocks and what is believed about peers' speed; it never
// owns a connection or a byte of content.
//
// The order of work is the order in which readers need it: class first, then deadline. Within that order a block goes to
// the peer that is predicted to deliver it first (earliest finish). So an urgent piece is striped over many peers, and a
// slow peer works deep in the window, on blocks that the others could not deliver before it, and never gates the head.
package picker

import (
	"slices"
	"time"
)

// BlockSize is the size of a block in bytes; only a piece's last one may be shorter.
const BlockSize = 16 << 10

// Class says how urgent a piece is; a lower one always comes first.
type Class uint8

// The classes of pieces.
const (
	Blocked     Class = iota // a reader waits for it
	Ahead                    // a reader will come to it by its deadline
	Speculative              // a guess (a media file's head and tail)
	Background               // wanted some time
)

// Request is a block and the peer that it is asked of, or taken back from.
type Request struct {
	Peer   int
	Piece  int
	Begin  int64 // bytes into the piece
	Length int64 // bytes
}

// Picker is the state of one torrent's active pieces and its peers.
type Picker struct {
	pieceLength int64
	length      int64

	peers  []*peer // in the order they came; a slice, so that equal inputs give equal outputs
	byID   map[int]*peer
	pieces map[int]*piece
	order  []*piece // by urgency
	dirty  bool     // order is to be sorted again
	free   int      // blocks of active pieces neither here nor in flight

	hedges   bucket
	hedgeAt  time.Duration // when a blocked piece's blocks should next be looked at
	unused   []*flight     // for reuse
	requests []Request
	cancels  []Request
	returned []Request // the cancels of the last Step
}

// piece is an active piece: one that was wanted and is not complete.
type piece struct {
	index    int
	class    Class
	deadline time.Duration
	blocks   []block
	free     int // blocks neither here nor in flight
	left     int // blocks not here
	sole     *peer
	isSole   bool // only sole may deliver it: the piece failed its hash and the liar is to be found
}

// block is free (no flight, not here), in flight at one or two peers, or here.
type block struct {
	here    bool
	flights [2]*flight
}

func (b *block) free() bool { return !b.here && b.flights[0] == nil }

// New makes a picker for a torrent of length bytes in pieces of pieceLength bytes.
func New(length, pieceLength int64) *Picker {
	return &Picker{
		pieceLength: pieceLength, length: length,
		byID: make(map[int]*peer), pieces: make(map[int]*piece),
		hedges: newBucket(),
	}
}

// pieceSize is the size of a piece in bytes.
func (p *Picker) pieceSize(index int) int64 {
	return min(p.pieceLength, p.length-int64(index)*p.pieceLength)
}

// blockSize is the size of a piece's block in bytes.
func (p *Picker) blockSize(pc *piece, i int) int64 {
	return min(BlockSize, p.pieceSize(pc.index)-int64(i)*BlockSize)
}

// Want makes a piece active, or changes its class and deadline.
func (p *Picker) Want(index int, class Class, deadline time.Duration) {
	pc := p.pieces[index]
	if pc == nil {
		n := int((p.pieceSize(index) + BlockSize - 1) / BlockSize)
		pc = &piece{index: index, blocks: make([]block, n), free: n, left: n}
		p.pieces[index] = pc
		p.order = append(p.order, pc)
		p.free += n
	} else if pc.class == class && pc.deadline == deadline {
		return
	}
	pc.class, pc.deadline = class, deadline
	p.changed()
}

// changed says that the order of work is another one, so that peers that had nothing to do should look again.
func (p *Picker) changed() {
	p.dirty = true
	p.hedgeAt = 0
	for _, x := range p.peers {
		x.retry = 0
	}
}

// Have tells the picker of blocks that are here already: a piece that was given up half-way and is wanted again.
func (p *Picker) Have(index, block int) {
	if pc := p.pieces[index]; pc != nil && !pc.blocks[block].here {
		p.settle(pc, block, nil)
	}
}

// Drop forgets a piece. What is in flight of it is returned by the next Step as cancels.
func (p *Picker) Drop(index int) {
	pc := p.pieces[index]
	if pc == nil {
		return
	}
	for i := range pc.blocks {
		p.cancelFlights(pc, i, nil)
	}
	p.forget(pc)
}

// forget takes a piece out of the tables; none of its blocks is in flight.
func (p *Picker) forget(pc *piece) {
	p.free -= pc.free
	delete(p.pieces, pc.index)
	at := slices.Index(p.order, pc)
	p.order = slices.Delete(p.order, at, at+1)
}

// Sole lets only one peer deliver a piece, from its first block on: after a failed hash the piece then convicts or clears
// whoever delivered it. The peer chosen is the fastest that has the piece and is not in avoid; ok is false when there is
// none, and the piece is then open to all as before.
func (p *Picker) Sole(index int, avoid func(peer int) bool) (id int, ok bool) {
	pc := p.pieces[index]
	if pc == nil {
		return 0, false
	}
	pc.sole, pc.isSole = nil, false
	for _, x := range p.peers {
		if x.has(index) && x.open(index) && !x.stalled && !avoid(x.id) && (pc.sole == nil || p.rate(x) > p.rate(pc.sole)) {
			pc.sole, pc.isSole = x, true
		}
	}
	p.changed()
	if !pc.isSole {
		return 0, false
	}
	return pc.sole.id, true
}

// cancelFlights takes back a block's requests, except one.
func (p *Picker) cancelFlights(pc *piece, i int, except *flight) {
	for _, f := range pc.blocks[i].flights {
		if f != nil && f != except {
			p.cancels = append(p.cancels, p.request(f))
			p.land(f)
		}
	}
}

func (p *Picker) request(f *flight) Request {
	return Request{Peer: f.peer.id, Piece: f.piece.index, Begin: int64(f.block) * BlockSize, Length: f.length}
}

// settle marks a block as here.
func (p *Picker) settle(pc *piece, i int, by *flight) {
	b := &pc.blocks[i]
	if b.free() {
		pc.free--
		p.free--
	}
	p.cancelFlights(pc, i, by)
	if by != nil {
		p.land(by)
	}
	b.here = true
	pc.left--
}

// Received says that a block of a peer's came; stored is whether it was the first copy of a block still wanted. It reports
// whether the piece has all its blocks now, after which the picker has forgotten it.
func (p *Picker) Received(id, index int, begin, length int64, stored bool, now time.Duration) (complete bool) {
	x := p.byID[id]
	if x == nil {
		return false
	}
	pc := p.pieces[index]
	i := int(begin / BlockSize)
	var f *flight
	if pc != nil && i < len(pc.blocks) {
		f = pc.blocks[i].flightOf(x)
	}
	x.received(f, length, now)
	if pc == nil || i >= len(pc.blocks) {
		return false
	}
	if !stored || pc.blocks[i].here {
		if f != nil {
			p.lose(f)
		}
		return false
	}
	p.settle(pc, i, f)
	if pc.left > 0 {
		return false
	}
	p.forget(pc)
	return true
}

// Rejected says that a peer will not deliver a block that was asked of it.
func (p *Picker) Rejected(id, index int, begin int64, now time.Duration) {
	x, pc := p.byID[id], p.pieces[index]
	i := int(begin / BlockSize)
	if x == nil || pc == nil || i >= len(pc.blocks) {
		return
	}
	if f := pc.blocks[i].flightOf(x); f != nil {
		p.lose(f)
		x.rejected(now)
	}
}

func (b *block) flightOf(x *peer) *flight {
	for _, f := range b.flights {
		if f != nil && f.peer == x {
			return f
		}
	}
	return nil
}

// lose takes a flight off its block, which is free again if it was the only one.
func (p *Picker) lose(f *flight) {
	pc, b := f.piece, &f.piece.blocks[f.block]
	p.land(f)
	if b.free() {
		pc.free++
		p.free++
		p.hedgeAt = 0
		for _, x := range p.peers {
			x.retry = 0
		}
	}
}

// land takes a flight out of its peer's queue and off its block, whose state the caller puts right.
func (p *Picker) land(f *flight) {
	b := &f.piece.blocks[f.block]
	if b.flights[0] == f {
		b.flights[0] = b.flights[1]
	}
	b.flights[1] = nil
	f.peer.remove(f)
	*f = flight{}
	p.unused = append(p.unused, f)
}

// Step decides everything that is to be decided now: late peers lose their blocks, free blocks are given out, blocks that
// readers wait for are hedged. It returns the requests to send, those to cancel, and when to call again if nothing happens
// until then (0: no need). The slices are good until the next call of any method.
func (p *Picker) Step(now time.Duration) (requests, cancels []Request, wake time.Duration) {
	p.requests = p.requests[:0]
	p.expire(now)
	if p.dirty {
		p.sort()
	}
	p.fill(now)
	wake = p.hedge(now)
	for _, x := range p.peers {
		if x.head != nil {
			wake = earlier(wake, x.stallsAt(p.rate(x)))
		}
	}
	p.cancels, p.returned = p.returned[:0], p.cancels
	return p.requests, p.returned, wake
}

// earlier is the earlier of two times of which zero means never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (p *Picker) sort() {
	slices.SortStableFunc(p.order, func(a, b *piece) int {
		switch {
		case a.class != b.class:
			return int(a.class) - int(b.class)
		case a.deadline != b.deadline:
			if a.deadline < b.deadline {
				return -1
			}
			return 1
		}
		return a.index - b.index
	})
	p.dirty = false
}

// expire frees the blocks of peers that have fallen silent.
func (p *Picker) expire(now time.Duration) {
	for _, x := range p.peers {
		if x.head == nil || now < x.stallsAt(p.rate(x)) {
			continue
		}
		x.stall(now)
		p.release(x, true)
	}
}

// release frees all blocks in flight at a peer, and cancels the requests if it should still hear of them.
func (p *Picker) release(x *peer, cancel bool) {
	for x.head != nil {
		f := x.head
		if cancel {
			p.cancels = append(p.cancels, p.request(f))
		}
		p.lose(f)
	}
}

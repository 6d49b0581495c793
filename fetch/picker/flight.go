package picker

import "time"

// flight is one request on its way.
type flight struct {
	peer       *peer
	piece      *piece
	block      int
	length     int64
	sentAt     time.Duration
	delivered  int64         // bytes that the peer had delivered then
	since      time.Duration // when it had delivered the last of them
	due        time.Duration // when it was to be here, as forecast then
	doubtful   bool          // the same was asked of the peer before, and taken back: which of the two is answered?
	hedged     bool          // another peer was asked too
	prev, next *flight       // of the same peer, in the order they were sent
}

// assign puts a block in flight at a peer.
func (p *Picker) assign(x *peer, pc *piece, i int, now time.Duration) {
	b := &pc.blocks[i]
	if b.free() {
		p.taken(pc)
	}
	f := p.newFlight()
	*f = flight{peer: x, piece: pc, block: i, length: p.blockSize(pc, i)}
	_, f.doubtful = x.ghosts[key(pc.index, i)]
	if b.flights[0] == nil {
		b.flights[0] = f
	} else {
		b.flights[1] = f
	}
	pc.begun = pc.begun || x.all
	p.line.outstanding += f.length
	if x.push(f, p.pace(x), now); x.head == f {
		p.stallAt = earlier(p.stallAt, x.stallsAt())
	}
	p.requests = append(p.requests, p.request(f))
}

func (p *Picker) newFlight() *flight {
	n := len(p.unused)
	if n == 0 {
		return new(flight)
	}
	f := p.unused[n-1]
	p.unused = p.unused[:n-1]
	return f
}

// push puts a flight at the end of the peer's line.
func (x *peer) push(f *flight, rate float64, now time.Duration) {
	if x.head == nil {
		x.busy(now)
	}
	f.sentAt, f.delivered, f.since = now, x.delivered, x.deliveredAt
	f.due = max(x.last(), now+x.rtt) + seconds(float64(f.length)/rate) - x.shift
	x.outstanding += f.length
	x.flights++
	f.prev = x.tail
	if x.tail != nil {
		x.tail.next = f
	} else {
		x.head = f
	}
	x.tail = f
}

// remove takes a flight out of the peer's line.
func (x *peer) remove(f *flight) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		x.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		x.tail = f.prev
	}
	x.outstanding -= f.length
	x.flights--
}

// land takes a flight out of its peer's line and off its block, whose state the caller puts right.
func (p *Picker) land(f *flight) {
	b := &f.piece.blocks[f.block]
	if b.flights[0] == f {
		b.flights[0] = b.flights[1]
	}
	b.flights[1] = nil
	f.peer.remove(f)
	p.line.outstanding -= f.length
	*f = flight{}
	p.unused = append(p.unused, f)
}

// lose takes a flight off its block, which is free again if it was the only one.
func (p *Picker) lose(f *flight) {
	pc, i := f.piece, f.block
	f.peer.stale = true
	p.land(f)
	if pc.blocks[i].free() {
		p.freed(pc, i)
	}
}

// release frees all blocks in flight at a peer for which keep is false, and cancels the requests if it should hear of that.
func (p *Picker) release(x *peer, cancel bool, keep func(piece int) bool) {
	for f := x.head; f != nil; {
		next := f.next
		if keep == nil || !keep(f.piece.index) {
			if cancel {
				p.cancel(f)
			}
			p.lose(f)
		}
		f = next
	}
}

// cancelFlights takes back a block's requests, except one.
func (p *Picker) cancelFlights(pc *piece, i int, except *flight) {
	for _, f := range pc.blocks[i].flights {
		if f != nil && f != except {
			p.cancel(f)
			p.land(f)
		}
	}
}

// cancel has a request taken back.
func (p *Picker) cancel(f *flight) {
	p.cancels = append(p.cancels, p.request(f))
	f.peer.haunt(f)
	f.peer.stale = true
}

func (p *Picker) request(f *flight) Request {
	return Request{Peer: f.peer.id, Piece: f.piece.index, Begin: int64(f.block) * BlockSize, Length: f.length}
}

// settle marks a block as here.
func (p *Picker) settle(pc *piece, i int, by *flight) {
	b := &pc.blocks[i]
	if b.free() {
		p.taken(pc)
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
	last := f != nil && x.flights == 1 && f.sentAt > max(x.idleAt, p.dryAt, p.line.fullAt) // and it was given all it should
	sentAt, known := x.asked(f, index, i)
	x.received(f, sentAt, known, length, max(p.dryAt, p.line.fullAt), now)
	if known {
		p.line.received(length, now-sentAt, now)
	}
	if last && p.free > 0 {
		x.drained(now)
	}
	if pc == nil || i >= len(pc.blocks) {
		return false
	}
	if !stored || pc.blocks[i].here {
		if f != nil {
			p.lose(f)
		}
		return false
	}
	for _, g := range pc.blocks[i].flights {
		if g != nil && g != f {
			g.peer.forsaken(now)
		}
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
	if x == nil {
		return
	}
	if g, ok := x.ghosts[key(index, i)]; ok {
		delete(x.ghosts, key(index, i)) // the answer to a cancel that came in time
		p.hedges.refund(g.spent)
		return
	}
	if pc == nil || i >= len(pc.blocks) {
		return
	}
	if f := pc.blocks[i].flightOf(x); f != nil {
		p.lose(f)
		x.rejected(now)
	}
}

// ghost is a request that was taken back. Its answer may still come, and is then not that of a later request.
type ghost struct {
	sentAt time.Duration
	spent  int64 // what a second copy of it cost the budget of hedges, in bytes
}

// maxGhosts bounds those that a peer may leave without an answer. Some peers answer none (BEP 3), some each (BEP 6).
const maxGhosts = 1024

func (x *peer) haunt(f *flight) {
	if x.ghosts == nil || len(x.ghosts) >= maxGhosts {
		x.ghosts = make(map[uint64]ghost)
	}
	g := ghost{sentAt: f.sentAt}
	if f.hedged {
		g.spent = f.length
	}
	x.ghosts[key(f.piece.index, f.block)] = g
}

// asked is when the block that a peer delivers was asked of it; known is whether that can be told.
func (x *peer) asked(f *flight, index, block int) (at time.Duration, known bool) {
	g, ok := x.ghosts[key(index, block)]
	if ok {
		delete(x.ghosts, key(index, block))
	}
	switch {
	case f == nil && ok:
		return g.sentAt, true
	case f != nil && !f.doubtful:
		return f.sentAt, true
	}
	return 0, false
}

func key(index, block int) uint64 { return uint64(index)<<32 | uint64(block) }

package picker

import (
	"slices"
	"time"
)

const (
	defaultQueue = 250  // requests a peer queues when it does not say
	maxQueue     = 2048 // requests, whatever it says
	maxFast      = 64   // pieces of an allowed-fast set: one that a peer may grow without end would use up memory
)

// peer is what is known of one peer.
type peer struct {
	id     int
	have   []byte // bits as on the wire (BEP 3); nil none
	all    bool   // has every piece
	choked bool
	fast   map[int]bool // pieces it serves even when we are choked (BEP 6)
	queue  int          // requests it takes
	speed
	pulse pulse
	depth int64 // bytes that should be in flight; 0 nothing is known

	head, tail  *flight // requests in flight, in the order they were sent
	flights     int
	outstanding int64            // bytes in flight
	ghosts      map[uint64]ghost // requests taken back and not answered, by key
	forecast

	claimedAt time.Duration // when it last said what it claims
	neighbour bool          // it claims what it fetches from seeds
	salt      uint64        // decides between its claims and those of others
	credit    int           // claims of its that came to something, less those that did not

	stalled  bool          // fell silent when it should have delivered: is tried with one block at a time until it delivers
	penalty  time.Duration // how much later than predicted a stalled peer is taken to deliver
	rejects  int           // in a row
	pausedTo time.Duration // it is asked nothing until then
	vainTo   time.Duration // it looks for work no sooner, unless there were changes since
	vainAt   int           // the count of changes when it last found none
}

// AddPeer adds a peer, choking us and without pieces. rtt is its round-trip time, 0 when unknown.
func (p *Picker) AddPeer(id int, rtt time.Duration) {
	x := &peer{id: id, choked: true, queue: defaultQueue, speed: newSpeed(rtt)}
	p.byID[id] = x
	p.peers = append(p.peers, x)
}

// RemovePeer forgets a peer; its blocks are free again.
func (p *Picker) RemovePeer(id int) {
	x := p.byID[id]
	if x == nil {
		return
	}
	p.release(x, false, nil)
	p.setBits(x, nil, false)
	p.excuse(x)
	p.unclaimAll(x)
	if x.neighbour {
		p.neighbours--
	}
	delete(p.byID, id)
	p.peers = slices.DeleteFunc(p.peers, func(y *peer) bool { return y == x })
}

// SetBits says which pieces a peer has: bits as on the wire (BEP 3), nil for none. The picker keeps the slice.
func (p *Picker) SetBits(id int, bits []byte, all bool) {
	if x := p.byID[id]; x != nil {
		p.setBits(x, bits, all)
		p.changed()
	}
}

func (p *Picker) setBits(x *peer, bits []byte, all bool) {
	p.count(x, -1)
	x.have, x.all = bits, all
	p.count(x, +1)
}

// count adds to the holders of the pieces that a peer has, unless it has all.
func (p *Picker) count(x *peer, n int) {
	if x.all || x.have == nil {
		return
	}
	for _, pc := range p.order {
		if x.has(pc.index) {
			pc.holders += n
		}
	}
}

// AddHave says that a peer has one more piece, of n in all.
func (p *Picker) AddHave(id, index, n int) {
	x := p.byID[id]
	if x == nil || x.has(index) {
		return
	}
	if x.have == nil {
		x.have = make([]byte, (n+7)/8)
	}
	x.have[index/8] |= 0x80 >> (index % 8)
	p.fulfilled(x, index)
	if pc := p.pieces[index]; pc != nil {
		pc.holders++
		p.gained = p.gained || x.neighbour && pc.begun
		p.changed()
	}
}

// DropHave says that a peer has a piece no more (BEP 54), of n in all.
func (p *Picker) DropHave(id, index, n int) {
	x := p.byID[id]
	if x == nil || !x.has(index) {
		return
	}
	if x.all {
		bits := make([]byte, (n+7)/8)
		for i := range n {
			bits[i/8] |= 0x80 >> (i % 8)
		}
		p.setBits(x, bits, false)
	}
	x.have[index/8] &^= 0x80 >> (index % 8)
	if pc := p.pieces[index]; pc != nil {
		pc.holders--
		p.release(x, true, func(piece int) bool { return piece != index })
		p.excuse(x)
	}
}

// SetChoked says whether a peer chokes us. A choke frees its blocks, but those that it serves all the same (BEP 6).
func (p *Picker) SetChoked(id int, choked bool) {
	x := p.byID[id]
	if x == nil || x.choked == choked {
		return
	}
	x.choked = choked
	x.stalled, x.penalty, x.pausedTo = false, 0, 0 // it has spoken
	if choked {
		p.release(x, false, func(piece int) bool { return x.fast[piece] })
		p.excuse(x)
	} else {
		p.hedgeAt = 0
	}
	p.changed()
}

// AllowFast says that a peer serves a piece even while it chokes us (BEP 6).
func (p *Picker) AllowFast(id, index int) {
	if x := p.byID[id]; x != nil && len(x.fast) < maxFast {
		if x.fast == nil {
			x.fast = make(map[int]bool)
		}
		x.fast[index] = true
		p.changed()
	}
}

// SetQueue says how many requests a peer queues (`reqq` of BEP 10).
func (p *Picker) SetQueue(id, n int) {
	if x := p.byID[id]; x != nil && n > 0 {
		x.queue = min(n, maxQueue)
	}
}

// has reports whether the peer has a piece.
func (x *peer) has(index int) bool {
	return x.all || x.have != nil && x.have[index/8]&(0x80>>(index%8)) != 0
}

// serves reports whether the peer delivers a piece when asked now.
func (x *peer) serves(index int) bool { return x.has(index) && (!x.choked || x.fast[index]) }

// mute reports whether the peer delivers nothing at all now.
func (x *peer) mute(now time.Duration) bool { return x.choked && len(x.fast) == 0 || now < x.pausedTo }

package picker

import (
	"cmp"
	"slices"
	"time"
)

// piece is an active piece: one that was wanted and is not complete.
type piece struct {
	index       int
	class       Class
	deadline    time.Duration
	blockedAt   time.Duration // when a reader began to wait for it
	blocks      []block
	free        int            // blocks neither here nor in flight
	left        int            // blocks not here
	first       int            // no block before this one is free
	holders     int            // peers that have this piece but not all
	begun       bool           // blocks of it were asked of peers that have all
	unclaimedAt time.Duration  // when it was first looked at while nobody claimed it; 0 not yet
	jury        map[*peer]bool // if not nil, only these peers may deliver it: the piece failed its hash
}

// block is free (no flight, not here), in flight at one or two peers, or here.
type block struct {
	here    bool
	flights [2]*flight
}

func (b *block) free() bool { return !b.here && b.flights[0] == nil }

func (b *block) flightOf(x *peer) *flight {
	for _, f := range b.flights {
		if f != nil && f.peer == x {
			return f
		}
	}
	return nil
}

// nthFree is the index of the n-th free block, or of the last one if there are fewer. The piece must have one.
func (pc *piece) nthFree(n int) int {
	for !pc.blocks[pc.first].free() {
		pc.first++
	}
	last := pc.first
	for i := pc.first + 1; n > 0 && i < len(pc.blocks); i++ {
		if pc.blocks[i].free() {
			last = i
			n--
		}
	}
	return last
}

// queue is a list of pieces in the order of urgency.
type queue []*piece

func urgency(a, b *piece) int {
	return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.index, b.index))
}

func (q *queue) insert(pc *piece) {
	at, _ := slices.BinarySearchFunc(*q, pc, urgency)
	*q = slices.Insert(*q, at, pc)
}

func (q *queue) remove(pc *piece) {
	at, _ := slices.BinarySearchFunc(*q, pc, urgency)
	*q = slices.Delete(*q, at, at+1)
}

// fits reports whether the piece, which is in the queue, may have another urgency without being moved.
func (q queue) fits(pc, as *piece) bool {
	at, _ := slices.BinarySearchFunc(q, pc, urgency)
	return (at == 0 || urgency(q[at-1], as) < 0) && (at == len(q)-1 || urgency(as, q[at+1]) < 0)
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
		pc = &piece{index: index, class: class, deadline: deadline, blocks: p.newBlocks(n), free: n, left: n}
		for _, x := range p.peers {
			if !x.all && x.has(index) {
				pc.holders++
			}
		}
		if class == Blocked {
			pc.blockedAt = deadline
		}
		p.pieces[index] = pc
		p.free += n
		p.order.insert(pc)
		p.open.insert(pc)
		p.changed()
		return
	}
	if pc.class == class && pc.deadline == deadline {
		return
	}
	if class == Blocked && pc.class != Blocked {
		pc.blockedAt = deadline
	}
	if class == Blocked {
		p.hedgeAt = 0
	}
	as := piece{index: index, class: class, deadline: deadline}
	if p.order.fits(pc, &as) {
		pc.class, pc.deadline = class, deadline // no other piece lies between, in either queue
	} else {
		p.order.remove(pc)
		if pc.free > 0 {
			p.open.remove(pc)
		}
		pc.class, pc.deadline = class, deadline
		p.order.insert(pc)
		if pc.free > 0 {
			p.open.insert(pc)
		}
	}
	p.changed()
}

// changed says that there is more to do, or in another order, so that peers that had nothing to do look again.
func (p *Picker) changed() { p.outlook.changes++ }

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
	p.order.remove(pc)
	if pc.free > 0 {
		p.open.remove(pc)
		p.free -= pc.free
	}
	delete(p.pieces, pc.index)
	p.spare, pc.blocks = pc.blocks, nil
}

// newBlocks makes the blocks of a piece, of those of the piece forgotten last if they are as many.
func (p *Picker) newBlocks(n int) []block {
	b := p.spare
	p.spare = nil
	if len(b) != n {
		return make([]block, n)
	}
	clear(b)
	return b
}

// freed counts blocks of a piece as free, taken as free no more.
func (p *Picker) freed(pc *piece, i int) {
	if pc.free == 0 {
		p.open.insert(pc)
	}
	pc.free++
	p.free++
	pc.first = min(pc.first, i)
	p.changed()
}

func (p *Picker) taken(pc *piece) {
	pc.free--
	p.free--
	if pc.free == 0 {
		p.open.remove(pc)
	}
}

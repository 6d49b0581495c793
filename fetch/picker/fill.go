package picker

import "time"

// fill gives free blocks to the peers that have room, one at a time, each time to the peer that would finish it first.
func (p *Picker) fill(now time.Duration) {
	if p.free == 0 {
		return
	}
	first := p.firstBlocks()
	for p.free > 0 {
		var best *peer
		var finish time.Duration
		for _, x := range p.peers {
			if !x.ready(first, now) {
				continue
			}
			r := p.rate(x)
			if f := x.start(r, now) + seconds(BlockSize/r); best == nil || f < finish {
				best, finish = x, f
			}
		}
		if best == nil {
			break
		}
		if pc, i := p.choose(best, finish, now); pc != nil {
			p.assign(best, pc, i, now)
		} else {
			// A peer without work looks again when something changed, or after a while: what the others were to do
			// for it may have come to nothing.
			best.retry = now + 20*time.Millisecond
			for f := best.head; f != nil; f = f.next {
				f.limited = true
			}
		}
	}
}

// firstBlocks is how many blocks are asked of a peer that has not delivered yet: few, unless a reader waits and nobody is
// known better; then the blocks that it waits for are spread evenly.
func (p *Picker) firstBlocks() int {
	waiting, unknown := 0, 0
	for _, pc := range p.order {
		if pc.class != Blocked {
			break
		}
		waiting += len(pc.blocks)
	}
	for _, x := range p.peers {
		switch {
		case x.choked && len(x.fast) == 0:
		case x.measured() > 0:
			return firstBlocks
		default:
			unknown++
		}
	}
	if unknown == 0 {
		return firstBlocks
	}
	return min(max((waiting+unknown-1)/unknown, firstBlocks), mostFirst)
}

// ready reports whether the peer may take another block now.
func (x *peer) ready(first int, now time.Duration) bool {
	return (!x.choked || len(x.fast) > 0) && now >= x.retry && now >= x.pausedTil &&
		x.flights < x.queue && x.outstanding+BlockSize <= x.depth(first)
}

// choose finds the block that the peer should take: the first in the order of urgency that the other peers could not
// deliver before it would, at finish.
func (p *Picker) choose(x *peer, finish, now time.Duration) (*piece, int) {
	seeds, _ := p.others(x, finish, now, -1)
	left := 0 // blocks that the others will have delivered by then, less those passed over
	passed := 0
	for _, pc := range p.order {
		if pc.free == 0 || !x.has(pc.index) || !x.open(pc.index) || x.stalled && pc.class == Blocked {
			continue
		}
		if pc.isSole {
			if pc.sole != x {
				continue
			}
			return pc, pc.nthFree(0)
		}
		partial, any := p.others(x, finish, now, pc.index)
		if left = seeds + partial - passed; !any && seeds == 0 || left < 0 {
			left = 0
		}
		if left >= pc.free {
			passed += pc.free
			continue
		}
		return pc, pc.nthFree(left)
	}
	return nil, 0
}

// others is how many blocks the other peers could deliver before finish: with index -1 the peers that have every piece,
// otherwise those that have this one among others. any is whether there are such peers.
func (p *Picker) others(x *peer, finish, now time.Duration, index int) (blocks int, any bool) {
	for _, y := range p.peers {
		if y == x || y.choked || y.stalled || now < y.pausedTil {
			continue
		}
		if index < 0 && !y.all || index >= 0 && (y.all || !y.has(index)) {
			continue
		}
		any = true
		r := p.rate(y)
		if d := finish - y.start(r, now); d > 0 {
			blocks += int(d.Seconds() * r / BlockSize)
		}
	}
	return blocks, any
}

// nthFree is the index of the n-th free block.
func (pc *piece) nthFree(n int) int {
	last := 0
	for i := range pc.blocks {
		if pc.blocks[i].free() {
			if last = i; n == 0 {
				break
			}
			n--
		}
	}
	return last
}

// assign puts a block in flight at a peer.
func (p *Picker) assign(x *peer, pc *piece, i int, now time.Duration) {
	b := &pc.blocks[i]
	if b.free() {
		pc.free--
		p.free--
	}
	f := &flight{}
	if n := len(p.unused); n > 0 {
		f, p.unused = p.unused[n-1], p.unused[:n-1]
	}
	*f = flight{peer: x, piece: pc, block: i, length: p.blockSize(pc, i)}
	if b.flights[0] == nil {
		b.flights[0] = f
	} else {
		b.flights[1] = f
	}
	x.push(f, now)
	p.requests = append(p.requests, p.request(f))
}

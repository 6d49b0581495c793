package picker

import (
	"math"
	"time"
)

const (
	firstBlocks = 2                     // asked of a peer that has not delivered yet
	idleFor     = 20 * time.Millisecond // after which a peer that found no work looks again
	vainLooks   = 8                     // of such peers in one Step
	vainEvery   = 20 * time.Microsecond // one more for each that passed since the last Step
	exactPieces = 4                     // of which it is counted who has them; of those behind it is estimated
)

// outlook is what each peer could do next, as of one Step. It is kept for its memory only, but for the last two.
type outlook struct {
	prospects []prospect
	partial   int           // peers among them that have some pieces and not others
	changes   int           // made to what there is to do
	last      time.Duration // when peers last looked for work
}

// prospect is what a peer could do with one more block. Times are in seconds from now.
type prospect struct {
	peer   *peer
	start  float64 // when the block would begin to arrive
	rate   float64 // blocks a second
	finish float64 // when it would be here
	ready  bool    // it may be asked for one
	urgent bool    // it has what a reader waits for
	counts bool    // others may rely on it
	before int     // blocks that it could deliver before the peer in question delivers one
}

// ready reports whether any peer may be asked for a block, and if none may that has room, when the first of those looks
// again that found nothing to do.
func (p *Picker) ready(first int, now time.Duration) (ready bool, at time.Duration) {
	for _, x := range p.peers {
		if x.room(first) && !x.mute(now) {
			if !x.idles(p.outlook.changes, now) {
				return true, 0
			}
			at = earlier(at, x.vainTo)
		}
	}
	return false, at
}

// room reports whether the peer has room for another block.
func (x *peer) room(first int) bool {
	switch {
	case x.stalled:
		return x.flights == 0
	case x.depth == 0:
		return x.flights < min(first, x.queue)
	}
	return x.outstanding < x.depth && x.flights < x.queue
}

// idles reports whether the peer has found nothing to do, and that has not changed.
func (x *peer) idles(changes int, now time.Duration) bool {
	return now < x.vainTo && x.vainAt == changes
}

// look works out the prospects.
func (p *Picker) look(first int, now time.Duration) {
	o := &p.outlook
	o.prospects, o.partial = o.prospects[:0], 0
	for _, x := range p.peers {
		if x.mute(now) {
			continue
		}
		rate := p.pace(x)
		x.replan(rate)
		s := prospect{
			peer: x, start: float64(x.start(now)) / float64(time.Second), rate: rate / BlockSize,
			ready:  x.room(first) && !x.idles(o.changes, now),
			counts: !x.choked && !x.stalled,
		}
		s.finish = s.start + 1/s.rate
		if s.counts && !x.all {
			o.partial++
		}
		o.prospects = append(o.prospects, s)
	}
}

// firstBlocks is how many blocks are asked of a peer that has not delivered yet: few, unless a reader waits and nobody is
// known better. Then the blocks that it waits for are spread evenly over all who may come to serve us, as far as hedges
// could take them from those that turn out to be slow.
func (p *Picker) firstBlocks(now time.Duration) int {
	for _, x := range p.peers {
		if x.rate.value() > 0 && !x.mute(now) {
			return firstBlocks
		}
	}
	waiting := 0
	for _, pc := range p.order {
		if pc.class != Blocked {
			break
		}
		waiting += len(pc.blocks)
	}
	waiting = min(waiting, int(p.hedges.tokens/2/BlockSize))
	peers := max(len(p.peers)+p.coming.by(now), 1)
	return max((waiting+peers-1)/peers, 2*firstBlocks)
}

// fill gives free blocks to the peers that have room, one at a time, each time to the peer that would finish it first. If
// some of them are to wait, since others are expected to be faster, it returns when it should look again: what is expected
// may not come.
func (p *Picker) fill(now time.Duration) time.Duration {
	if p.free == 0 {
		p.dryAt = now
		return 0
	}
	first := p.firstBlocks(now)
	ready, wake := p.ready(first, now)
	if p.coming.by(now) > 0 {
		wake = earlier(wake, p.coming.until)
	}
	if !ready || !p.line.room(now) {
		return wake
	}
	p.look(first, now)
	p.press(now)
	looks := vainLooks + int((now-p.outlook.last)/vainEvery) // so that thousands that idle don't take the processor
	p.outlook.last = now
	for p.free > 0 && p.line.room(now) {
		best := p.outlook.soonest()
		if best == nil {
			break
		}
		if looks == 0 {
			return now // the others' turn comes
		}
		pc, i, last := p.choose(best, now)
		if pc != nil {
			p.assign(best.peer, pc, i, now)
			p.again(best, first, now)
			continue
		}
		x := best.peer
		best.ready = false
		x.idleAt = now
		wake = earlier(wake, now+idleFor)
		if last {
			break
		}
		x.vainTo, x.vainAt = now+idleFor, p.outlook.changes
		looks--
	}
	if p.free == 0 {
		p.dryAt = now
	}
	return wake
}

// again brings a prospect up to date after its peer was given a block.
func (p *Picker) again(s *prospect, first int, now time.Duration) {
	s.start = float64(s.peer.start(now)) / float64(time.Second)
	s.finish = s.start + 1/s.rate
	s.ready = s.peer.room(first)
}

// press puts those first that have what a reader waits for: what our line carries must not go to faster peers that have
// only what can wait.
func (p *Picker) press(now time.Duration) {
	for _, pc := range p.open {
		if pc.class != Blocked {
			break
		}
		deferred := p.deferred(pc, now)
		for i := range p.outlook.prospects {
			if s := &p.outlook.prospects[i]; s.ready && !s.urgent && s.peer.serves(pc.index) && pc.admits(s.peer) && !(deferred && s.peer.all) {
				s.urgent = true
			}
		}
	}
}

// soonest is the prospect that is ready and would finish first, of the urgent ones if there are any.
func (o *outlook) soonest() (best *prospect) {
	for i := range o.prospects {
		s := &o.prospects[i]
		if s.ready && (best == nil || s.urgent && !best.urgent || s.urgent == best.urgent && s.finish < best.finish) {
			best = s
		}
	}
	return best
}

// choose finds the block that a peer should take: the first in the order of urgency that the other peers could not deliver
// before it would. If there is none, last reports whether slower peers need not look, since they would not find any either.
func (p *Picker) choose(s *prospect, now time.Duration) (pc *piece, block int, last bool) {
	x := s.peer
	last = x.all && !x.choked
	seeds, partial, exact := 0, 0, 0
	passed := 0 // free blocks of more urgent pieces
	for i, pc := range p.open {
		if pc.alone(x) {
			return pc, pc.nthFree(0), false
		}
		if !pc.admits(x) {
			last = false
			continue
		}
		if !x.serves(pc.index) {
			passed += pc.free
			continue
		}
		deferred := p.deferred(pc, now)
		if deferred && x.all {
			last = false // those that it is left to may find it
			continue
		}
		if exact == 0 {
			seeds, partial = p.outlook.others(s)
		}
		left := partial
		if exact++; pc.jury != nil {
			left = p.outlook.jurors(pc)
		} else if partial > 0 && exact <= exactPieces {
			left = p.outlook.holders(pc)
		} else if partial > 0 {
			left = partial * pc.holders / max(p.outlook.partial, pc.holders)
		}
		if !deferred && pc.jury == nil {
			left += seeds
		}
		if left = max(left-passed, 0); left >= pc.free {
			passed += pc.free
			continue
		}
		if p.neighbours > 0 && x.all && pc.class > Blocked && pc.holders == 0 && !pc.begun {
			if pc = p.turn(x, i, now); pc == nil {
				return nil, 0, false
			}
			left = 0
		}
		return pc, pc.nthFree(left), false
	}
	return nil, 0, last
}

// others is how many blocks the other peers could deliver before the peer would deliver one: those that have every piece,
// and those that have some.
func (o *outlook) others(s *prospect) (seeds, partial int) {
	const tie = 1e-6 // blocks: who would finish at the same time is not before
	for i := range o.prospects {
		y := &o.prospects[i]
		y.before = 0
		if y == s || !y.counts {
			continue
		}
		n := int(math.Ceil((s.finish-y.start)*y.rate-tie)) - 1
		if n <= 0 {
			continue
		}
		if y.before = n; y.peer.all {
			seeds += n
		} else {
			partial += n
		}
	}
	return seeds, partial
}

// holders is how many blocks those of the others that have the piece, but not every piece, could deliver. Who has a piece
// that is next must be known, or each of its holders might leave it to others that don't have it.
func (o *outlook) holders(pc *piece) (blocks int) {
	for i := range o.prospects {
		if y := &o.prospects[i]; y.before > 0 && !y.peer.all && y.peer.has(pc.index) {
			blocks += y.before
		}
	}
	return blocks
}

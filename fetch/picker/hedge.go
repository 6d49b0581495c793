package picker

import (
	"math"
	"time"
)

const (
	hedgeShare = 0.05    // of the bytes delivered may be spent on second copies
	hedgeGain  = 0.5     // a second copy must be expected within this share of the wait for the first
	hedgeBurst = 2 << 20 // bytes of second copies that may be spent at once

	hedgeLeast = 10 * time.Millisecond
	hedgeAhead = 2 // times as long as an answer takes before their deadline, blocks are looked at that no reader waits for yet
)

// bucket is the budget of second copies, in bytes.
type bucket struct{ tokens float64 }

func newBucket() bucket { return bucket{tokens: hedgeBurst} }

func (b *bucket) fill(delivered int64) {
	b.tokens = min(b.tokens+hedgeShare*float64(delivered), hedgeBurst)
}

func (b *bucket) take(n int64) bool {
	if b.tokens < float64(n) {
		return false
	}
	b.tokens -= float64(n)
	return true
}

// refund gives back what a second copy cost that did not come.
func (b *bucket) refund(n int64) { b.tokens = min(b.tokens+float64(n), hedgeBurst) }

// Delivered says that so many bytes of content were verified; a share of them may be spent on second copies.
func (p *Picker) Delivered(n int64) { p.hedges.fill(n) }

// hedge asks a second peer for blocks that a reader waits for, or will in a moment, and that are expected much later than
// that peer could deliver them. It returns when it should look again.
func (p *Picker) hedge(now time.Duration) (wake time.Duration) {
	if now < p.hedgeAt {
		return p.hedgeAt
	}
	p.hedgeAt = 0
	fastest := time.Duration(0) // of any peer's answers
	for _, pc := range p.order {
		if pc.class > Ahead || pc.class == Ahead && pc.deadline > now+hedgeAhead*fastest {
			break
		}
		if pc.free > 1 || len(pc.jury) == 1 { // one is left for the fastest until it has room
			continue
		}
		if fastest == 0 {
			p.look(0, now)
			fastest = p.outlook.fastest()
		}
		p.hedgeAt = earlier(p.hedgeAt, p.hedgePiece(pc, fastest, now))
	}
	return p.hedgeAt
}

// hedgePiece hedges a piece's blocks, those for which it is worth it, and returns when it may become so for the others. No
// peer answers sooner than fastest.
func (p *Picker) hedgePiece(pc *piece, fastest, now time.Duration) (wake time.Duration) {
	near := p.deferred(pc, now) // peers that have everything are spared
	for i := range pc.blocks {
		b := &pc.blocks[i]
		f, wait := b.latest(now)
		if f == nil || pc.class == Ahead && wait < pc.deadline-now {
			continue
		}
		// If the owner stays silent, its wait grows with the time since it was due.
		again := now + max(hedgeLeast, fastest/2)
		if worth(wait, fastest) {
			if z := p.outlook.best(pc, b, near); z == nil {
				again = now + patience
			} else if worth(wait, seconds(z.finish)) && p.hedges.take(f.length) {
				if b.flights[1] != nil {
					f.peer.forsaken(now)
					p.cancel(f)
					p.land(f)
				}
				p.assign(z.peer, pc, i, now)
				b.flights[0].hedged, b.flights[1].hedged = true, true
				p.again(z, 0, now)
				continue
			}
		}
		wake = earlier(wake, again)
	}
	return wake
}

// latest is the flight, of those of a block, that is expected last, and in how long the first of them is expected.
func (b *block) latest(now time.Duration) (f *flight, wait time.Duration) {
	f, g := b.flights[0], b.flights[1]
	switch {
	case f == nil:
		return nil, 0
	case g == nil:
		return f, f.arrives(now)
	}
	first, second := f.arrives(now), g.arrives(now)
	if first < second {
		return g, first
	}
	return f, second
}

// worth reports whether it is worth it to ask a second peer, which needs so long for what is expected after a wait.
func worth(wait, need time.Duration) bool {
	return wait > hedgeLeast && float64(need) < hedgeGain*float64(wait)
}

// fastest is how long any peer takes at least to deliver another block.
func (o *outlook) fastest() time.Duration {
	least := math.Inf(1)
	for i := range o.prospects {
		least = min(least, o.prospects[i].finish)
	}
	return seconds(min(least, time.Hour.Seconds()))
}

// best is the peer that would deliver a block of a piece first, of those that it is not asked of, whether their pipe is
// full or not, unless nothing is known of them and they have their first blocks. With near, who has every piece is not among
// them.
func (o *outlook) best(pc *piece, b *block, near bool) (best *prospect) {
	for i := range o.prospects {
		s := &o.prospects[i]
		x := s.peer
		if best != nil && s.finish >= best.finish || x.stalled || x.flights >= x.queue || !x.serves(pc.index) || !pc.admits(x) || near && x.all ||
			x.rate.value() == 0 && x.flights >= firstBlocks || b.flightOf(x) != nil {
			continue
		}
		best = s
	}
	return best
}

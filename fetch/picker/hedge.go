package picker

import "time"

const (
	hedgeShare = 0.05    // of the bytes delivered may be spent on second copies
	hedgeGain  = 0.5     // a second copy must be expected within this share of the wait for the first
	hedgeBurst = 2 << 20 // bytes of second copies that may be spent at once

	hedgeLeast = 10 * time.Millisecond
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

// hedge asks a second peer for blocks that a reader waits for and that are expected much later than that peer could
// deliver them. It returns when it should look again.
func (p *Picker) hedge(now time.Duration) (wake time.Duration) {
	if now < p.hedgeAt {
		return p.hedgeAt
	}
	p.hedgeAt = 0
	looked := false
	for _, pc := range p.order {
		if pc.class != Blocked {
			break
		}
		if pc.free > 0 || pc.sole != nil {
			continue
		}
		if !looked {
			p.look(now)
			looked = true
		}
		p.hedgeAt = earlier(p.hedgeAt, p.hedgePiece(pc, now))
	}
	return p.hedgeAt
}

// hedgePiece hedges a piece's blocks, those for which it is worth it, and returns when it may become so for the others.
func (p *Picker) hedgePiece(pc *piece, now time.Duration) (wake time.Duration) {
	first, second := p.outlook.best(pc)
	for i := range pc.blocks {
		b := &pc.blocks[i]
		f := b.flights[0]
		if f == nil || b.flights[1] != nil {
			continue
		}
		z := first
		if z != nil && z.peer == f.peer {
			z = second
		}
		if z == nil {
			wake = earlier(wake, now+patience)
			continue
		}
		wait := f.arrives(now)
		need := seconds(z.finish)
		if wait > hedgeLeast && float64(need) < hedgeGain*float64(wait) && p.hedges.take(f.length) {
			p.assign(z.peer, pc, i, now)
			f.hedged, b.flights[1].hedged = true, true
			p.again(z, now)
			first, second = p.outlook.best(pc)
			continue
		}
		// If the owner stays silent, its wait grows with the time since it was due.
		wake = earlier(wake, now+max(hedgeLeast, need/2))
	}
	return wake
}

// best are the two peers that would deliver another block of a piece first, whether their pipe is full or not.
func (o *outlook) best(pc *piece) (first, second *prospect) {
	for i := range o.prospects {
		s := &o.prospects[i]
		if s.peer.stalled || !s.peer.serves(pc.index) || s.peer.flights >= s.peer.queue {
			continue
		}
		switch {
		case first == nil || s.finish < first.finish:
			first, second = s, first
		case second == nil || s.finish < second.finish:
			second = s
		}
	}
	return first, second
}

package picker

import "time"

const (
	hedgeShare = 0.05    // of the bytes delivered may be spent on second copies
	hedgeGain  = 0.5     // a second copy must be expected within this share of the wait for the first
	hedgeBurst = 2 << 20 // bytes of second copies that may be spent at once

	hedgeLeast = 10 * time.Millisecond
	hedgeAhead = time.Second // before their deadline blocks are looked at that no reader waits for yet
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
		if pc.class > Ahead || pc.class == Ahead && pc.deadline > now+hedgeAhead {
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
		if b.flights[0] == nil {
			continue
		}
		f, wait := b.flights[0], b.flights[0].arrives(now) // of two, the one that comes last
		if g := b.flights[1]; g != nil {
			if w := g.arrives(now); w > wait {
				f = g
			} else {
				wait = w
			}
		}
		z := first
		for _, g := range b.flights {
			if g != nil && z != nil && g.peer == z.peer {
				if z = second; z == nil || b.flightOf(z.peer) != nil {
					z = nil
					break
				}
			}
		}
		if z == nil {
			wake = earlier(wake, now+patience)
			continue
		}
		need := seconds(z.finish)
		if spare := pc.deadline - now - 2*need; pc.class == Ahead && spare > 0 {
			wake = earlier(wake, now+max(hedgeLeast, spare))
			continue
		}
		if pc.class == Ahead && wait < pc.deadline-now {
			wake = earlier(wake, now+max(hedgeLeast, need/2))
			continue
		}
		if wait > hedgeLeast && float64(need) < hedgeGain*float64(wait) && p.hedges.take(f.length) {
			if b.flights[1] != nil {
				p.cancel(f)
				p.land(f)
			}
			p.assign(z.peer, pc, i, now)
			b.flights[0].hedged, b.flights[1].hedged = true, true
			p.again(z, now)
			first, second = p.outlook.best(pc)
			continue
		}
		// If the owner stays silent, its wait grows with the time since it was due.
		wake = earlier(wake, now+max(hedgeLeast, need/2))
	}
	return wake
}

// best are the two peers that would deliver another block of a piece first, whether their pipe is full or not, unless
// nothing is known of them and they have their first blocks.
func (o *outlook) best(pc *piece) (first, second *prospect) {
	for i := range o.prospects {
		s := &o.prospects[i]
		x := s.peer
		if x.stalled || !x.serves(pc.index) || x.flights >= x.queue || x.rate.value() == 0 && x.flights >= firstBlocks {
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

package picker

import "time"

const (
	hedgeShare = 0.05    // of the bytes delivered may be spent on second copies
	hedgeBurst = 2 << 20 // bytes of second copies that may be spent at once
	hedgeGain  = 0.5     // a second copy must be expected within this share of the wait for the first
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

// Delivered says that so many bytes of content were verified; a share of them may be spent on second copies.
func (p *Picker) Delivered(n int64) { p.hedges.fill(n) }

// hedge asks a second peer for blocks that a reader waits for and that are expected much later than that peer could
// deliver them. It returns when it should look again.
func (p *Picker) hedge(now time.Duration) (wake time.Duration) {
	if now < p.hedgeAt {
		return p.hedgeAt
	}
	p.hedgeAt = 0
	for _, pc := range p.order {
		if pc.class != Blocked {
			break
		}
		if pc.free > 0 || pc.isSole {
			continue
		}
		for i := range pc.blocks {
			b := &pc.blocks[i]
			if b.here || b.flights[1] != nil || b.flights[0] == nil {
				continue
			}
			p.hedgeAt = earlier(p.hedgeAt, p.second(pc, i, now))
		}
	}
	return p.hedgeAt
}

// second hedges one block if that is worth it, and otherwise returns when it may become so.
func (p *Picker) second(pc *piece, i int, now time.Duration) time.Duration {
	f := pc.blocks[i].flights[0]
	wait := f.arrives(p.rate(f.peer), now) - now
	z, finish := p.fastest(pc, f.peer, now)
	if z == nil {
		return now + patience
	}
	need := finish - now
	if wait > hedgeLeast && float64(need) < hedgeGain*float64(wait) && p.hedges.take(f.length) {
		p.assign(z, pc, i, now)
		return 0
	}
	// If the owner stays silent, its wait grows with the time since it was due.
	return now + max(hedgeLeast, need/2)
}

// fastest is the peer, other than one, that would deliver a block of the piece first.
func (p *Picker) fastest(pc *piece, except *peer, now time.Duration) (best *peer, finish time.Duration) {
	for _, x := range p.peers {
		if x == except || x.stalled || !x.has(pc.index) || !x.open(pc.index) || now < x.pausedTil || x.flights >= x.queue {
			continue
		}
		r := p.rate(x)
		if f := x.start(r, now) + seconds(BlockSize/r); best == nil || f < finish {
			best, finish = x, f
		}
	}
	return best, finish
}

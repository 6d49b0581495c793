package picker

import "time"

// A claim is a peer's word that it fetches a piece which only seeds have. Readers that go through the same content at the
// same time want the same pieces, and would each ask them of the seeds, which send every byte many times over. So a claimed
// piece is left to who claims it, to be had from there a moment later. A reader waits for a multiple
// of what the piece would take from the seeds, and no more; and who claims what then does not come is believed less.

const (
	claimTerm     = 2500 * time.Millisecond // that a claim is good for, unless it is said again
	claimSlack    = time.Second
	claimLead     = 20 * time.Millisecond // of who a piece falls to that a reader waits for and nobody claims
	turnLead      = 50 * time.Millisecond // the same of a piece read ahead, for each place in the order of turns
	claimQueue    = 2 * time.Second       // of a seed's work: with more in flight there, no more is claimed
	spreadOver    = 4                     // times as many of the next pieces as there are claimants are looked at
	claimPatience = 5 * time.Second       // of a reader, at most
	leastCredit   = -3                    // claims that came to nothing, before a peer's are ignored
	mostCredit    = 3
	mostVain      = 6 // claims that came to nothing, whoever's, before those of peers without credit are ignored
)

// claim is who claims a piece, and since when.
type claim struct {
	by    *peer
	since time.Duration
}

// Claim says that a peer claims pieces: with all set these are all, in place of those that it claimed before.
func (p *Picker) Claim(id int, pieces []int, all bool, now time.Duration) {
	x := p.byID[id]
	if x == nil {
		return
	}
	x.claimedAt = now
	if all {
		said := make(map[int]bool, len(pieces))
		for _, index := range pieces {
			said[index] = true
		}
		for index, c := range p.claims {
			if c.by == x && !said[index] {
				p.unclaim(index)
			}
		}
	}
	for _, index := range pieces {
		if c := p.claims[index]; x.has(index) || c != nil && c.by == x {
			continue
		} else if c == nil || !p.binds(c, now) || lot(index, x.salt) > lot(index, c.by.salt) {
			p.claims[index] = &claim{by: x, since: now}
		}
	}
}

// unclaim ends a claim.
func (p *Picker) unclaim(index int) {
	delete(p.claims, index)
	if pc := p.pieces[index]; pc != nil {
		pc.unclaimedAt = 0
	}
	p.changed()
}

// unclaimAll ends a peer's claims.
func (p *Picker) unclaimAll(x *peer) {
	for index, c := range p.claims {
		if c.by == x {
			p.unclaim(index)
		}
	}
}

// fulfilled ends the claim of a piece that a peer has now.
func (p *Picker) fulfilled(x *peer, index int) {
	if c := p.claims[index]; c != nil {
		if c.by == x {
			x.credit = min(x.credit+1, mostCredit)
			p.vain = max(p.vain-1, 0)
		}
		p.unclaim(index)
	}
}

// binds reports whether a claim is to be heeded: the peer says so still, would serve us, and is believed. Strangers that
// come one after another to claim what they don't fetch make a reader wait a few times in all, not each of them a few.
func (p *Picker) binds(c *claim, now time.Duration) bool {
	least := leastCredit
	if p.vain >= mostVain {
		least = 0
	}
	return now-c.by.claimedAt < claimTerm && !c.by.choked && c.by.credit > least
}

// deferred reports whether a piece is left to peers that claim it, or that claim pieces and have it.
func (p *Picker) deferred(pc *piece, now time.Duration) bool {
	if p.neighbours == 0 || pc.jury != nil {
		return false
	}
	if pc.holders > 0 {
		return p.near(pc, now) && !(pc.class == Blocked && now-pc.blockedAt > p.patience(pc))
	}
	c := p.claims[pc.index]
	if c == nil {
		// All that read the same come to it at the same moment: one goes first.
		return pc.class == Blocked && now-pc.blockedAt < claimLead && !pc.begun && p.place(pc.index, now) > 0
	}
	lapsed := now-c.by.claimedAt >= claimTerm
	if lapsed || pc.class == Blocked && now-max(c.since, pc.blockedAt) > p.patience(pc) {
		c.by.credit--
		p.vain = min(p.vain+1, 2*mostVain)
		p.unclaim(pc.index)
		return false
	}
	if !p.binds(c, now) {
		p.unclaim(pc.index)
		return false
	}
	return true
}

// patience is for how long a reader waits for a claimed piece.
func (p *Picker) patience(pc *piece) time.Duration {
	alone := seconds(float64(pc.left) * BlockSize / max(p.seeds(), 1))
	return min(3*alone+claimSlack, claimPatience)
}

// seeds is how fast the peers that have everything are together, in bytes a second.
func (p *Picker) seeds() (rate float64) {
	for _, x := range p.peers {
		if x.all && !x.choked && !x.stalled {
			rate += p.sustained(x)
		}
	}
	return rate
}

// near reports whether peers that claim what they fetch have a piece by now, and are about as fast as the seeds together.
func (p *Picker) near(pc *piece, now time.Duration) bool {
	rate := 0.0
	for _, x := range p.peers {
		if x.neighbour && !x.all && x.serves(pc.index) && !x.stalled && !x.mute(now) {
			rate += p.sustained(x)
		}
	}
	return rate > 0 && rate >= p.seeds()/2
}

// turn finds, for a peer that has everything, one of the next pieces that only such peers have, from the i-th on: one that we
// have begun, or else the one that we come to first in the order of turns. It is nil while others' turn is first, or the
// peer has enough to do.
func (p *Picker) turn(x *peer, i int, now time.Duration) (best *piece) {
	laden := x.steady.known() && float64(x.outstanding) > x.steady.rate()*claimQueue.Seconds()
	class, seen, first := p.open[i].class, 0, 0
	for _, pc := range p.open[i:] {
		if pc.class != class || seen >= spreadOver*(p.neighbours+1) {
			break
		}
		if pc.holders > 0 || pc.jury != nil || p.deferred(pc, now) {
			continue
		}
		if pc.begun {
			return pc
		}
		if seen++; laden || best != nil && first == 0 {
			continue
		}
		if pc.unclaimedAt == 0 {
			pc.unclaimedAt = now
		}
		place := p.place(pc.index, now)
		if now-pc.unclaimedAt >= time.Duration(place)*turnLead && (best == nil || place < first) {
			best, first = pc, place
		}
	}
	return best
}

// active reports whether a peer has claimed anything of late, or is new, and so may be about to.
func (x *peer) active(now time.Duration) bool {
	return x.neighbour && !x.choked && x.credit > leastCredit && now-x.claimedAt < claimTerm
}

// place is ours in the order of turns at a piece, which is by lot: how many of those that claim pieces precede us. Each of
// them finds the same order.
func (p *Picker) place(index int, now time.Duration) (n int) {
	for _, x := range p.peers {
		if x.active(now) && p.precedes(x, index) {
			n++
		}
	}
	return n
}

// precedes reports whether a peer's claim of a piece counts more than ours.
func (p *Picker) precedes(x *peer, index int) bool { return lot(index, x.salt) > lot(index, p.salt) }

// Precedes reports whether a peer's claim of a piece counts more than ours. On its side it is the other way round.
func (p *Picker) Precedes(id, index int) bool {
	x := p.byID[id]
	return x != nil && p.precedes(x, index)
}

// lot is what chance gives a claimant for a piece.
func lot(index int, salt uint64) uint64 {
	x := (uint64(index) + salt) * 0x9e3779b97f4a7c15
	x = (x ^ x>>29) * 0xbf58476d1ce4e5b9
	return x ^ x>>32
}

// Neighbour says that a peer claims what it fetches from seeds. Its salt, and ours, are what both know of each other.
func (p *Picker) Neighbour(id int, salt uint64, now time.Duration) {
	if x := p.byID[id]; x != nil && !x.neighbour {
		x.neighbour, x.salt, x.claimedAt = true, salt, now
		p.neighbours++
		p.changed()
	}
}

// Salt says what decides by chance between our claims and those of others.
func (p *Picker) Salt(salt uint64) { p.salt = salt }

// Unshared reports whether of our peers only those that have everything have a piece.
func (p *Picker) Unshared(index int) bool {
	pc := p.pieces[index]
	return pc != nil && pc.holders == 0
}

// Pursued reports whether a piece that only peers with everything have was begun, and is gone on with.
func (p *Picker) Pursued(index int) bool {
	pc := p.pieces[index]
	return pc != nil && pc.begun && pc.holders == 0 && (pc.free < pc.left || p.seeds() > 0)
}

// spareSeeds takes back what was asked of peers that have everything and is to be had from a peer that has claimed it too, and
// has it now.
func (p *Picker) spareSeeds(now time.Duration) {
	if !p.gained {
		return
	}
	p.gained = false
	for _, pc := range p.order {
		if pc.begun && pc.holders > 0 && p.deferred(pc, now) {
			pc.begun = false
			p.recall(pc, func(x *peer) bool { return x.all })
		}
	}
}

// Yield takes back all requests for a piece, for the sake of a peer that claims it too. It stays wanted.
func (p *Picker) Yield(index int) {
	pc := p.pieces[index]
	if pc == nil {
		return
	}
	pc.begun = false
	p.recall(pc, func(*peer) bool { return true })
}

// recall takes back the requests for a piece that were made to some peers.
func (p *Picker) recall(pc *piece, from func(x *peer) bool) {
	for i := range pc.blocks {
		for _, f := range pc.blocks[i].flights {
			if f != nil && from(f.peer) {
				p.cancel(f)
				p.lose(f)
			}
		}
	}
}

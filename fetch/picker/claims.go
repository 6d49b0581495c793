package picker

import "time"

// A claim is a peer's word that it fetches a piece which only seeds have. Readers that go through the same content at the
// same time want the same pieces, and would each ask them of the seeds, which send every byte many times over. So a claimed
// piece is left to who claims it, to be had from there a moment later. A reader waits for a multiple
// of what the piece would take from the seeds, and no more; and who claims what then does not come is believed less.

const (
	claimTerm     = 2500 * time.Millisecond // that a claim is good for, unless it is said again
	claimSlack    = time.Second
	claimLead     = 20 * time.Millisecond // of who a piece falls to that nobody claims
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

// deferred reports whether a piece is left to a peer that claims it.
func (p *Picker) deferred(pc *piece, now time.Duration) bool {
	if p.neighbours == 0 || pc.sole != nil {
		return false
	}
	if pc.holders > 0 {
		return p.near(pc, now)
	}
	c := p.claims[pc.index]
	if c == nil {
		// All that read the same come to it at the same moment: one goes first.
		return pc.class == Blocked && now-pc.blockedAt < claimLead && pc.free == len(pc.blocks) && !p.ours(pc.index, now)
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
			rate += p.pace(x)
		}
	}
	return rate
}

// near reports whether peers that claim what they fetch have a piece by now, and are about as fast as the seeds together.
func (p *Picker) near(pc *piece, now time.Duration) bool {
	rate := 0.0
	for _, x := range p.peers {
		if x.neighbour && !x.all && x.serves(pc.index) && !x.stalled && !x.mute(now) {
			rate += p.pace(x)
		}
	}
	return rate > 0 && rate >= p.seeds()/2
}

// spread finds, for a peer that has everything, one of the next pieces that nobody has begun, from the i-th on: not the
// first, which all that read the same would take, but the first that falls to us.
func (p *Picker) spread(i int, now time.Duration) *piece {
	active := 0
	for _, x := range p.peers {
		if x.active(now) {
			active++
		}
	}
	best, seen := p.open[i], 0
	for _, pc := range p.open[i:] {
		if pc.class != best.class || seen > 4*(active+1) {
			break
		}
		if pc.holders > 0 || pc.free < len(pc.blocks) || pc.sole != nil || p.deferred(pc, now) {
			continue
		}
		if p.ours(pc.index, now) {
			return pc
		}
		seen++
	}
	return best
}

// active reports whether a peer has claimed anything of late.
func (x *peer) active(now time.Duration) bool {
	return x.neighbour && x.claimedAt > 0 && now-x.claimedAt < claimTerm
}

// ours reports whether a piece falls to us among all that claim pieces. Each of them finds the same.
func (p *Picker) ours(index int, now time.Duration) bool {
	for _, x := range p.peers {
		if x.active(now) && p.precedes(x, index) {
			return false
		}
	}
	return true
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
func (p *Picker) Neighbour(id int, salt uint64) {
	if x := p.byID[id]; x != nil && !x.neighbour {
		x.neighbour, x.salt = true, salt
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

// Fetching reports whether blocks of a piece are in flight.
func (p *Picker) Fetching(index int) bool {
	pc := p.pieces[index]
	return pc != nil && pc.free < pc.left
}

// Yield takes back all requests for a piece, for the sake of a peer that claims it too. It stays wanted.
func (p *Picker) Yield(index int) {
	pc := p.pieces[index]
	if pc == nil {
		return
	}
	for i := range pc.blocks {
		for f := pc.blocks[i].flights[0]; f != nil; f = pc.blocks[i].flights[0] {
			p.cancel(f)
			p.lose(f)
		}
	}
}

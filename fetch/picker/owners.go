package picker

import (
	"slices"
	"time"
)

// Owners is how many peers have a piece, whether they serve it now or not.
func (p *Picker) Owners(index int) (n int) {
	for _, x := range p.peers {
		if x.has(index) {
			n++
		}
	}
	return n
}

// Serving reports whether any peer serves us now.
func (p *Picker) Serving() bool {
	return slices.ContainsFunc(p.peers, func(x *peer) bool { return !x.choked || len(x.fast) > 0 })
}

// Served reports whether a peer that has a piece serves us now.
func (p *Picker) Served(index int) bool {
	return slices.ContainsFunc(p.peers, func(x *peer) bool { return x.serves(index) })
}

// Spare reports whether a peer that has a piece serves us and, as of the last Step, has room for more than there is to ask of
// it.
func (p *Picker) Spare(index int, now time.Duration) bool {
	return slices.ContainsFunc(p.peers, func(x *peer) bool {
		return x.serves(index) && !x.mute(now) && !x.stalled && x.room(firstBlocks) && now-max(x.idleAt, p.dryAt) < idleFor
	})
}

// Has reports whether a peer has a piece.
func (p *Picker) Has(id, index int) bool {
	x := p.byID[id]
	return x != nil && x.has(index)
}

package picker

import "time"

// A piece that failed its hash is repaired by a jury: the peers that are believed, or one alone, whom the piece then convicts
// or clears. A juror that chokes us, falls silent or leaves is none any more, and a piece without jurors is open to all.

// Jury lets only the peers for which fit is true deliver a piece, and says how long that should take them, and how long it
// would take all. With none of them (takes is 0) it is open to all.
func (p *Picker) Jury(index int, fit func(peer int) bool) (takes, all time.Duration) {
	pc := p.pieces[index]
	if pc == nil {
		return 0, 0
	}
	pc.jury = nil
	fits, serves := 0.0, 0.0 // bytes a second
	for _, x := range p.peers {
		if !x.serves(index) || x.stalled {
			continue
		}
		pace := p.pace(x)
		serves += pace
		if fit(x.id) {
			pc.swear(x)
			fits += pace
		}
	}
	p.changed()
	if pc.jury == nil {
		return 0, 0
	}
	left := float64(pc.left) * BlockSize
	return seconds(left / fits), seconds(left / serves)
}

// Sole makes one peer alone the jury of a piece. The peer chosen is the one that should be done first with this and what it
// was given so before, that has the piece and is not in avoid; ok is false when there is none, and the piece is then open to
// all.
func (p *Picker) Sole(index int, avoid func(peer int) bool) (id int, ok bool) {
	pc := p.pieces[index]
	if pc == nil {
		return 0, false
	}
	pc.jury = nil
	given := make(map[*peer]int) // blocks
	for _, o := range p.order {
		for x := range o.jury {
			if o.alone(x) {
				given[x] += o.left
			}
		}
	}
	var sole *peer
	least := 0.0
	for _, x := range p.peers {
		if !x.serves(index) || x.stalled || avoid(x.id) {
			continue
		}
		if takes := float64(given[x]+pc.left) / p.pace(x); sole == nil || takes < least {
			sole, least = x, takes
		}
	}
	p.changed()
	if sole == nil {
		return 0, false
	}
	pc.swear(sole)
	return sole.id, true
}

// Open lets all peers deliver a piece again.
func (p *Picker) Open(index int) {
	if pc := p.pieces[index]; pc != nil && pc.jury != nil {
		pc.jury = nil
		p.changed()
	}
}

// swear makes a peer a juror.
func (pc *piece) swear(x *peer) {
	if pc.jury == nil {
		pc.jury = make(map[*peer]bool)
	}
	pc.jury[x] = true
}

// admits reports whether the jury, if there is one, has the peer in it.
func (pc *piece) admits(x *peer) bool { return pc.jury == nil || pc.jury[x] }

// alone reports whether the peer is the only juror.
func (pc *piece) alone(x *peer) bool { return len(pc.jury) == 1 && pc.jury[x] }

// excuse takes a peer off the juries of pieces that it does not deliver now.
func (p *Picker) excuse(x *peer) {
	for _, pc := range p.order {
		if !pc.jury[x] || x.serves(pc.index) && !x.stalled {
			continue
		}
		if delete(pc.jury, x); len(pc.jury) == 0 {
			pc.jury = nil
		}
		p.changed()
	}
}

// jurors is how many blocks the others on a piece's jury could deliver.
func (o *outlook) jurors(pc *piece) (blocks int) {
	for i := range o.prospects {
		if y := &o.prospects[i]; y.before > 0 && pc.jury[y.peer] && y.peer.has(pc.index) {
			blocks += y.before
		}
	}
	return blocks
}

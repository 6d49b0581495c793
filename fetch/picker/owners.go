package picker

// Owners is how many peers have a piece, whether they serve it now or not.
func (p *Picker) Owners(index int) (n int) {
	for _, x := range p.peers {
		if x.has(index) {
			n++
		}
	}
	return n
}

// Has reports whether a peer has a piece.
func (p *Picker) Has(id, index int) bool {
	x := p.byID[id]
	return x != nil && x.has(index)
}

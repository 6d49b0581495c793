package picker

import "testing"

// verify checks the picker's books against each other.
func (p *Picker) verify(t testing.TB) {
	t.Helper()
	free := 0
	flights := make(map[*peer]int)
	for _, pc := range p.pieces {
		pieceFree, left := 0, 0
		for i := range pc.blocks {
			b := &pc.blocks[i]
			if !b.here {
				left++
			}
			if b.free() {
				pieceFree++
			}
			if b.here && b.flights[0] != nil || b.flights[0] == nil && b.flights[1] != nil {
				t.Fatalf("piece %d block %d: here %v, flights %v", pc.index, i, b.here, b.flights)
			}
			if b.flights[1] != nil && b.flights[0].peer == b.flights[1].peer {
				t.Fatalf("piece %d block %d is asked of peer %d twice", pc.index, i, b.flights[0].peer.id)
			}
			for _, f := range b.flights {
				if f == nil {
					continue
				}
				if f.piece != pc || f.block != i || p.byID[f.peer.id] != f.peer {
					t.Fatalf("piece %d block %d has the flight of another: %+v", pc.index, i, f)
				}
				if !pc.admits(f.peer) {
					t.Fatalf("piece %d is asked of peer %d, who is none of its %d jurors", pc.index, f.peer.id, len(pc.jury))
				}
				flights[f.peer]++
			}
		}
		if pieceFree != pc.free || left != pc.left || left == 0 {
			t.Fatalf("piece %d: %d free and %d left, counted %d and %d", pc.index, pc.free, pc.left, pieceFree, left)
		}
		free += pieceFree
	}
	if free != p.free {
		t.Fatalf("%d free blocks, counted %d", p.free, free)
	}
	p.verifyOrder(t)
	outstanding := int64(0)
	for _, x := range p.peers {
		n, bytes := 0, int64(0)
		var last *flight
		for f := x.head; f != nil; last, f = f, f.next {
			n++
			bytes += f.length
			if f.prev != last || f.peer != x {
				t.Fatalf("peer %d: broken list at %+v", x.id, f)
			}
		}
		outstanding += bytes
		if x.tail != last || n != x.flights || n != flights[x] || bytes != x.outstanding {
			t.Fatalf("peer %d: %d flights of %d bytes, counted %d of %d, blocks know %d",
				x.id, x.flights, x.outstanding, n, bytes, flights[x])
		}
		if n > x.queue {
			t.Fatalf("peer %d takes %d requests and has %d", x.id, x.queue, n)
		}
	}
	if p.line.outstanding != outstanding {
		t.Fatalf("%d bytes in flight in all, counted %d", p.line.outstanding, outstanding)
	}
	for _, f := range p.unused {
		if *f != (flight{}) {
			t.Fatalf("a flight for reuse is in use: %+v", f)
		}
	}
}

func (p *Picker) verifyOrder(t testing.TB) {
	t.Helper()
	open := 0
	for _, pc := range p.pieces {
		if pc.free > 0 {
			open++
		}
	}
	if len(p.order) != len(p.pieces) || len(p.open) != open {
		t.Fatalf("%d and %d pieces in order, %d and %d in all", len(p.order), len(p.open), len(p.pieces), open)
	}
	for _, q := range []queue{p.order, p.open} {
		for i, pc := range q {
			if p.pieces[pc.index] != pc || i > 0 && urgency(q[i-1], pc) >= 0 {
				t.Fatalf("piece %d is out of order", pc.index)
			}
		}
	}
	for _, pc := range p.open {
		if pc.free == 0 {
			t.Fatalf("piece %d is open and has no free block", pc.index)
		}
	}
	for _, pc := range p.pieces {
		holders := 0
		for _, x := range p.peers {
			if !x.all && x.has(pc.index) {
				holders++
			}
		}
		if holders != pc.holders {
			t.Fatalf("piece %d has %d holders, counted %d", pc.index, pc.holders, holders)
		}
		for i := range pc.first {
			if pc.blocks[i].free() {
				t.Fatalf("piece %d: block %d is free, before %d", pc.index, i, pc.first)
			}
		}
	}
}

package metadata

import (
	"errors"

	"torrentfs/fetch/wire"
)

// grid is an info dictionary of a certain size under construction.
type grid struct {
	size  int64
	parts [][]byte
	asked []int // how many peers each part is asked of now
	left  int
	users int   // conversations that fill it
	held  int64 // bytes that it takes
	mixed bool  // it was put together wrongly once: each peer is then asked for the whole
}

// partCost is what a part takes in bytes before it is there.
const partCost = 64

// newGrid starts a grid for a size that is within bounds. The caller holds mu.
func (f *Fetcher) newGrid(size int64) *grid {
	n := int((size + wire.MetadataPieceSize - 1) / wire.MetadataPieceSize)
	g := &grid{size: size, parts: make([][]byte, n), asked: make([]int, n), left: n}
	f.grids[g] = struct{}{}
	f.hold(g, int64(n)*partCost)
	return g
}

// hold charges a grid for n more bytes. When there is no room for them the largest grid has to go, those that nobody
// fills first: an info dictionary is seldom large, and whoever claims so must not shut out the rest. The caller holds mu.
func (f *Fetcher) hold(g *grid, n int64) {
	g.held += n
	f.held += n
	for f.held > maxHeld {
		var worst *grid
		for o := range f.grids {
			if worst == nil || (o.users == 0) != (worst.users == 0) && o.users == 0 ||
				(o.users == 0) == (worst.users == 0) && o.size > worst.size {
				worst = o
			}
		}
		f.drop(worst)
		for c := range f.talks {
			if c.grid == worst {
				_ = c.nc.Close() // it may come again
			}
		}
	}
}

// drop forgets a grid.
func (f *Fetcher) drop(g *grid) {
	if _, there := f.grids[g]; !there {
		return
	}
	f.held -= g.held
	delete(f.grids, g)
	if f.shared[g.size] == g {
		delete(f.shared, g.size)
	}
}

// leave notes that a conversation fills a grid no more. What several put together is kept for those that come later.
func (f *Fetcher) leave(g *grid) {
	if g.users--; g.users == 0 && (f.shared[g.size] != g || g.have() == 0) {
		f.drop(g)
	}
}

func (g *grid) have() (n int64) {
	for _, p := range g.parts {
		n += int64(len(p))
	}
	return n
}

// take picks the part to ask a peer for next that was asked for those in asked: one that the fewest are asked for. ok is
// false when there is none.
func (g *grid) take(asked map[int]bool) (part int, ok bool) {
	part = -1
	for i := range g.parts {
		if g.parts[i] == nil && !asked[i] && (part < 0 || g.asked[i] < g.asked[part]) {
			part = i
		}
	}
	return part, part >= 0
}

// put places a part, and returns the whole when it is complete. The caller holds mu.
func (f *Fetcher) put(g *grid, part int, data []byte) (whole []byte, err error) {
	g.asked[part]--
	want := min(wire.MetadataPieceSize, g.size-int64(part)*wire.MetadataPieceSize)
	if int64(len(data)) != want {
		return nil, errors.New("a piece of metadata of the wrong length")
	}
	if _, there := f.grids[g]; !there || g.parts[part] != nil {
		return nil, nil
	}
	g.parts[part] = append([]byte(nil), data...)
	f.hold(g, want)
	if g.left--; g.left > 0 {
		return nil, nil
	}
	for _, p := range g.parts {
		whole = append(whole, p...)
	}
	return whole, nil
}

package swarm

import (
	"slices"
	"time"

	"torrentfs/fetch/picker"
)

// A reader in order wants the next few pieces. In a swarm where everybody serves those that serve him these are often with
// peers that choke us, while those that serve us have none of them. A reader that is stuck so has more fetched from the
// latter, beyond its window, as far as a window may reach: it comes to that later, and until then it is something to give to
// those that choke us.

const (
	stuckFor   = time.Second            // a reader waits for one piece until that is done
	reachEvery = 100 * time.Millisecond // at most
	reachStep  = 1 << 20                // bytes at a time, or a piece
	kernelLag  = 2 << 20                // bytes before a window where its reader may be stuck: the kernel reads ahead on its own
)

// cursor is a reader in order: its window in pieces, [lo, hi), and what lies beyond and is wanted while it is stuck.
type cursor struct {
	lo, hi int
	far    map[int]bool
}

func (c cursor) holds(piece int) bool {
	return piece >= c.lo && piece < c.hi || c.far[piece]
}

// moved is the cursor with another window. No piece is wanted further than reach from its beginning.
func (c cursor) moved(lo, hi, reach int) cursor {
	next := cursor{lo: lo, hi: hi, far: make(map[int]bool)}
	for piece := range c.far {
		if piece >= hi && piece < lo+reach {
			next.far[piece] = true
		}
	}
	return next
}

// reach wants more for readers that are stuck, and reports whether it did. What peers have to do must be as of now.
func (l *loop) reach() (more bool) {
	d := &l.demand
	if l.now < d.reachAt {
		return false
	}
	d.reachAt, d.stuck = l.now+reachEvery, false
	lag := int(kernelLag/l.cfg.Torrent.PieceLength) + 1
	var late []int // pieces that are waited for, seldom any
	for _, t := range d.targets {
		if t.class == picker.Blocked && l.now-t.deadline >= stuckFor {
			late = append(late, t.index)
		}
	}
	for _, c := range d.cursors {
		if slices.ContainsFunc(late, func(piece int) bool { return piece >= c.lo-lag && piece < c.hi }) { // by its reader
			d.stuck = true
			more = l.further(c) || more
		}
	}
	return more
}

// reachAgain is when to look again for readers that are stuck; 0: there is none.
func (d *demand) reachAgain() time.Duration {
	if d.stuck {
		return d.reachAt
	}
	return 0
}

// further wants the nearest pieces beyond the window of what peers have that serve us and have nothing else to do, each once: a
// store that has let go of one would do so again. It reports whether there were any.
func (l *loop) further(c cursor) (more bool) {
	d := &l.demand
	held := 0
	for _, o := range d.cursors {
		held += len(o.far)
	}
	length := l.cfg.Torrent.PieceLength
	end := min(c.lo+l.reachable(), l.cfg.Torrent.NumPieces())
	for i, left := c.hi, int64(reachStep); i < end && left > 0 && held < l.reachable(); i++ {
		if c.far[i] || d.targets[i] != nil || l.store.Has(i) || !l.members.picker.Spare(i, l.now) {
			continue
		}
		l.target(i).urge(l, picker.Speculative, l.now+due(int64(i-c.lo)*length, assumedRate))
		c.far[i] = true
		held++
		left -= length
		more = true
	}
	return more
}

// reachable is how many pieces ahead of a reader may be wanted.
func (l *loop) reachable() int { return int(l.cfg.ReadAhead / l.cfg.Torrent.PieceLength) }

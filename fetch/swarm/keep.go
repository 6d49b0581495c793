package swarm

import (
	"math/rand/v2"
	"slices"

	"torrentfs/fetch/picker"
)

const (
	keepUnderWay = 16 << 20 // bytes of pieces fetched in the background at once
	keepSample   = 64       // missing pieces among which the rarest is chosen
)

// keeper fetches the whole torrent in the background. Each piece is fetched for it once: a cache too small for the torrent
// would otherwise be filled again and again.
type keeper struct {
	on       bool
	asked    []bool
	order    []int // pieces in the order in which they are looked at, drawn by chance: a swarm wants its members to differ
	underWay int64
}

func newKeeper(cfg Config) keeper {
	k := keeper{on: cfg.Keep && !cfg.Seed}
	if k.on {
		n := cfg.Torrent.NumPieces()
		k.asked, k.order = make([]bool, n), rand.Perm(n)
	}
	return k
}

// keep wants as many more pieces as fit beside those under way. Pieces that nobody has yet wait until somebody does.
func (l *loop) keep() {
	k := &l.keeper
	for k.on && k.underWay < max(keepUnderWay, l.cfg.Torrent.PieceLength) && len(l.members.all) > 0 {
		piece, ok := l.rarest()
		if !ok {
			return
		}
		k.asked[piece] = true
		t := l.target(piece)
		if t.kept = true; len(t.waiters) == 0 && t.class == picker.Background {
			t.urge(l, picker.Background, l.now)
		}
		k.underWay += l.cfg.Torrent.PieceSize(piece)
	}
}

// rarest chooses among some pieces that were not fetched in the background yet the one that the fewest peers have.
func (l *loop) rarest() (piece int, ok bool) {
	k := &l.keeper
	fewest, seen := 0, 0
	kept := k.order[:0]
	for i, candidate := range k.order {
		if seen == keepSample {
			kept = append(kept, k.order[i:]...)
			break
		}
		if k.asked[candidate] || l.store.Has(candidate) {
			continue // for good
		}
		kept = append(kept, candidate)
		seen++
		if n := l.members.picker.Owners(candidate); n > 0 && (!ok || n < fewest) {
			piece, fewest, ok = candidate, n, true
		}
	}
	if k.order = kept; len(kept) > keepSample && !ok {
		// None of these can be had now: look at others the next time.
		k.order = slices.Concat(kept[keepSample:], kept[:keepSample])
	}
	k.on = len(k.order) > 0
	return piece, ok
}

// keptPiece notes that a piece fetched in the background has come.
func (l *loop) keptPiece(t *target) {
	if t.kept {
		l.keeper.underWay -= l.cfg.Torrent.PieceSize(t.index)
	}
}

package swarm

import (
	"math/rand/v2"
	"slices"

	"torrentfs/fetch/picker"
)

const (
	keepUnderWay = 16 << 20 // bytes of pieces fetched in the background at once
	keepSample   = 64       // missing pieces among which the rarest is chosen
	keepReview   = 1 << 16  // pieces looked at in one second for having been lost
)

// persistent is a Store that may keep pieces elsewhere than in memory.
type persistent interface {
	// Persists reports whether it does.
	Persists() bool
	// KeepsUp reports whether a piece added now is likely to be kept. It never blocks.
	KeepsUp() bool
}

// keeper fetches the whole torrent in the background. While a persistent store does not keep up it fetches nothing, since
// pieces would leave memory before they are kept; what is lost all the same, or later, is fetched again. Into any other
// store each piece is fetched once: one too small for the torrent would be filled again and again.
type keeper struct {
	on       bool
	disk     persistent // nil: not that kind of store
	listed   []bool     // by piece: in order, or under way
	order    []int      // pieces to be looked at, drawn by chance: a swarm wants its members to differ
	next     int        // where in order to look next
	reviewed int        // the piece to review next
	underWay int64      // bytes
}

func newKeeper(cfg Config) keeper {
	k := keeper{on: cfg.Keep && !cfg.Seed}
	if k.on {
		n := cfg.Torrent.NumPieces()
		if p, ok := cfg.Store.(persistent); ok && p.Persists() {
			k.disk = p
		}
		k.listed, k.order = slices.Repeat([]bool{true}, n), rand.Perm(n)
	}
	return k
}

// keep wants as many more pieces as fit beside those under way. Pieces that nobody serves yet wait until somebody does.
func (l *loop) keep() {
	k := &l.keeper
	if !k.on || len(l.members.all) == 0 {
		return
	}
	most := max(min(keepUnderWay, l.builds.budget), l.cfg.Torrent.PieceLength)
	for len(k.order) > 0 && k.underWay < most && (k.disk == nil || k.disk.KeepsUp()) {
		piece, ok := l.resumed()
		if !ok {
			piece, ok = l.rarest()
		}
		if !ok {
			return
		}
		t := l.target(piece)
		if t.kept = true; len(t.waiters) == 0 && t.class == picker.Background {
			t.urge(l, picker.Background, l.now)
		}
		k.underWay += l.cfg.Torrent.PieceSize(piece)
	}
}

// resumed takes up again what was handed back with blocks in it, the oldest first.
func (l *loop) resumed() (piece int, ok bool) {
	k := &l.keeper
	for _, t := range l.builds.parked[:min(len(l.builds.parked), keepSample)] {
		if !k.listed[t.index] || l.demand.targets[t.index] != nil || !l.members.picker.Served(t.index) {
			continue
		}
		if at := slices.Index(k.order, t.index); at >= 0 {
			k.remove(at)
			return t.index, true
		}
	}
	return 0, false
}

// rarest takes from some of the listed pieces that are served the one that the fewest peers have. It looks at others each time.
func (l *loop) rarest() (piece int, ok bool) {
	k, p := &l.keeper, l.members.picker
	if !p.Serving() {
		return 0, false
	}
	fewest, at := 0, 0
	for range min(keepSample, len(k.order)) {
		i := k.next % len(k.order)
		candidate := k.order[i]
		if l.store.Has(candidate) {
			k.listed[candidate] = false
			if k.remove(i); at == len(k.order) {
				at = i // where the last one went
			}
			if len(k.order) == 0 {
				break
			}
			continue
		}
		k.next = i + 1
		if p.Served(candidate) {
			if n := p.Owners(candidate); !ok || n < fewest {
				piece, fewest, at, ok = candidate, n, i, true
			}
		}
	}
	if ok {
		k.remove(at)
	}
	return piece, ok
}

// remove takes a piece out of the order, which is of no meaning: the last one takes its place.
func (k *keeper) remove(at int) {
	last := len(k.order) - 1
	k.order[at] = k.order[last]
	k.order = k.order[:last]
}

// keptPiece notes that a piece fetched in the background has come.
func (l *loop) keptPiece(t *target) {
	if t.kept {
		l.keeper.listed[t.index] = false
		l.keeper.underWay -= l.cfg.Torrent.PieceSize(t.index)
	}
}

// handBack gives up for now what is under way in the background alone and can't be had any more, so that it does not take
// the place of what can; false when somebody else wants it too.
func (l *loop) handBack(t *target) bool {
	if !t.kept || len(t.waiters) > 0 || l.demand.covered(t.index) {
		return false
	}
	l.forget(t)
	if t.build != nil {
		l.park(t)
	}
	l.keeper.order = append(l.keeper.order, t.index)
	l.keeper.underWay -= l.cfg.Torrent.PieceSize(t.index)
	return true
}

// review lists again what the store has lost, and hands back what nobody serves any more.
func (l *loop) review() {
	k := &l.keeper
	if !k.on {
		return
	}
	for _, t := range l.demand.targets {
		if t.displaceable() && !l.members.picker.Served(t.index) {
			l.handBack(t)
		}
	}
	if k.disk == nil {
		return
	}
	for range min(keepReview, len(k.listed)) {
		i := k.reviewed
		k.reviewed = (i + 1) % len(k.listed)
		if !k.listed[i] && !l.store.Has(i) {
			k.listed[i] = true
			k.order = append(k.order, i)
		}
	}
}

package swarm

import (
	"slices"
	"time"

	"torrentfs/fetch/picker"
)

// assumedRate is how fast, in bytes a second, a reader is taken to be that takes what it can get; it places the deadlines
// of its read-ahead among those of readers with a pace.
const assumedRate = 32 << 20

// demand is what readers want: for each piece that is missing, who waits for it and by when the others come to it.
type demand struct {
	targets map[int]*target
	cursors map[uint64]cursor
	idle    []*target // targets without a build, the most urgent last once sorted
	sorted  bool
	orphans []*target     // those whose piece no peer has
	reachAt time.Duration // when to look again for readers that are stuck
	stuck   bool          // there were some
}

// target is a piece that somebody wants and that is not in the store.
type target struct {
	index    int
	waiters  []*want
	class    picker.Class
	deadline time.Duration
	kept     bool   // fetched in the background too
	orphan   bool   // among the orphans
	build    *build // nil until there is room for its buffer
}

func newDemand() demand {
	return demand{targets: make(map[int]*target), cursors: make(map[uint64]cursor)}
}

// want takes in a read that misses pieces.
func (l *loop) want(w *want) {
	for _, piece := range w.pieces {
		if data, release, ok := l.store.Get(piece); ok { // it came in the meantime
			w.ready <- delivery{piece, data, release}
			continue
		}
		t := l.target(piece)
		t.waiters = append(t.waiters, w)
		if len(t.waiters) == 1 {
			t.urge(l, picker.Blocked, l.now)
		}
	}
}

// leave forgets a read that gave up. What it wanted keeps its blocks, with a lower priority or none.
func (l *loop) leave(w *want) {
	for _, piece := range w.pieces {
		t := l.demand.targets[piece]
		if t == nil {
			continue
		}
		if i := slices.Index(t.waiters, w); i >= 0 {
			t.waiters = slices.Delete(t.waiters, i, i+1)
			if len(t.waiters) == 0 {
				t.urge(l, picker.Ahead, l.now)
				l.dismiss(t)
			}
		}
	}
	w.drain()
}

// takeAhead takes in what cursors said since the last time.
func (l *loop) takeAhead() {
	a := &l.ahead
	a.mu.Lock()
	if len(a.said) == 0 {
		a.mu.Unlock()
		return
	}
	said := a.said
	a.said = make(map[uint64]window)
	a.mu.Unlock()
	for id, w := range said {
		l.moveCursor(id, w)
	}
}

// moveCursor gives a cursor a new window: pieces that only the old one held are wanted no more.
func (l *loop) moveCursor(id uint64, w window) {
	length := l.cfg.Torrent.PieceLength
	old, next := l.demand.cursors[id], cursor{}
	if w.n > 0 && !l.cfg.Seed {
		next = old.moved(int(w.off/length), int((w.off+w.n+length-1)/length), l.reachable())
		l.demand.cursors[id] = next
	} else {
		delete(l.demand.cursors, id)
	}
	rate := float64(w.rate)
	if rate <= 0 {
		rate = assumedRate
	}
	for i := next.lo; i < next.hi; i++ {
		inOld := i >= old.lo && i < old.hi
		t := l.demand.targets[i]
		if t == nil {
			if inOld || l.store.Has(i) {
				continue
			}
			t = l.target(i)
		}
		at := l.now + due(max(int64(i)*length-w.off, 0), rate)
		if len(t.waiters) == 0 && (t.class != picker.Ahead || at < t.deadline) {
			t.urge(l, picker.Ahead, at)
		}
	}
	for i := old.lo; i < old.hi; i++ {
		if i < next.lo || i >= next.hi {
			l.unwant(i)
		}
	}
	for i := range old.far {
		l.unwant(i)
	}
}

// unwant forgets a piece that a cursor wanted, unless somebody wants it still.
func (l *loop) unwant(piece int) {
	if t := l.demand.targets[piece]; t != nil {
		l.dismiss(t)
	}
}

// due is how long a reader takes to come to what is so many bytes away, at a rate in bytes a second.
func due(distance int64, rate float64) time.Duration {
	return time.Duration(float64(distance) / rate * float64(time.Second))
}

// target is the target of a piece, made if need be.
func (l *loop) target(piece int) *target {
	t := l.demand.targets[piece]
	if t == nil {
		t = &target{index: piece, class: picker.Background}
		l.demand.targets[piece] = t
		l.demand.idle = append(l.demand.idle, t)
		l.demand.sorted = false
	}
	return t
}

// urge gives a target its class and deadline.
func (t *target) urge(l *loop, class picker.Class, deadline time.Duration) {
	t.class, t.deadline = class, deadline
	if t.build == nil {
		l.demand.sorted = false
	} else if !t.build.complete() {
		l.members.picker.Want(t.index, class, deadline)
	}
}

// dismiss forgets a target that nobody wants any more; its build is given up, unless it only waits for its hash.
func (l *loop) dismiss(t *target) {
	if len(t.waiters) > 0 || l.demand.covered(t.index) || t.build != nil && t.build.complete() {
		return
	}
	if t.kept {
		t.urge(l, picker.Background, l.now)
		return
	}
	l.forget(t)
	if t.build != nil {
		l.park(t)
	}
}

// forget takes a target out of the tables.
func (l *loop) forget(t *target) {
	d := &l.demand
	delete(d.targets, t.index)
	d.idle = without(d.idle, t)
	d.orphans = without(d.orphans, t)
}

func without(list []*target, t *target) []*target {
	if i := slices.Index(list, t); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// covered reports whether a cursor wants the piece.
func (d *demand) covered(piece int) bool {
	for _, c := range d.cursors {
		if c.holds(piece) {
			return true
		}
	}
	return false
}

// answer gives a verified piece to those who wait for it and forgets the target.
func (l *loop) answer(t *target) {
	for _, w := range t.waiters {
		if data, release, ok := l.store.Get(t.index); ok {
			w.ready <- delivery{t.index, data, release}
		}
	}
	l.forget(t)
	l.keptPiece(t)
}

package swarm

import (
	"cmp"
	"slices"
	"time"

	"torrentfs/fetch/picker"
)

// The room for pieces under construction is small and many may be wanted. It goes to the most urgent that some peer has.
// A reader that waits displaces read-ahead; and what makes no progress, since whoever claims to have it does not deliver,
// gives way to what waits.

// stuckAfter is for how long a piece may make no progress while others wait for room.
const stuckAfter = 5 * time.Second

// activate gives the most urgent targets their buffers, as far as the budget goes.
func (l *loop) activate() {
	d := &l.demand
	for len(d.idle) > 0 {
		if !d.sorted {
			slices.SortFunc(d.idle, func(a, b *target) int { return -a.compare(b) })
			d.sorted = true
		}
		last := len(d.idle) - 1
		t := d.idle[last]
		switch size := l.cfg.Torrent.PieceSize(t.index); {
		case l.builds.parkedOf(t.index) != nil: // it has its room
		case l.members.picker.Owners(t.index) == 0:
			if l.handBack(t) {
				continue
			}
			d.idle = d.idle[:last]
			d.orphans = append(d.orphans, t)
			t.orphan = true
			continue
		case !l.builds.room(size) && !l.makeRoom(t, size):
			return
		}
		d.idle = without(d.idle, t)
		l.build(t)
	}
}

// adopt notes that a peer has a piece, or with a negative number that it has many.
func (l *loop) adopt(piece int) {
	d := &l.demand
	if len(d.orphans) == 0 {
		return
	}
	if piece >= 0 {
		if t := d.targets[piece]; t == nil || !t.orphan {
			return
		}
	}
	for _, t := range d.orphans {
		t.orphan = false
	}
	d.idle = append(d.idle, d.orphans...)
	d.orphans = d.orphans[:0]
	d.sorted = false
}

func (t *target) compare(o *target) int {
	return cmp.Or(cmp.Compare(t.class, o.class), cmp.Compare(t.deadline, o.deadline), cmp.Compare(t.index, o.index))
}

// makeRoom takes the buffers of less urgent targets away until there is room for t.
func (l *loop) makeRoom(t *target, size int64) bool {
	if l.builds.dropParked(l.store, size); l.builds.room(size) {
		return true
	}
	if t.class != picker.Blocked {
		return false
	}
	for !l.builds.room(size) {
		var least *target
		for _, o := range l.demand.targets {
			if o.displaceable() && len(o.waiters) == 0 && (least == nil || o.compare(least) > 0) {
				least = o
			}
		}
		if least == nil {
			return false
		}
		l.displace(least)
	}
	return true
}

// displaceable reports whether the target's buffer can be taken away: it has one, and not only its hash is missing.
func (t *target) displaceable() bool {
	return t.build != nil && !t.build.complete() && !t.build.hashing
}

// displace takes a target's buffer away; the target stays wanted.
func (l *loop) displace(t *target) {
	l.members.picker.Drop(t.index)
	l.release(t.build)
	t.build = nil
	l.demand.idle = append(l.demand.idle, t)
	l.demand.sorted = false
}

// rotate takes the buffers of targets away that make no progress, when others wait that may.
func (l *loop) rotate() {
	d := &l.demand
	if len(d.idle) == 0 {
		return
	}
	next := slices.MinFunc(d.idle, (*target).compare)
	for _, t := range d.targets {
		if t.displaceable() && l.now-t.build.grown >= stuckAfter && t.class >= next.class {
			t.deadline = l.now // behind those that have waited
			l.displace(t)
		}
	}
}

package picker

import (
	"cmp"
	"slices"
	"time"
)

// swarmSide is the part of package swarm that stands between readers and the picker: targets, cursors, buffers under a
// budget, verification and the search for liars. It follows that package, which has the comments.
type swarmSide struct {
	targets map[int]*simTarget
	cursors map[int]simCursor
	idle    []*simTarget
	parked  []*simBuild
	held    int64
	budget  int64
	store   map[int]bool
	suspect map[int]int
	banned  map[*peerSpec]bool
	honest  int // honest peers that were banned
	swarmMeters
}

// swarmMeters count bytes and messages.
type swarmMeters struct {
	downloaded, stored, verified int64
	requests, cancels            int
}

type simTarget struct {
	index    int
	waiters  []func()
	class    Class
	deadline time.Duration
	build    *simBuild
}

type simCursor struct{ lo, hi int }

type simBuild struct {
	index  int
	left   int
	from   []int // peer that delivered each block; -1 not here
	bad    []bool
	failed *simBuild // the first copy that failed
}

func newSwarmSide(spec swarmSpec) swarmSide {
	budget := spec.inFlight
	if budget == 0 {
		budget = 64 << 20
	}
	return swarmSide{
		targets: make(map[int]*simTarget), cursors: make(map[int]simCursor), store: make(map[int]bool),
		suspect: make(map[int]int), banned: make(map[*peerSpec]bool), budget: max(budget, 2*spec.piece),
	}
}

// want calls done once the piece is here.
func (w *world) want(piece int, done func()) {
	t := w.target(piece)
	t.waiters = append(t.waiters, done)
	if len(t.waiters) == 1 {
		w.urge(t, Blocked, w.now)
	}
}

// ahead gives a cursor its window.
func (w *world) ahead(id int, off, n, rate int64) {
	old, next := w.cursors[id], simCursor{}
	n = min(n, w.spec.size-off)
	if n > 0 {
		next = simCursor{int(off / w.spec.piece), int((off + n + w.spec.piece - 1) / w.spec.piece)}
		w.cursors[id] = next
	} else {
		delete(w.cursors, id)
	}
	for i := next.lo; i < next.hi; i++ {
		inOld := i >= old.lo && i < old.hi
		t := w.targets[i]
		if t == nil {
			if inOld || w.store[i] {
				continue
			}
			t = w.target(i)
		}
		r := float64(rate)
		if r <= 0 {
			r = 32 << 20
		}
		due := w.now + seconds(float64(max(int64(i)*w.spec.piece-off, 0))/r)
		if len(t.waiters) == 0 && (t.class != Ahead || due < t.deadline) {
			w.urge(t, Ahead, due)
		}
	}
	for i := old.lo; i < old.hi; i++ {
		if t := w.targets[i]; t != nil && (i < next.lo || i >= next.hi) {
			w.dismiss(t)
		}
	}
}

func (w *world) target(piece int) *simTarget {
	t := w.targets[piece]
	if t == nil {
		t = &simTarget{index: piece, class: Background}
		w.targets[piece] = t
		w.idle = append(w.idle, t)
	}
	return t
}

func (w *world) urge(t *simTarget, class Class, deadline time.Duration) {
	t.class, t.deadline = class, deadline
	if t.build != nil && t.build.left > 0 {
		w.p.Want(t.index, class, deadline)
	}
}

func (w *world) dismiss(t *simTarget) {
	if len(t.waiters) > 0 || t.build != nil && t.build.left == 0 {
		return
	}
	for _, c := range w.cursors {
		if t.index >= c.lo && t.index < c.hi {
			return
		}
	}
	delete(w.targets, t.index)
	if b := t.build; b != nil {
		w.p.Drop(t.index)
		w.parked = append(w.parked, b)
	} else if i := slices.Index(w.idle, t); i >= 0 {
		w.idle = slices.Delete(w.idle, i, i+1)
	}
}

// activate gives the most urgent targets their buffers.
func (w *world) activate() {
	if len(w.idle) == 0 {
		return
	}
	slices.SortFunc(w.idle, func(a, b *simTarget) int { return -a.compare(b) })
	for len(w.idle) > 0 {
		t := w.idle[len(w.idle)-1]
		size := w.p.pieceSize(t.index)
		if !w.room(size) && !w.makeRoom(t, size) {
			return
		}
		w.idle = w.idle[:len(w.idle)-1]
		w.build(t)
	}
}

func (t *simTarget) compare(o *simTarget) int {
	return cmp.Or(cmp.Compare(t.class, o.class), cmp.Compare(t.deadline, o.deadline), cmp.Compare(t.index, o.index))
}

func (w *world) room(size int64) bool { return w.held == 0 || w.held+size <= w.budget }

func (w *world) makeRoom(t *simTarget, size int64) bool {
	for _, b := range w.parked {
		w.held -= w.p.pieceSize(b.index)
	}
	w.parked = nil
	for !w.room(size) {
		var least *simTarget
		for _, o := range w.targets {
			if o.build != nil && len(o.waiters) == 0 && o.build.left > 0 && (least == nil || o.compare(least) > 0) {
				least = o
			}
		}
		if t.class != Blocked || least == nil {
			return false
		}
		w.p.Drop(least.index)
		w.held -= w.p.pieceSize(least.index)
		least.build = nil
		w.idle = append([]*simTarget{least}, w.idle...)
	}
	return true
}

func (w *world) build(t *simTarget) {
	if i := slices.IndexFunc(w.parked, func(b *simBuild) bool { return b.index == t.index }); i >= 0 {
		t.build = w.parked[i]
		w.parked = slices.Delete(w.parked, i, i+1)
	} else {
		n := int((w.p.pieceSize(t.index) + BlockSize - 1) / BlockSize)
		t.build = &simBuild{index: t.index, left: n, from: make([]int, n), bad: make([]bool, n)}
		for i := range t.build.from {
			t.build.from[i] = -1
		}
		w.held += w.p.pieceSize(t.index)
	}
	if t.build.left == 0 {
		return
	}
	w.p.Want(t.index, t.class, t.deadline)
	for i, from := range t.build.from {
		if from >= 0 {
			w.p.Have(t.index, i)
		}
	}
}

// block takes in a block that has arrived.
func (w *world) block(s *simPeer, r Request, bad bool) {
	if w.peers[s.id] == nil {
		return
	}
	b, i := s.pending[r], int(r.Begin/BlockSize)
	delete(s.pending, r)
	stored := b != nil && b.from[i] < 0 && w.alive(b)
	w.downloaded += r.Length
	w.p.Received(s.id, r.Piece, r.Begin, r.Length, stored, w.now)
	if !stored {
		return
	}
	w.stored += r.Length
	b.from[i], b.bad[i] = s.id, bad
	if b.left--; b.left == 0 {
		w.after(hashTime, func() { w.hashed(b) })
	}
}

// alive reports whether a build's buffer may still be written.
func (w *world) alive(b *simBuild) bool {
	t := w.targets[b.index]
	return t != nil && t.build == b || slices.Contains(w.parked, b)
}

// hashed takes in the end of a piece's verification.
func (w *world) hashed(b *simBuild) {
	w.held -= w.p.pieceSize(b.index)
	w.parked = slices.DeleteFunc(w.parked, func(o *simBuild) bool { return o == b })
	t := w.targets[b.index]
	if slices.Contains(b.bad, true) {
		w.refuse(t, b)
		return
	}
	if f := b.failed; f != nil {
		for _, id := range f.senders() {
			w.suspect[id]--
			for i := range f.from {
				if f.from[i] == id && f.bad[i] {
					w.ban(id)
					break
				}
			}
		}
	}
	w.store[b.index] = true
	w.verified += w.p.pieceSize(b.index)
	w.p.Delivered(w.p.pieceSize(b.index))
	if t != nil {
		delete(w.targets, b.index)
		for _, done := range t.waiters {
			done()
		}
	}
}

func (b *simBuild) senders() []int {
	ids := slices.Clone(b.from)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// refuse has a wrong piece fetched again.
func (w *world) refuse(t *simTarget, b *simBuild) {
	ids := b.senders()
	if len(ids) == 1 {
		w.ban(ids[0])
	}
	for _, id := range ids {
		w.suspect[id]++
	}
	if t == nil {
		return
	}
	t.build = nil
	w.build(t)
	if t.build.failed = b.failed; b.failed == nil {
		t.build.failed = b
	}
	w.p.Sole(t.index, func(id int) bool { return w.suspect[id] > 1 })
}

func (w *world) ban(id int) {
	if s := w.peers[id]; s != nil {
		if s.spec.lies == 0 {
			w.honest++
		}
		w.banned[s.spec] = true
		w.part(s)
	}
}

// part forgets a peer.
func (w *world) part(s *simPeer) {
	if w.peers[s.id] != nil {
		delete(w.peers, s.id)
		w.p.RemovePeer(s.id)
		s.gone = true
		s.able()
	}
}

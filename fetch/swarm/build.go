package swarm

import (
	"crypto/sha1"
	"hash"
	"slices"
	"sync"
	"time"

	"torrentfs/fetch/picker"
)

// builds is the account of pieces under construction, in bytes of their buffers.
type builds struct {
	budget int64
	held   int64
	parked []*target // given up with blocks in them, oldest first: readers often come back
	queue  []*build  // with something to hash
	busy   int       // hash workers at work
}

func newBuilds(cfg Config) builds {
	return builds{budget: max(cfg.InFlight, 2*cfg.Torrent.PieceLength)}
}

func (b *builds) room(size int64) bool { return b.held == 0 || b.held+size <= b.budget }

// build is a piece under construction. The loop owns it, but for the buffer, into which connections put blocks.
type build struct {
	index   int
	target  *target
	asm     *assembly
	blocks  int   // how many the piece has
	left    int   // not here yet
	prefix  int64 // bytes from the piece's start that are here
	hashed  int64 // of these, hashed
	hashing bool  // a worker has it
	claimed bool  // peers were told that we are fetching it
	sum     hash.Hash
	from    []*member     // who delivered each block
	grown   time.Duration // when a block came last, or it was begun
}

func (b *build) complete() bool { return b.left == 0 }

// assembly is the buffer of a piece under construction, and the gate before it: a block is put into its place once, and
// never after the buffer was verified, given up or given back. It is a leaf: connections' readers call Put at any time.
type assembly struct {
	build *build // whose it is

	mu   sync.Mutex
	buf  []byte
	here []bool
	shut bool
}

// Put implements peer.Sink.
func (a *assembly) Put(begin uint32, block []byte) bool {
	i := int(begin / picker.BlockSize)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shut || i >= len(a.here) || a.here[i] || begin%picker.BlockSize != 0 || int(begin)+len(block) > len(a.buf) {
		return false
	}
	a.here[i] = true
	copy(a.buf[begin:], block)
	return true
}

// reopen lets a block be put once more.
func (a *assembly) reopen(block int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.here[block] = false
}

// close ends all writing and returns the buffer.
func (a *assembly) close() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	buf := a.buf
	a.shut, a.buf = true, nil
	return buf
}

// build starts, or takes up again, the construction of a target's piece.
func (l *loop) build(t *target) {
	b := l.builds.unpark(t.index)
	if b == nil {
		size := l.cfg.Torrent.PieceSize(t.index)
		n := int((size + picker.BlockSize - 1) / picker.BlockSize)
		b = &build{
			index:  t.index,
			asm:    &assembly{buf: l.store.Alloc(t.index), here: make([]bool, n)},
			blocks: n, left: n, sum: sha1.New(), from: make([]*member, n),
		}
		b.asm.build = b
		l.builds.held += size
	}
	b.target, t.build, b.grown = t, b, l.now
	if !b.complete() { // otherwise its hash is on the way
		l.plan(b)
	}
}

// plan has the picker ask for the blocks that a build lacks.
func (l *loop) plan(b *build) {
	p := l.members.picker
	p.Want(b.index, b.target.class, b.target.deadline)
	for i, m := range b.from {
		if m != nil {
			p.Have(b.index, i)
		}
	}
}

// retract takes blocks out of a complete build that is not being hashed, to be fetched anew.
func (l *loop) retract(b *build, doubtful []bool) {
	size := l.cfg.Torrent.PieceSize(b.index)
	for i, yes := range doubtful {
		if yes {
			b.asm.reopen(i)
			b.from[i] = nil
			b.left++
			l.meters.wasted += min(picker.BlockSize, size-int64(i)*picker.BlockSize)
		}
	}
	b.prefix, b.hashed = 0, 0
	b.sum.Reset()
	l.grow(b)
	l.plan(b)
}

// park sets a half-built piece aside that nobody wants now; an empty one is given up.
func (l *loop) park(t *target) {
	l.members.picker.Drop(t.index)
	if t.build.left == t.build.blocks && !t.build.hashing {
		l.release(t.build)
		t.build = nil
		return
	}
	l.builds.parked = append(l.builds.parked, t)
}

// unpark takes a parked piece's build back.
func (b *builds) unpark(index int) *build {
	for i, t := range b.parked {
		if t.index == index {
			b.parked = append(b.parked[:i], b.parked[i+1:]...)
			return t.build
		}
	}
	return nil
}

// parkedOf is what is parked of a piece, nil if nothing is.
func (b *builds) parkedOf(index int) *build {
	for _, t := range b.parked {
		if t.index == index {
			return t.build
		}
	}
	return nil
}

// dropParked gives up what is set aside, the oldest first, until there is room; not what a worker is hashing.
func (b *builds) dropParked(store Store, size int64) {
	b.parked = slices.DeleteFunc(b.parked, func(t *target) bool {
		if b.room(size) || t.build.hashing {
			return false
		}
		b.free(store, t.build)
		return true
	})
}

// discard gives back every buffer. All goroutines of the swarm have ended.
func (l *loop) discard() {
	for _, t := range l.demand.targets {
		if t.build != nil {
			l.release(t.build)
		}
	}
	for _, t := range l.builds.parked {
		l.release(t.build)
	}
}

func (l *loop) release(b *build) { l.builds.free(l.store, b) }

// free gives a build's buffer back to the store.
func (b *builds) free(store Store, x *build) {
	buf := x.asm.close()
	b.held -= int64(len(buf))
	store.Free(x.index, buf)
}

// arrived notes a block that a connection has put into an assembly; false when that was given up in the meantime.
func (l *loop) arrived(m *member, a *assembly, begin int64) bool {
	if a.shut { // the loop alone shuts it
		return false
	}
	b := a.build
	b.from[begin/picker.BlockSize] = m
	b.left--
	b.grown = l.now
	l.grow(b)
	return true
}

// grow brings the length of a build's beginning up to date.
func (l *loop) grow(b *build) {
	for at := int(b.prefix / picker.BlockSize); at < b.blocks && b.from[at] != nil; at++ {
		b.prefix = min(int64(at+1)*picker.BlockSize, l.cfg.Torrent.PieceSize(b.index))
	}
}

// hashStep is how many bytes of a piece's beginning are hashed in one go while the rest is on its way.
const hashStep = 256 << 10

// hashJob is a run of a piece's bytes to be hashed after those before it.
type hashJob struct {
	build *build
	data  []byte
	piece []byte // all of it, for the last run; nil for others
	again bool   // it failed before
}

// hashResult is a job done. Of a piece's last it says whether the piece is what the torrent says and, if it is wrong now or
// was before, the hash of each block, by which the liar is found.
type hashResult struct {
	build *build
	n     int64
	last  bool
	ok    bool
	sums  [][sha1.Size]byte
}

// feed queues a build whose beginning is worth hashing.
func (l *loop) feed(b *build) {
	if b.hashing || !(b.complete() && b.prefix > b.hashed) && b.prefix-b.hashed < hashStep {
		return
	}
	if b.complete() && l.purge(b) {
		return
	}
	b.hashing = true
	if b.target.class == picker.Blocked {
		l.builds.queue = append([]*build{b}, l.builds.queue...)
	} else {
		l.builds.queue = append(l.builds.queue, b)
	}
	l.dispatch()
}

// dispatch gives queued builds to free workers. The channel has room for one job per worker, so it never blocks.
func (l *loop) dispatch() {
	for len(l.builds.queue) > 0 && l.builds.busy < hashers() {
		b := l.builds.queue[0]
		l.builds.queue = append(l.builds.queue[:0], l.builds.queue[1:]...)
		l.builds.busy++
		j := hashJob{build: b, data: b.asm.buf[b.hashed:b.prefix]}
		if b.complete() {
			j.piece, j.again = b.asm.buf, l.trust.inquiries[b.index] != nil
		}
		l.hashes <- j
	}
}

// hash is a hash worker.
func (s *Swarm) hash() {
	for j := range s.hashes {
		j.build.sum.Write(j.data)
		r := hashResult{build: j.build, n: int64(len(j.data)), last: j.piece != nil}
		if r.last {
			var sum [sha1.Size]byte
			j.build.sum.Sum(sum[:0])
			r.ok = sum == s.cfg.Torrent.Pieces[j.build.index]
			if !r.ok || j.again {
				r.sums = blockSums(j.piece)
			}
		}
		select {
		case s.hashed <- r:
		case <-s.done:
			return
		}
	}
}

// verified takes a worker's result in.
func (l *loop) verified(r hashResult) {
	b := r.build
	l.builds.busy--
	b.hashing = false
	b.hashed += r.n
	switch {
	case !r.last:
		l.feed(b)
	case r.ok:
		l.accept(b, r.sums)
	default:
		l.refuse(b, r.sums)
	}
	l.dispatch()
}

// accept hands a verified piece to the store and to those who wait for it.
func (l *loop) accept(b *build, sums [][sha1.Size]byte) {
	index := b.index
	l.builds.unpark(index)
	buf := b.asm.close()
	l.builds.held -= int64(len(buf))
	l.clear(b, sums)
	release := l.store.Add(index, buf)
	if t := l.demand.targets[index]; t != nil {
		l.answer(t)
	}
	release()
	l.meters.verified += int64(len(buf))
	l.members.picker.Delivered(int64(len(buf)))
	l.fetched(index)
}

package swarm

import (
	"crypto/sha1"
	"slices"
	"time"

	"torrentfs/fetch/picker"
)

// A piece that failed its hash is repaired: blocks in doubt are fetched again, ever more of them, until it passes.
//
//	failed once    doubtful are the blocks of peers that are not believed; they are fetched from those that are
//	failed again   doubtful are the blocks on whose copies no majority agrees, or does with another than the last; likewise
//	and again      the same, from peers that had no part in it yet: those who agreed may be liars
//	and again      all blocks, from one peer alone, whom another failure convicts
//	and again      as the two before that, and so on
//
// If nothing is in doubt by that, everything is. If nobody is believed, as at the beginning, those that had no part in it
// deliver, so that each block has two senders. But a reader waits: if they are too few to do it soon, a few blocks are fetched
// from one peer and many from all at once, and a jury that takes too long is dismissed.

// repair is who delivers what a piece lacks.
type repair struct {
	jury   bool          // not everybody does,
	sole   *member       // but one peer alone, or several if this is nil
	since  time.Duration // since then
	lacked int           // blocks then
}

const (
	fewBlocks  = 16 // are fetched from one peer alone, and so are all when there are
	fewServers = 3  // as many peers

	jurySoon  = 500 * time.Millisecond // a jury may take as long,
	jurySlack = 4                      // or as many times as long as all peers would
)

// refuse takes in that a piece failed its hash.
func (l *loop) refuse(b *build, sums [][sha1.Size]byte) {
	l.meters.failed++
	q := l.trust.note(b.index, evidence{slices.Clone(b.from), sums})
	if senders := distinct(b.from); len(senders) == 1 {
		l.ban(senders[0], "sent a piece that failed its hash")
	}
	t := l.demand.targets[b.index]
	if t == nil || t.build != b {
		l.builds.unpark(b.index)
		l.meters.wasted += l.cfg.Torrent.PieceSize(b.index)
		l.release(b)
		return
	}
	doubtful, n := q.doubtful(b)
	l.retract(b, doubtful)
	l.appoint(b, q, n)
}

// doubtful marks the blocks of a piece that are to be fetched again and counts them.
func (q *inquiry) doubtful(b *build) (marked []bool, n int) {
	if marked, n = b.blocksOf(func(m *member) bool { return m.record.banned }); n > 0 {
		return marked, n
	}
	switch {
	case q.failed == 1:
		marked, n = b.blocksOf(func(m *member) bool { return !m.record.believed() })
	case !q.all():
		marked, n = q.unsettled(b.blocks)
	}
	if n == 0 {
		for i := range marked {
			marked[i] = true
		}
		n = len(marked)
	}
	return marked, n
}

// all reports whether it is time to fetch all of the piece from one peer.
func (q *inquiry) all() bool { return q.failed >= 4 && q.failed%2 == 0 }

// unsettled marks the blocks on which no majority agrees, or does with another than the last one.
func (q *inquiry) unsettled(blocks int) (marked []bool, n int) {
	marked = make([]bool, blocks)
	last := q.copies[len(q.copies)-1]
	for i := range marked {
		if votes := q.votes(i); !settled(votes) || votes[0].sum != last.sums[i] {
			marked[i] = true
			n++
		}
	}
	return marked, n
}

// purge takes the blocks of banned peers out of a complete build; it reports whether there were any.
func (l *loop) purge(b *build) bool {
	if t := l.demand.targets[b.index]; t == nil || t.build != b {
		return false // nobody waits for it: its hash may say
	}
	doubtful, n := b.blocksOf(func(m *member) bool { return m.record.banned })
	if n == 0 {
		return false
	}
	l.retract(b, doubtful)
	if q := l.trust.inquiries[b.index]; q != nil {
		l.appoint(b, q, n)
	}
	return true
}

// blocksOf marks the blocks of certain senders and counts them.
func (b *build) blocksOf(whose func(m *member) bool) (marked []bool, n int) {
	marked = make([]bool, b.blocks)
	for i, m := range b.from {
		if m != nil && whose(m) {
			marked[i] = true
			n++
		}
	}
	return marked, n
}

// servers is the number of peers that serve us.
func (l *loop) servers() (n int) {
	for _, m := range l.members.all {
		if !m.choking {
			n++
		}
	}
	return n
}

// appoint chooses who delivers the n blocks that a piece lacks.
func (l *loop) appoint(b *build, q *inquiry, n int) {
	q.repair = repair{since: l.now, lacked: b.left}
	if q.all() || l.servers() <= fewServers {
		l.appointOne(b, q)
		return
	}
	involved := q.involved()
	juries := []func(m *member) bool{
		func(m *member) bool { return m.record.believed() },
		func(m *member) bool { return !involved[m] && !m.record.doubted() },
	}
	if q.failed > 2 {
		slices.Reverse(juries)
	}
	for _, fit := range juries {
		takes, all := l.members.picker.Jury(b.index, func(id int) bool {
			m := l.members.byID[id]
			return m != nil && fit(m)
		})
		if q.jury = takes > 0 && takes <= max(jurySoon, jurySlack*all); q.jury {
			return
		}
	}
	if l.members.picker.Open(b.index); n <= fewBlocks {
		l.appointOne(b, q)
	}
}

// involved are those who had a part in what was wrong.
func (q *inquiry) involved() map[*member]bool {
	involved := make(map[*member]bool)
	for _, m := range q.senders() {
		involved[m] = true
	}
	return involved
}

// appointOne has one peer alone deliver: one that has proved itself if there is any, otherwise one that had no part in what
// was wrong; and not the same for all pieces.
func (l *loop) appointOne(b *build, q *inquiry) {
	busy := make(map[*member]bool)
	for _, o := range l.trust.inquiries {
		busy[o.sole] = true
	}
	involved := q.involved()
	for _, fit := range []func(m *member) bool{
		func(m *member) bool { return m.record.proven() && !busy[m] },
		func(m *member) bool { return m.record.proven() },
		func(m *member) bool { return m.downloaded > 0 && !involved[m] && !busy[m] },
		func(m *member) bool { return m.downloaded > 0 && !busy[m] },
		func(*member) bool { return true },
	} {
		id, ok := l.members.picker.Sole(b.index, func(id int) bool {
			m := l.members.byID[id]
			return m == nil || m.record.banned || !fit(m)
		})
		if ok {
			q.jury, q.sole = true, l.members.byID[id]
			return
		}
	}
}

const (
	juryStart = time.Second     // within which those who deliver a repair must have begun
	juryEnd   = 8 * time.Second // within which they must be expected to end, when a reader waits
)

// hasten opens pieces to all peers whose jury takes too long.
func (l *loop) hasten() {
	for index, q := range l.trust.inquiries {
		t := l.demand.targets[index]
		if !q.jury || t == nil || t.build == nil || l.now-q.since < juryStart {
			continue
		}
		b := t.build
		done := q.lacked - b.left
		rest := (l.now - q.since) / time.Duration(max(done, 1)) * time.Duration(b.left)
		if done == 0 || t.class == picker.Blocked && rest > juryEnd {
			l.members.picker.Open(index)
			q.repair = repair{}
		}
	}
}

package swarm

import (
	"crypto/sha1"
	"slices"
	"time"

	"torrentfs/fetch/picker"
)

// A hash covers a piece, and a piece comes from many peers: one that fails its hash says that somebody lied, not who. So
// the wrong copy's blocks are remembered, each by its hash and its sender, and the piece is repaired: blocks in doubt are
// fetched again, ever more of them, until it passes. The blocks that differ from the right ones then convict their
// senders, and nobody else is blamed.
//
//	failed once    doubtful are the blocks of peers that have not proved themselves; if that says nothing, all
//	failed again   doubtful are the blocks of which no two peers have sent the same
//	and again      all, from one peer alone, whom another failure convicts
//	and again      as before that, and so on
//
// A few doubtful blocks are fetched from one peer that has proved itself, many from all peers at once: with pieces of
// 16 MiB a reader would wait a minute for a single one. A single one that takes too long is alone no more.

// record is what is known of a peer's honesty.
type record struct {
	passed    int // pieces that it had a part in and that passed their hash
	counted   int // the last of them, plus one
	suspicion int // copies under inquiry that it had a part in
	banned    bool
}

// proven reports whether the peer's word is good until the contrary is shown.
func (r *record) proven() bool { return !r.banned && r.passed >= 4 && r.passed > r.suspicion }

// trust is the account of the pieces that failed their hash.
type trust struct {
	inquiries map[int]*inquiry
	order     []int // pieces, the oldest inquiry first
	blocks    int   // kept in all
}

const (
	// maxEvidence bounds the blocks whose hashes are kept. Inquiries beyond it are dropped without a verdict.
	maxEvidence = 1 << 17
	maxCopies   = 6 // of one piece
)

// inquiry is about one piece.
type inquiry struct {
	copies []evidence
	failed int           // times
	sole   *member       // who alone delivers now
	since  time.Duration // since then
	lacked int           // blocks then
}

// evidence is what a wrong copy of a piece was made of.
type evidence struct {
	from []*member
	sums [][sha1.Size]byte
}

func newTrust() trust { return trust{inquiries: make(map[int]*inquiry)} }

// note adds a wrong copy of a piece.
func (t *trust) note(index int, e evidence) *inquiry {
	q := t.inquiries[index]
	if q == nil {
		q = &inquiry{}
		t.inquiries[index] = q
		t.order = append(t.order, index)
	}
	q.failed++
	q.copies = append(q.copies, e)
	t.blocks += len(e.sums)
	for _, m := range distinct(e.from) {
		m.record.suspicion++
	}
	if len(q.copies) > maxCopies {
		t.discard(q.copies[0])
		q.copies = slices.Delete(q.copies, 0, 1)
	}
	for t.blocks > maxEvidence && t.order[0] != index {
		t.drop(t.order[0])
	}
	return q
}

// drop ends an inquiry.
func (t *trust) drop(index int) {
	for _, e := range t.inquiries[index].copies {
		t.discard(e)
	}
	delete(t.inquiries, index)
	i := slices.Index(t.order, index)
	t.order = slices.Delete(t.order, i, i+1)
}

func (t *trust) discard(e evidence) {
	t.blocks -= len(e.sums)
	for _, m := range distinct(e.from) {
		m.record.suspicion--
	}
}

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
	q.sole = nil
	if q.all() || n <= fewBlocks || l.servers() <= fewServers {
		l.appoint(b, q)
	}
}

const (
	fewBlocks  = 16 // are fetched from one peer alone, and so are all when there are
	fewServers = 3  // as many peers
)

// all reports whether it is time to fetch all of the piece from one peer.
func (q *inquiry) all() bool { return q.failed >= 3 && q.failed%2 == 1 }

// servers is the number of peers that serve us.
func (l *loop) servers() (n int) {
	for _, m := range l.members.all {
		if !m.choking {
			n++
		}
	}
	return n
}

// purge takes the blocks of banned peers out of a complete build; it reports whether there were any.
func (l *loop) purge(b *build) bool {
	if t := l.demand.targets[b.index]; t == nil || t.build != b {
		return false // nobody waits for it: its hash may say
	}
	doubtful, n := b.blocksOf(func(m *member) bool { return m.record.banned })
	if n > 0 {
		l.retract(b, doubtful)
	}
	return n > 0
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

// doubtful marks the blocks of a piece that are to be fetched again and counts them.
func (q *inquiry) doubtful(b *build) (marked []bool, n int) {
	if marked, n = b.blocksOf(func(m *member) bool { return m.record.banned }); n > 0 {
		return marked, n
	}
	switch {
	case q.failed == 1:
		marked, n = b.blocksOf(func(m *member) bool { return !m.record.proven() })
	case !q.all():
		marked, n = q.disputed(b.blocks)
	}
	if n == 0 {
		for i := range marked {
			marked[i] = true
		}
		n = len(marked)
	}
	return marked, n
}

// disputed marks the blocks of which no two peers have sent the same.
func (q *inquiry) disputed(blocks int) (marked []bool, n int) {
	marked = make([]bool, blocks)
	for i := range marked {
		if !q.vouched(i) {
			marked[i] = true
			n++
		}
	}
	return marked, n
}

func (q *inquiry) vouched(block int) bool {
	for i, a := range q.copies {
		for _, b := range q.copies[i+1:] {
			if a.from[block] != b.from[block] && a.sums[block] == b.sums[block] {
				return true
			}
		}
	}
	return false
}

// appoint has one peer alone deliver what a piece lacks: one that has proved itself if there is any, otherwise one that
// had no part in what was wrong; and not the same for all pieces.
func (l *loop) appoint(b *build, q *inquiry) {
	busy := make(map[*member]bool)
	for _, o := range l.trust.inquiries {
		busy[o.sole] = true
	}
	involved := make(map[*member]bool)
	for _, e := range q.copies {
		for _, m := range e.from {
			involved[m] = true
		}
	}
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
			q.sole, q.since, q.lacked = l.members.byID[id], l.now, b.left
			return
		}
	}
}

const (
	soleStart = time.Second     // within which a peer that delivers alone must have begun
	soleEnd   = 8 * time.Second // within which it must be expected to end, when a reader waits
)

// hasten opens pieces to all peers whose single one takes too long.
func (l *loop) hasten() {
	for index, q := range l.trust.inquiries {
		t := l.demand.targets[index]
		if q.sole == nil || t == nil || t.build == nil || l.now-q.since < soleStart {
			continue
		}
		b := t.build
		done := q.lacked - b.left
		rest := (l.now - q.since) / time.Duration(max(done, 1)) * time.Duration(b.left)
		if done == 0 || t.class == picker.Blocked && rest > soleEnd {
			l.members.picker.Sole(index, func(int) bool { return true })
			q.sole = nil
		}
	}
}

// distinct lists the members among from, each once.
func distinct(from []*member) (all []*member) {
	seen := make(map[*member]bool)
	for _, m := range from {
		if m != nil && !seen[m] {
			seen[m] = true
			all = append(all, m)
		}
	}
	return all
}

// blockSums hashes each block of a piece.
func blockSums(piece []byte) (sums [][sha1.Size]byte) {
	for b := range slices.Chunk(piece, picker.BlockSize) {
		sums = append(sums, sha1.Sum(b))
	}
	return sums
}

// clear takes in that a piece passed its hash, to the credit of those who sent it. If it was wrong before, those whose
// blocks differed from the right ones are banned.
func (l *loop) clear(b *build, right [][sha1.Size]byte) {
	for _, m := range b.from {
		if m.record.counted != b.index+1 {
			m.record.counted = b.index + 1
			m.record.passed++
		}
	}
	q := l.trust.inquiries[b.index]
	if q == nil {
		return
	}
	for _, e := range q.copies {
		for i, m := range e.from {
			if len(right) > 0 && right[i] != e.sums[i] {
				l.ban(m, "sent a block that was wrong")
			}
		}
	}
	l.trust.drop(b.index)
}

// ban shuts a peer out. What it sent and was not verified yet is fetched again.
func (l *loop) ban(m *member, why string) {
	if m.record.banned {
		return
	}
	m.record.banned = true
	l.cfg.Logger.Warn("peer banned", "peer", m.addr, "reason", why)
	l.meters.banned++
	l.pool.bans.add(m.addr, m.conn.ID(), m.conn.Incoming())
	m.conn.Close()
	if !l.pool.bans.home(m.addr.Addr()) {
		return
	}
	for _, o := range l.members.all { // neighbours
		if l.pool.bans.home(o.addr.Addr()) && !o.record.proven() {
			o.conn.Close()
		}
	}
}

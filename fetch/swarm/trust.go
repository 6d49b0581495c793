package swarm

import (
	"crypto/sha1"
	"slices"

	"torrentfs/fetch/picker"
)

// A hash covers a piece, and a piece comes from many peers: one that fails its hash says that somebody lied, not who. So
// the wrong copy's blocks are remembered, each by its hash and its sender, and the piece is repaired (repair.go) until it
// passes. The blocks that differ from the right ones then convict their senders, and nobody else is blamed.
//
// Until then the copies of a block speak for and against their senders: of two peers that sent the same neither is likely to
// have lied, of two that sent different blocks one has. That bans nobody, since liars can agree too; but whom others bear
// out is believed, and delivers the repairs of this piece and others.

// record is what is known of a peer's honesty.
type record struct {
	passed    int // pieces that it had a part in and that passed their hash
	counted   int // the last of them, plus one
	cleared   int // inquiries that found nothing wrong of its
	suspicion int // copies under inquiry that it had a part in
	opinion       // of all inquiries together
	banned    bool
}

// proven reports whether the peer's word is good until the contrary is shown.
func (r *record) proven() bool { return !r.banned && r.passed >= 4 && r.passed > r.suspicion }

// doubted reports whether others speak against the peer more than anything speaks for it.
func (r *record) doubted() bool {
	return r.banned || r.outvoted > 0 || r.disputed > r.vouched+r.cleared+r.passed
}

// believed reports whether the peer's word is good for a repair.
func (r *record) believed() bool {
	return !r.doubted() && (r.proven() || r.cleared+r.vouched > 0)
}

// opinion is what the copies of blocks say about a peer that sent one of them, counted in blocks.
type opinion struct {
	vouched  int // another peer sent the same, and no more others sent something else
	disputed int // each peer sent something else
	outvoted int // more others agree on something else
}

func (o *opinion) add(x opinion, n int) {
	o.vouched += n * x.vouched
	o.disputed += n * x.disputed
	o.outvoted += n * x.outvoted
}

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
	copies   []evidence
	opinions map[*member]opinion // of their senders
	failed   int                 // times
	repair
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
	if len(q.copies) > 1 {
		q.weigh()
	}
	for t.blocks > maxEvidence && t.order[0] != index {
		t.drop(t.order[0])
	}
	return q
}

// drop ends an inquiry.
func (t *trust) drop(index int) {
	q := t.inquiries[index]
	for _, e := range q.copies {
		t.discard(e)
	}
	q.express(nil)
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

// weigh forms the opinions anew.
func (q *inquiry) weigh() {
	opinions := make(map[*member]opinion)
	for i := range q.copies[0].sums {
		votes := q.votes(i)
		if len(votes) == 0 || len(votes) == 1 && len(votes[0].by) == 1 {
			continue
		}
		for k, v := range votes {
			o := opinion{disputed: 1}
			if settled(votes) {
				o = opinion{outvoted: 1}
				if k == 0 {
					o = opinion{vouched: 1}
				}
			}
			for _, m := range v.by {
				sum := opinions[m]
				sum.add(o, 1)
				opinions[m] = sum
			}
		}
	}
	q.express(opinions)
}

// express makes the opinions known to those that they are about, in place of the ones before.
func (q *inquiry) express(opinions map[*member]opinion) {
	for m, o := range q.opinions {
		m.record.add(o, -1)
	}
	q.opinions = opinions
	for m, o := range q.opinions {
		m.record.add(o, +1)
	}
}

// vote is a block as some peers sent it.
type vote struct {
	sum [sha1.Size]byte
	by  []*member
}

// votes are the different copies of a block, the one that most peers sent first. Those of banned peers don't count.
func (q *inquiry) votes(block int) (votes []vote) {
	for _, e := range q.copies {
		sum, from := e.sums[block], e.from[block]
		if from.record.banned {
			continue
		}
		i := slices.IndexFunc(votes, func(v vote) bool { return v.sum == sum })
		if i < 0 {
			votes = append(votes, vote{sum: sum, by: []*member{from}})
		} else if !slices.Contains(votes[i].by, from) {
			votes[i].by = append(votes[i].by, from)
		}
	}
	slices.SortStableFunc(votes, func(a, b vote) int { return len(b.by) - len(a.by) })
	return votes
}

// settled reports whether the first of a block's votes is likely to be right: several peers sent the same, more than sent
// anything else.
func settled(votes []vote) bool {
	return len(votes) > 0 && len(votes[0].by) > 1 && (len(votes) == 1 || len(votes[1].by) < len(votes[0].by))
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
	if len(right) > 0 {
		for _, e := range q.copies {
			for i, m := range e.from {
				if right[i] != e.sums[i] {
					l.ban(m, "sent a block that was wrong")
				}
			}
		}
		for _, m := range q.senders() {
			m.record.cleared++ // of those who are banned it does not matter
		}
	}
	l.trust.drop(b.index)
}

// senders lists those who had a part in the copies.
func (q *inquiry) senders() []*member {
	var all []*member
	for _, e := range q.copies {
		all = append(all, e.from...)
	}
	return distinct(all)
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

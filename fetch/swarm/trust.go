package swarm

import (
	"crypto/sha1"
	"slices"

	"torrentfs/fetch/picker"
)

// failure is what is kept of a copy of a piece that failed its hash: who sent each block and the block's own hash, so
// that once the piece is right, whoever sent something else is known.
type failure struct {
	from []*member
	sums [][sha1.Size]byte
}

// refuse takes in that a piece failed its hash. It is fetched again from a single peer, so that a second failure has one
// culprit, and a success shows who lied the first time.
func (l *loop) refuse(b *build, sums [][sha1.Size]byte) {
	index := b.index
	l.meters.failed++
	size := l.cfg.Torrent.PieceSize(index)
	l.meters.wasted += size
	senders := distinct(b.from)
	if len(senders) == 1 {
		l.ban(senders[0], "sent a piece that failed its hash")
	}
	for _, m := range senders {
		m.suspicion++
	}
	buf := b.asm.close()
	l.builds.held -= int64(len(buf))
	l.store.Free(index, buf)
	l.builds.unpark(index)
	t := l.demand.targets[index]
	if t == nil {
		return
	}
	t.build = nil
	l.build(t)
	if t.build.failed = b.failed; t.build.failed == nil {
		t.build.failed = &failure{from: b.from, sums: sums}
	}
	l.members.picker.Sole(index, func(id int) bool {
		m := l.members.byID[id]
		return m != nil && m.suspicion > 1
	})
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

// convict bans those whose blocks of an earlier copy differ from the right ones, and clears the others.
func (l *loop) convict(f *failure, right [][sha1.Size]byte) {
	liars := make(map[*member]bool)
	for i, m := range f.from {
		if m != nil && right[i] != f.sums[i] {
			liars[m] = true
		}
	}
	for _, m := range distinct(f.from) {
		m.suspicion--
		if liars[m] {
			l.ban(m, "sent a block that was wrong")
		}
	}
}

// ban shuts a peer out.
func (l *loop) ban(m *member, why string) {
	l.cfg.Logger.Warn("peer banned", "peer", m.addr, "reason", why)
	l.meters.banned++
	l.pool.ban(m.addr)
	m.conn.Close()
}

package swarm

import (
	"encoding/binary"
	"slices"
	"time"

	"torrentfs/fetch/wire"
)

// Machines that mount the same torrent often read the same of it at the same time. So that they don't each ask a seeder for
// it, they tell each other what they are fetching from seeders (wire.Claims), and leave those pieces to who said so first.
// The picker heeds what others claim (picker/claims.go); here is what we say.

const (
	claimEvery = time.Second          // all are said again
	claimGap   = 5 * time.Millisecond // between messages that say what is new
)

// claims is what we say that we are fetching.
type claims struct {
	fresh []uint32      // not said yet
	spoke time.Duration // when we last said something
	whole time.Duration // and all
	said  bool          // there was something in it
}

// stake claims a piece that is asked of seeds, if nobody else has it.
func (l *loop) stake(b *build) {
	if l.cfg.Upload && !b.claimed && l.members.picker.Unshared(b.index) {
		b.claimed = true
		l.claims.fresh = append(l.claims.fresh, uint32(b.index))
	}
}

// sayClaims tells peers what has been claimed since the last time, a few milliseconds apart, and once a second all. It
// returns when it should be called again, 0 if there is no need.
func (l *loop) sayClaims() (wake time.Duration) {
	c := &l.claims
	if l.now-c.whole >= claimEvery {
		all := l.claimed()
		if len(all) > 0 || c.said {
			l.sayToClaimants(wire.Claims{All: true, Pieces: all})
		}
		c.whole, c.spoke, c.said, c.fresh = l.now, l.now, len(all) > 0, c.fresh[:0]
		return 0
	}
	switch {
	case len(c.fresh) == 0:
		return 0
	case l.now-c.spoke < claimGap && c.spoke > 0:
		return c.spoke + claimGap
	}
	n := min(len(c.fresh), wire.MaxClaims)
	l.sayToClaimants(wire.Claims{Pieces: c.fresh[:n]})
	c.fresh, c.spoke, c.said = c.fresh[:0], l.now, true
	return 0
}

func (l *loop) sayToClaimants(c wire.Claims) {
	payload := c.Append(nil)
	for _, m := range l.members.all {
		if ext := m.hello.Messages[wire.ExtClaims]; ext != 0 {
			m.conn.Send(wire.Message{ID: wire.Extended, Ext: ext, Data: payload})
		}
	}
}

// claimed are the pieces that we claim and are fetching, in order.
func (l *loop) claimed() (list []uint32) {
	for index, t := range l.demand.targets {
		b := t.build
		if b == nil || !b.claimed {
			continue
		}
		if b.claimed = b.complete() || l.members.picker.Pursued(index); b.claimed {
			list = append(list, uint32(index))
		}
	}
	slices.Sort(list)
	return list[:min(len(list), wire.MaxClaims)]
}

// hearClaims takes in what a peer claims. Of two that claim the same one yields, the same for both, unless it has half of
// the piece already.
func (l *loop) hearClaims(m *member, payload []byte) {
	c, err := wire.ParseClaims(payload)
	if err != nil || l.cfg.Seed {
		return
	}
	var others []int
	for _, piece := range c.Pieces {
		index := int(piece)
		if index >= l.members.pieces || l.store.Has(index) {
			continue
		}
		if t := l.demand.targets[index]; t != nil && t.build != nil && t.build.claimed {
			b := t.build
			if 2*b.left < b.blocks || !l.members.picker.Precedes(m.id, index) {
				continue
			}
			b.claimed = false
			l.members.picker.Yield(index)
		}
		others = append(others, index)
	}
	l.members.picker.Claim(m.id, others, c.All, l.now)
}

// salt is the part of a peer id that chance has made.
func salt(id [20]byte) uint64 { return binary.BigEndian.Uint64(id[12:]) }

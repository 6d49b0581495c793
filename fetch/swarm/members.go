package swarm

import (
	"bytes"
	"log/slog"
	"net/netip"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/peer"
	"torrentfs/fetch/picker"
	"torrentfs/fetch/reach"
	"torrentfs/fetch/wire"
)

// members are the peers that we are connected to, and the picker that plans for them.
type members struct {
	all    map[*peer.Conn]*member
	byID   map[int]*member
	nextID int
	picker *picker.Picker
	pieces int
}

// member is a connected peer.
type member struct {
	id         int // the picker's number for it
	conn       *peer.Conn
	candidate  *candidate // nil for a peer that dialled us from nowhere known
	addr       netip.AddrPort
	hello      wire.ExtendedHandshake
	gone       bool
	weWant     bool // we said that we are interested
	theyWant   bool // the peer is interested
	unchoked   bool // we serve it
	choking    bool // it does not serve us
	has        bool // it has some piece
	downloaded int64
	wasted     int64
	rate       [2]rate // bytes a second, down and up
	record     record
	service    service
	trade      trade
	joined     time.Duration
	heard      time.Duration // when the last message came
	doubted    bool          // the network may have lost the connection: see lull
	exchange   exchange
	node       bool   // it has told of its DHT node
	unsaid     []byte // bits of pieces lost, to be said once it is known whether the peer understands that; nil: none
}

func newMembers(t *metainfo.Torrent) members {
	return members{
		all: make(map[*peer.Conn]*member), byID: make(map[int]*member),
		picker: picker.New(t.Length, t.PieceLength), pieces: t.NumPieces(),
	}
}

// join takes a connection in. cand is where it was found, nil when the peer dialled us.
func (l *loop) join(c *peer.Conn, cand *candidate) {
	addr := c.Addr()
	if reason := l.unwelcome(c, addr); reason != "" {
		l.cfg.Logger.Debug("connection refused", "peer", addr, "reason", reason)
		c.Close()
		l.pool.left(cand, nil, false, l.now)
		return
	}
	m := &member{id: l.members.nextID, conn: c, candidate: cand, addr: addr, choking: true, joined: l.now, heard: l.now}
	l.members.nextID++
	l.members.all[c], l.members.byID[m.id] = m, m
	l.members.picker.AddPeer(m.id, c.RTT())
	if cand != nil {
		cand.member, cand.rtt = m, c.RTT()
	}
	c.Start(l.bits(), &l.wg)
	l.cfg.Logger.Debug("connected", "peer", addr, "rtt", c.RTT().Round(time.Microsecond), "incoming", c.Incoming())
}

// unwelcome says why a connection is not taken in.
func (l *loop) unwelcome(c *peer.Conn, addr netip.AddrPort) string {
	if l.ctx.Err() != nil {
		return "closing"
	}
	if l.pool.bans.peer(addr, c.ID()) {
		return "banned"
	}
	neighbours := 0
	home, homed := reach.Home(addr.Addr())
	var twin *member
	for _, m := range l.members.all {
		if m.addr.Addr() == addr.Addr() && m.conn.ID() == c.ID() {
			twin = m // from elsewhere it may be somebody who makes himself out to be this peer
		}
		if its, ok := reach.Home(m.addr.Addr()); ok && homed && its == home {
			neighbours++
		}
	}
	if twin != nil {
		if !l.supersedes(c, twin) {
			return "connected already"
		}
		twin.conn.Close()
		return ""
	}
	if c.Incoming() && neighbours >= maxAtHome && !l.pool.atHome(addr.Addr()) {
		return "too many at this address"
	}
	if len(l.members.all) >= l.cfg.MaxPeers && !l.evict() {
		return "no room"
	}
	return ""
}

// crossing is for how long after a connection another one to the same peer may have been dialled before either side knew.
const crossing = 10 * time.Second

// supersedes reports whether a connection takes the place of an older one to the same peer. When two peers dial each other
// at the same time, each has to keep the connection that the other keeps: that which the one with the larger id dialled.
// Later on, a peer that connects again while nothing comes from it has lost the older one.
func (l *loop) supersedes(c *peer.Conn, old *member) bool {
	if l.stale(old) {
		return true
	}
	theirs := c.ID()
	theyDial := bytes.Compare(theirs[:], l.cfg.PeerID[:]) > 0
	return c.Incoming() != old.conn.Incoming() && c.Incoming() == theyDial && l.now-old.joined < crossing
}

// batch takes in what a peer did.
func (l *loop) batch(b *peer.Batch) {
	defer b.Recycle()
	m := l.members.all[b.Conn]
	if m == nil {
		return
	}
	now := min(b.At.Sub(l.start), l.now)
	if len(b.Items) > 0 {
		m.heard, m.doubted = l.now, false
		l.lull.heard = l.now
	}
	for i := range b.Items {
		l.item(m, &b.Items[i], now)
	}
	if b.Err != nil {
		l.part(m, b.Err)
	}
}

// item takes in one message of a peer's.
func (l *loop) item(m *member, it *peer.Item, now time.Duration) {
	p := l.members.picker
	switch it.ID {
	case wire.Piece:
		l.block(m, it, now)
	case wire.Choke:
		m.choking = true
		p.SetChoked(m.id, true)
	case wire.Unchoke:
		m.choking = false
		p.SetChoked(m.id, false)
	case wire.Interested:
		m.theyWant = true
		l.admit(m)
	case wire.NotInterested:
		m.theyWant = false
		l.fillSlots()
	case wire.Have:
		m.has = true
		p.AddHave(m.id, int(it.Index), l.members.pieces)
		l.interest(m)
		l.adopt(int(it.Index))
	case wire.Bitfield:
		all := wire.Full(it.Data, l.members.pieces)
		m.has = true
		p.SetBits(m.id, it.Data, all)
		l.interest(m)
		l.adopt(-1)
		l.farewell(m, all)
	case wire.HaveAll:
		m.has = true
		p.SetBits(m.id, nil, true)
		l.interest(m)
		l.adopt(-1)
		l.farewell(m, true)
	case wire.Reject:
		p.Rejected(m.id, int(it.Index), int64(it.Begin), now)
	case wire.AllowedFast:
		p.AllowFast(m.id, int(it.Index))
	case wire.Extended:
		l.extended(m, it)
	case wire.Port:
		l.node(m, uint16(it.Index))
	}
}

// block takes in a block that has been put in its place, or came for nothing.
func (l *loop) block(m *member, it *peer.Item, now time.Duration) {
	n, begin := int64(it.Length), int64(it.Begin)
	m.downloaded += n
	l.meters.downloaded += n
	a, _ := it.Stored.(*assembly)
	stored := a != nil && l.arrived(m, a, begin)
	if !stored {
		m.wasted += n
		l.meters.wasted += n
	} else {
		m.served(l.now)
	}
	if it.Asked { // of what nobody asked for a peer can send any amount, and still not deliver
		m.trade.given += n
		l.members.picker.Received(m.id, int(it.Index), begin, n, stored, now)
	}
	if stored {
		l.feed(a.build)
	}
}

// interest tells a peer that has something that we want it. That is said once and stays, so that a seek need not wait for
// an unchoke.
func (l *loop) interest(m *member) {
	if !m.weWant && !l.cfg.Seed {
		m.weWant = true
		m.conn.Send(wire.Message{ID: wire.Interested})
	}
}

// farewell lets a peer go that has all, when we have all too: neither has a use for the other.
func (l *loop) farewell(m *member, all bool) {
	if !all || !l.cfg.Seed {
		return
	}
	if m.candidate != nil {
		m.candidate.failures = max(m.candidate.failures, longPause)
	}
	m.conn.Close()
}

// part forgets a peer whose connection has ended.
func (l *loop) part(m *member, err error) {
	m.gone = true
	l.members.picker.RemovePeer(m.id)
	delete(l.members.all, m.conn)
	delete(l.members.byID, m.id)
	l.meters.uploaded += m.conn.Uploaded()
	l.pool.left(m.candidate, m, m.service.given && !m.service.dropped, l.now)
	l.cfg.Logger.Debug("disconnected", "peer", m.addr, "err", err, "downloaded", m.downloaded)
	l.dial()
	l.fillSlots()
}

// request has the picker decide, and sends what it decided.
func (l *loop) request() (wake time.Duration) {
	requests, cancels, wake := l.members.picker.Step(l.now)
	for _, c := range cancels {
		if m := l.members.byID[c.Peer]; m != nil {
			m.conn.Cancel(uint32(c.Piece), uint32(c.Begin))
		}
	}
	for _, r := range requests {
		m, t := l.members.byID[r.Peer], l.demand.targets[r.Piece]
		if m == nil || t == nil || t.build == nil {
			l.cfg.Logger.Error("a request without a peer or a piece", slog.Any("request", r))
			continue
		}
		m.service.ask(l.now)
		l.stake(t.build)
		m.conn.Request(uint32(r.Piece), uint32(r.Begin), uint32(r.Length), t.build.asm)
	}
	return wake
}

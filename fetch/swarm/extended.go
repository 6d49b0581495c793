package swarm

import (
	"net/netip"
	"slices"
	"time"

	"torrentfs/fetch/peer"
	"torrentfs/fetch/wire"
)

// hello is what our extension handshake says.
func hello(cfg Config) wire.ExtendedHandshake {
	h := wire.ExtendedHandshake{
		Messages: map[string]uint8{wire.ExtDontHave: wire.OurDontHave, wire.ExtMetadata: wire.OurMetadata},
		Port:     cfg.Port, Version: cfg.Version, ReqQ: peer.ReqQ, MetadataSize: int64(len(cfg.Torrent.Info)),
		UploadOnly: cfg.Seed,
	}
	if !cfg.Seed {
		h.Messages[wire.ExtClaims] = wire.OurClaims
	}
	if cfg.gossips() {
		h.Messages[wire.ExtPEX] = wire.OurPEX
	}
	return h
}

// gossips reports whether peers are exchanged: never for a private torrent (BEP 27).
func (c *Config) gossips() bool { return c.PEX && !c.Torrent.Private }

// extended takes in a message of the extension protocol.
func (l *loop) extended(m *member, it *peer.Item) {
	switch it.Ext {
	case 0:
		h, err := wire.ParseExtendedHandshake(it.Data)
		if err != nil {
			l.cfg.Logger.Debug("bad extension handshake", "peer", m.addr, "err", err)
			return
		}
		m.hello = h
		l.members.picker.SetQueue(m.id, h.ReqQ)
		l.catchUp(m)
		if h.Messages[wire.ExtClaims] != 0 {
			l.members.picker.Neighbour(m.id, salt(m.conn.ID()), l.now)
			l.interest(m) // what it claims we may want of it
		}
	case wire.OurMetadata:
		req, err := wire.ParseMetadata(it.Data)
		if ext := m.hello.Messages[wire.ExtMetadata]; err == nil && ext != 0 && req.Type == wire.MetadataRequest {
			m.conn.SendMetadata(ext, req.Piece)
		}
	case wire.OurPEX:
		l.hear(m, it.Data)
	case wire.OurClaims:
		l.hearClaims(m, it.Data)
	case wire.OurDontHave:
		if index, ok := wire.ParseDontHave(it.Data); ok && int(index) < l.members.pieces {
			l.miss(m, int(index))
		}
	}
}

// node passes on that a peer says it runs a DHT node (BEP 5), once for each peer.
func (l *loop) node(m *member, port uint16) {
	if l.cfg.Node != nil && !l.cfg.Torrent.Private && port != 0 && !m.node {
		m.node = true
		l.cfg.Node(netip.AddrPortFrom(m.addr.Addr(), port))
	}
}

const gossipEvery = time.Minute // BEP 11

// exchange is the state of the peer exchange with one peer.
type exchange struct {
	told  map[netip.AddrPort]bool // what it was told is there
	spoke time.Duration           // when we told it last; 0 never
	heard time.Duration           // when we took its word last
}

// hear takes in the addresses that a peer tells us of; one that tells more often than it should is not listened to.
func (l *loop) hear(m *member, payload []byte) {
	if !l.cfg.gossips() || m.exchange.heard != 0 && l.now-m.exchange.heard < wire.PEXPause {
		return
	}
	m.exchange.heard = l.now
	e, err := wire.ParseExchange(payload)
	if err != nil {
		l.cfg.Logger.Debug("bad peer exchange", "peer", m.addr, "err", err)
		return
	}
	for _, a := range e.Added {
		l.pool.hear(m.addr.Addr(), a)
	}
	l.dial()
}

// gossip tells every peer that listens what has changed among our peers since it was told last.
func (l *loop) gossip() {
	if !l.cfg.gossips() {
		return
	}
	var reachable []netip.AddrPort
	for _, m := range l.members.all {
		if a, ok := m.reachable(); ok {
			reachable = append(reachable, a)
		}
	}
	for _, m := range l.members.all {
		ext := m.hello.Messages[wire.ExtPEX]
		if x := &m.exchange; ext != 0 && (x.spoke == 0 || l.now-x.spoke >= gossipEvery) {
			if e := x.news(reachable, m.addr); len(e.Added)+len(e.Dropped) > 0 {
				m.conn.Send(wire.Message{ID: wire.Extended, Ext: ext, Data: e.Append(nil)})
				x.spoke = l.now
			}
		}
	}
}

// reachable is the address at which others can connect to a peer, if that is known.
func (m *member) reachable() (netip.AddrPort, bool) {
	if !m.conn.Incoming() {
		return m.addr, true
	}
	return netip.AddrPortFrom(m.addr.Addr(), m.hello.Port), m.hello.Port != 0
}

// news is what the peer at self has not been told yet, within the bounds of one message.
func (x *exchange) news(reachable []netip.AddrPort, self netip.AddrPort) (e wire.Exchange) {
	if x.told == nil {
		x.told = make(map[netip.AddrPort]bool)
	}
	for _, a := range reachable {
		if !x.told[a] && a != self {
			if len(e.Added) < wire.MaxPEX {
				e.Added = append(e.Added, a)
			}
		}
	}
	for a := range x.told {
		if !slices.Contains(reachable, a) && len(e.Dropped) < wire.MaxPEX {
			e.Dropped = append(e.Dropped, a)
		}
	}
	for _, a := range e.Added {
		x.told[a] = true
	}
	for _, a := range e.Dropped {
		delete(x.told, a)
	}
	return e
}

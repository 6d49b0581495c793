package dht

import (
	"net/netip"
	"slices"
	"time"
)

// k is how many nodes an answer names (BEP 5).
const k = 8

// The methods that are answered (BEP 5). Others are met with silence.
const (
	ping         = "ping"
	findNode     = "find_node"
	getPeers     = "get_peers"
	announcePeer = "announce_peer"
)

// asked answers a query; it is part of side.
func (f *family) asked(m *message, from netip.AddrPort) {
	id := f.session.Load().id
	out := message{
		Type: answerType, Transaction: m.Transaction, You: string(appendAddr(nil, from)), Answer: answer{ID: string(id[:])},
	}
	now := time.Now()
	switch m.Method {
	case ping:
	case findNode:
		if len(m.Args.Target) != idSize {
			out = refusal(m, "target is missing")
			break
		}
		f.name(&out.Answer, m, m.Args.Target, from.Addr())
	case getPeers:
		if len(m.Args.InfoHash) != idSize {
			out = refusal(m, "info_hash is missing")
			break
		}
		out.Answer.Token = f.store.token(from.Addr(), now)
		out.Answer.Values = f.store.get([idSize]byte([]byte(m.Args.InfoHash)), now)
		f.name(&out.Answer, m, m.Args.InfoHash, from.Addr())
	case announcePeer:
		peer := netip.AddrPortFrom(from.Addr(), uint16(m.Args.Port))
		if m.Args.Implied != 0 {
			peer = from
		}
		switch {
		case len(m.Args.InfoHash) != idSize:
			out = refusal(m, "info_hash is missing")
		case !f.store.valid(m.Args.Token, from.Addr(), now):
			out = refusal(m, "token is not valid")
		case m.Args.Implied == 0 && (m.Args.Port <= 0 || m.Args.Port > 65535):
			out = refusal(m, "port is missing")
		default:
			f.store.add([idSize]byte([]byte(m.Args.InfoHash)), peer, now)
		}
	default:
		return
	}
	_ = f.guard.send(&out, from) // an answer that can't be sent is lost, like any packet
	if m.ReadOnly == 0 {
		f.meet(from)
	}
}

// refusal says what is wrong with a query.
func refusal(m *message, why string) message {
	return message{Type: errorType, Transaction: m.Transaction, Fault: []any{int64(203), why}}
}

// name puts the nodes closest to target in an answer, of the families that are wanted (BEP 32): if that isn't said, of
// the one that was asked.
func (f *family) name(a *answer, m *message, target string, asker netip.Addr) {
	want := m.Args.Want
	for _, of := range []*family{f, f.other} {
		if of == nil {
			continue
		}
		tag := "n4"
		if of.six {
			tag = "n6"
		}
		if len(want) > 0 && !slices.Contains(want, tag) || len(want) == 0 && of != f {
			continue
		}
		var b []byte
		for _, n := range of.closest([idSize]byte([]byte(target)), k) {
			if nameable(asker, n.addr) {
				b = n.append(b)
			}
		}
		if of.six {
			a.Nodes6 = string(b)
		} else {
			a.Nodes = string(b)
		}
	}
}

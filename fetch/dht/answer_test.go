package dht

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAnswers(t *testing.T) {
	f, w := familyOn(t, false)
	defer f.end()
	other, _ := familyOn(t, true)
	defer other.end()
	f.other, other.other = other, f
	near, far := at(0x10, "198.51.100.1:1"), at(0xf0, "198.51.100.2:2")
	inner := at(0x11, "192.168.0.9:1")
	f.settle(t, near, far, inner)
	near6 := at(0x10, "[2001:db8::1]:1")
	other.settle(t, near6)
	from := netip.MustParseAddrPort("203.0.113.7:777")
	target := "\x10" + strings.Repeat("x", idSize-1)
	token := f.store.token(from.Addr(), time.Now())
	peer := string(appendAddr(nil, netip.MustParseAddrPort("203.0.113.7:4242")))
	implied := string(appendAddr(nil, from))
	nodes := string(far.append(near.append(nil)))
	nodes6 := string(near6.append(nil))
	for _, c := range []struct {
		name, method string
		args         args
		want         answer // without id and token
		refused      bool
		silent       bool
	}{
		{name: "ping", method: "ping"},
		{name: "find_node", method: "find_node", args: args{Target: target}, want: answer{Nodes: nodes}},
		{name: "find_node for IPv4", method: "find_node", args: args{Target: target, Want: []string{"n4"}}, want: answer{Nodes: nodes}},
		{name: "find_node for IPv6", method: "find_node", args: args{Target: target, Want: []string{"n6"}}, want: answer{Nodes6: nodes6}},
		{name: "find_node for both", method: "find_node", args: args{Target: target, Want: []string{"n4", "n6"}}, want: answer{Nodes: nodes, Nodes6: nodes6}},
		{name: "find_node for another family", method: "find_node", args: args{Target: target, Want: []string{"n8"}}},
		{name: "find_node without a target", method: "find_node", refused: true},
		{name: "get_peers of none", method: "get_peers", args: args{InfoHash: target}, want: answer{Nodes: nodes}},
		{name: "get_peers without info_hash", method: "get_peers", refused: true},
		{name: "announce_peer without a token", method: "announce_peer", args: args{InfoHash: target, Port: 4242}, refused: true},
		{name: "announce_peer with another's token", method: "announce_peer", args: args{InfoHash: target, Port: 4242, Token: f.store.token(near.addr.Addr(), time.Now())}, refused: true},
		{name: "announce_peer without info_hash", method: "announce_peer", args: args{Port: 4242, Token: token}, refused: true},
		{name: "announce_peer without a port", method: "announce_peer", args: args{InfoHash: target, Token: token}, refused: true},
		{name: "announce_peer at port 65536", method: "announce_peer", args: args{InfoHash: target, Port: 65536, Token: token}, refused: true},
		{name: "announce_peer at port -1", method: "announce_peer", args: args{InfoHash: target, Port: -1, Token: token}, refused: true},
		{name: "get_peers of none still", method: "get_peers", args: args{InfoHash: target}, want: answer{Nodes: nodes}},
		{name: "announce_peer", method: "announce_peer", args: args{InfoHash: target, Port: 4242, Token: token}},
		{name: "get_peers", method: "get_peers", args: args{InfoHash: target}, want: answer{Nodes: nodes, Values: []string{peer}}},
		{name: "announce_peer at the port of the packet", method: "announce_peer", args: args{InfoHash: target, Port: 1, Implied: 1, Token: token}},
		{name: "get_peers of two", method: "get_peers", args: args{InfoHash: target}, want: answer{Nodes: nodes, Values: []string{peer, implied}}},
		{name: "get", method: "get", args: args{Target: target}, silent: true},
		{name: "put", method: "put", args: args{Token: token}, silent: true},
		{name: "sample_infohashes", method: "sample_infohashes", args: args{Target: target}, silent: true},
		{name: "no method", method: "", silent: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.guard.queries = newGate()
			q := message{Type: queryType, Transaction: "tx", Method: c.method, Args: c.args}
			q.Args.ID = theirID
			if taken := f.guard.take(q.encode(), from); !taken {
				t.Fatal("dropped")
			}
			sent := w.take()
			if c.silent {
				if len(sent) > 0 {
					t.Errorf("answered %+v", sent)
				}
				return
			}
			if len(sent) != 1 || sent[0].Transaction != "tx" {
				t.Fatalf("sent %+v", sent)
			}
			m := sent[0]
			if c.refused {
				if code, _ := m.fault(); m.Type != errorType || code != 203 {
					t.Errorf("answered %+v", m)
				}
				return
			}
			if id := f.session.Load().id; m.Type != answerType || m.You != implied || m.Answer.ID != string(id[:]) {
				t.Errorf("answered %+v", m)
			}
			if (m.Answer.Token != "") != (c.method == getPeers) {
				t.Errorf("token %q", m.Answer.Token)
			}
			m.Answer.ID, m.Answer.Token = "", ""
			slices.Sort(m.Answer.Values)
			slices.Sort(c.want.Values)
			if m.Answer.Nodes != c.want.Nodes || m.Answer.Nodes6 != c.want.Nodes6 || !slices.Equal(m.Answer.Values, c.want.Values) {
				t.Errorf("\nanswered %+v\n    want %+v", m.Answer, c.want)
			}
		})
	}
}

// TestReadOnly has a node that others can't reach say so, and keep silent (BEP 43).
func TestReadOnly(t *testing.T) {
	f, w := familyOn(t, false)
	defer f.end()
	f.guard.door = newDoor(true)
	query := message{Type: queryType, Transaction: "tx", Method: ping, Args: args{ID: theirID}}
	from := netip.MustParseAddrPort("203.0.113.7:777")
	if f.guard.take(query.encode(), from) || len(w.take()) > 0 {
		t.Error("answered")
	}
	if _, err := f.session.Load().line.WriteTo(query.encode(), addrFor(from)); err != nil {
		t.Fatal(err)
	}
	if sent := w.take(); len(sent) != 1 || sent[0].ReadOnly != 1 {
		t.Errorf("sent %+v", sent)
	}
	f.guard.door = newDoor(false)
	query.ReadOnly = 1 // as the library says of itself
	if _, err := f.session.Load().line.WriteTo(query.encode(), addrFor(from)); err != nil {
		t.Fatal(err)
	}
	if sent := w.take(); len(sent) != 1 || sent[0].ReadOnly != 0 {
		t.Errorf("sent %+v", sent)
	}
	// Who says the same to us isn't asked whether it is there.
	f.guard.take(query.encode(), from)
	if len(f.greet) != 0 {
		t.Error("a read-only node is met")
	}
	query.ReadOnly = 0
	f.guard.take(query.encode(), from)
	if len(f.greet) != 1 {
		t.Error("a node is not met")
	}
}

// TestAnswerSize has the largest answer fit in a frame, whoever asks.
func TestAnswerSize(t *testing.T) {
	for _, six := range []bool{false, true} {
		f, w := familyOn(t, six)
		defer f.end()
		ip := netip.MustParseAddr("198.51.100.1")
		if six {
			ip = netip.MustParseAddr("2001:db8::1")
		}
		hash := [idSize]byte{1}
		for i := range 200 {
			f.store.add(hash, netip.AddrPortFrom(ip, uint16(i+1)), time.Now())
		}
		for i := range 30 {
			ip := ip.As16()
			if six {
				ip[7] = byte(i) // another network
			} else {
				ip[15] = byte(i)
			}
			a := netip.AddrFrom16(ip).Unmap()
			f.settle(t, contact{[idSize]byte{byte(8*i + 1)}, netip.AddrPortFrom(a, 1)})
		}
		q := message{Type: queryType, Transaction: strings.Repeat("t", maxTransaction), Method: getPeers,
			Args: args{ID: theirID, InfoHash: string(hash[:]), Want: []string{"n4", "n6"}}}
		f.guard.take(q.encode(), netip.AddrPortFrom(ip, 9))
		sent := w.take()
		if len(sent) != 1 {
			t.Fatal("no answer")
		}
		if n := len(sent[0].encode()); n > 1400 {
			t.Errorf("answer of %d bytes", n)
		}
		if n := len(sent[0].Answer.Nodes + sent[0].Answer.Nodes6); n != k*nodeSize(six) {
			t.Errorf("%d bytes of nodes", n)
		}
		if !bytes.Contains(sent[0].encode(), []byte("6:values")) {
			t.Error("no peers")
		}
	}
}

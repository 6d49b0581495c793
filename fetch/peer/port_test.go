package peer

import (
	"testing"

	"torrentfs/fetch/wire"
)

// TestPort exchanges the ports of DHT nodes with a peer that has one, which may come before the pieces.
func TestPort(t *testing.T) {
	side, link := newSide(t)
	link.DHTPort = 6881
	c, peer := pair(t, link, wire.Features{DHT: true})
	c.Start(nil, &side.wg)
	defer c.Close()
	if m := peer.expect(wire.Port); m.Index != 6881 {
		t.Errorf("we say port %d", m.Index)
	}
	peer.send(wire.Message{ID: wire.Port, Index: 4711}, wire.Message{ID: wire.Bitfield, Data: []byte{0xff, 0xff, 0xf0}})
	for _, want := range []wire.ID{wire.Port, wire.Bitfield} {
		if it, err := side.next(t); err != nil || it.ID != want || want == wire.Port && it.Index != 4711 {
			t.Errorf("got %+v, %v; want %v", it, err, want)
		}
	}
}

// TestNoPort says nothing of a DHT node where there is none to tell of.
func TestNoPort(t *testing.T) {
	side, link := newSide(t)
	if link.shake().Features.DHT {
		t.Error("the handshake tells of a DHT node")
	}
	c, peer := pair(t, link, wire.Features{DHT: true, Fast: true})
	c.Start(nil, &side.wg)
	defer c.Close()
	peer.expect(wire.HaveNone)
	c.Send(wire.Message{ID: wire.Interested})
	peer.expect(wire.Interested)
}

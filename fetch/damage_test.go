package fetch_test

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"torrentfs/fetch/wire"
)

// A peer that asks a seed for a piece that went bad on disk is refused and told that the piece is gone; the others are there.
func TestSeedDisclaimsWhatWentBad(t *testing.T) {
	_, torrent, path := content(t, 4<<20, 1<<20)
	nc, err := net.Dial("tcp", seeder(t, torrent, path))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("other"), 1<<20+100_000); err != nil {
		t.Fatal(err)
	}

	const dontHave = 9
	greeting := wire.Handshake{Features: wire.Features{Fast: true, Extended: true}, InfoHash: torrent.InfoHash, PeerID: [20]byte{'x'}}.Append(nil)
	hello := wire.ExtendedHandshake{Messages: map[string]uint8{wire.ExtDontHave: dontHave}}
	for _, m := range []wire.Message{
		{ID: wire.HaveNone}, {ID: wire.Extended, Data: hello.Append(nil)}, {ID: wire.Interested},
	} {
		greeting = m.Append(greeting)
	}
	if _, err := nc.Write(greeting); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ReadHandshake(nc); err != nil {
		t.Fatal(err)
	}
	rd := wire.NewReader(nc, 1<<20)
	next := func(want func(m wire.Message) bool) wire.Message {
		t.Helper()
		for {
			m, err := rd.Next()
			if err != nil {
				t.Fatal(err)
			}
			if want(m) {
				return m
			}
		}
	}
	answer := func(m wire.Message) bool { return m.ID == wire.Piece || m.ID == wire.Reject }
	ask := func(piece uint32) wire.ID {
		t.Helper()
		if _, err := nc.Write(wire.Message{ID: wire.Request, Index: piece, Begin: 64 << 10, Length: 16 << 10}.Append(nil)); err != nil {
			t.Fatal(err)
		}
		return next(answer).ID
	}
	next(func(m wire.Message) bool { return m.ID == wire.Unchoke })
	if got := ask(0); got != wire.Piece {
		t.Errorf("a good piece: %v", got)
	}
	told := false
	if _, err := nc.Write(wire.Message{ID: wire.Request, Index: 1, Begin: 96 << 10, Length: 16 << 10}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	for refused := false; !told || !refused; { // in either order
		m := next(func(m wire.Message) bool { return answer(m) || m.ID == wire.Extended && m.Ext == dontHave })
		switch m.ID {
		case wire.Extended:
			told = true
			if got := binary.BigEndian.Uint32(m.Data); got != 1 {
				t.Errorf("told that piece %d is gone", got)
			}
		case wire.Reject:
			refused = true
		default:
			t.Fatal("a block of a damaged piece is served")
		}
	}
	if got := ask(1); got != wire.Reject {
		t.Errorf("once more: %v", got)
	}
	if got := ask(3); got != wire.Piece {
		t.Errorf("a good piece: %v", got)
	}
}

package swarm

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/peer"
	"torrentfs/fetch/wire"
)

// bareLoop is a loop that does not run: the test does, step by step. Nobody hashes.
func bareLoop(t *testing.T, content *fetchtest.Content) (l *loop, done func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	store := fetchtest.NewStore(content.Torrent, content.Length)
	s := &Swarm{
		cfg:   Config{Torrent: content.Torrent, Store: store, MaxPeers: 10, InFlight: 8 * mebibyte, Logger: slog.New(slog.DiscardHandler)},
		store: store, hashes: make(chan hashJob, 100), done: make(chan struct{}),
		events: make(chan *peer.Batch, 1000),
	}
	s.link = &peer.Torrent{InfoHash: content.InfoHash, Pieces: content.NumPieces(), PieceLength: content.PieceLength, Length: content.Length, Events: s.events, Done: s.done}
	l = newLoop(ctx, s)
	return l, func() {
		t.Helper()
		cancel()
		for _, m := range l.members.all {
			m.conn.Close()
		}
		close(s.done)
		s.wg.Wait()
		l.discard()
		if err := store.CheckClosed(); err != nil {
			t.Error(err)
		}
	}
}

// guest joins a peer that says nothing.
func (l *loop) guest(t *testing.T, addr netip.AddrPort) *member {
	t.Helper()
	near, far := fetchtest.Pipe(netip.MustParseAddrPort("10.9.9.9:6881"), addr)
	t.Cleanup(func() { _ = far.Close() })
	var id [20]byte
	copy(id[:], addr.String())
	_, _ = far.Write(wire.Handshake{Features: wire.Features{Fast: true, Extended: true}, InfoHash: l.link.InfoHash, PeerID: id}.Append(nil))
	c, err := peer.Receive(t.Context(), near, func([20]byte) *peer.Torrent { return l.link })
	if err != nil {
		t.Fatal(err)
	}
	l.join(c, nil)
	return l.members.all[c]
}

// picker makes the picker believe that a member has everything and serves it.
func (l *loop) picker(m *member) {
	l.members.picker.SetBits(m.id, nil, true)
	l.members.picker.SetChoked(m.id, false)
}

// pieceItem is what a connection tells of a block that it has put into an assembly.
func pieceItem(index int, begin int64, a *assembly) *peer.Item {
	return &peer.Item{ID: wire.Piece, Index: uint32(index), Begin: uint32(begin), Length: wire.BlockSize, Asked: true, Stored: a}
}

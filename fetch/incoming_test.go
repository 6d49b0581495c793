package fetch_test

import (
	"net"
	"testing"

	"torrentfs/fetch/wire"
)

// TestSilentPeersShutNobodyOut has a seeder's door full of peers that say nothing.
func TestSilentPeersShutNobodyOut(t *testing.T) {
	_, torrent, path := content(t, 1<<20, 64<<10)
	addr := seeder(t, torrent, path)
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	}
	for range 60 {
		dial()
	}
	nc := dial()
	h := wire.Handshake{InfoHash: torrent.InfoHash, PeerID: [20]byte{1}}
	if _, err := nc.Write(h.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if theirs, err := wire.ReadHandshake(nc); err != nil || theirs.InfoHash != torrent.InfoHash {
		t.Fatalf("%+v, %v", theirs, err)
	}
}

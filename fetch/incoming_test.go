package fetch_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"torrentfs/fetch"
	"torrentfs/fetch/metadata"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/seed"
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

// TestResolveFromWhoDialsUs has a magnet link whose only source dials us: one connection, in plaintext or encrypted, gives
// the metadata and then the content.
func TestResolveFromWhoDialsUs(t *testing.T) {
	data, torrent, path := content(t, 1<<20, 32<<10)
	store, err := seed.Open(torrent, filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, how := range []fetch.Encryption{fetch.NoEncryption, fetch.RequireEncryption} {
		t.Run(string(how), func(t *testing.T) {
			c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, NoPortMap: true, Listen: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			w := newWiretap(t, c.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begun := make(chan struct{})
			var once sync.Once
			var got *metainfo.Torrent
			resolved := make(chan error, 1)
			go func() {
				var err error
				got, err = c.Resolve(ctx, metainfo.Magnet{InfoHash: torrent.InfoHash}, nil, func(metadata.Progress) { once.Do(func() { close(begun) }) })
				resolved <- err
			}()
			<-begun
			s, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, Upload: true, Encryption: how})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Add(torrent, store, fetch.AddOptions{Seed: true, Peers: []string{w.Addr().String()}}); err != nil {
				t.Fatal(err)
			}
			if err := <-resolved; err != nil {
				t.Fatal(err)
			}
			x, err := c.Add(got, memory(t, got, 32<<20), fetch.AddOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readAll(t, x, got.Length, 1<<20), data) {
				t.Error("the bytes differ")
			}
			if how := w.dialled(); len(how) != 1 {
				t.Errorf("dialled %q", how)
			}
		})
	}
}

func TestCanResolveByWhoDialsUs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	chosen := l.Addr().String()
	_ = l.Close()
	for listen, possible := range map[string]bool{"": false, "127.0.0.1:0": false, chosen: true} {
		c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, NoPortMap: true, Listen: listen})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CanResolve(metainfo.Magnet{}, nil); (err == nil) != possible {
			t.Errorf("listening at %q: %v", listen, err)
		}
		_ = c.Close()
	}
}

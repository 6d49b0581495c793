package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"torrentfs/fetch"
	"torrentfs/fetch/seed"
)

// TestEncryption has every policy read from every other.
func TestEncryption(t *testing.T) {
	all := []fetch.Encryption{"", fetch.PreferEncryption, fetch.RequireEncryption, fetch.NoEncryption}
	data, torrent, path := content(t, 1<<20+7, 32<<10)
	store, err := seed.Open(torrent, filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, listens := range all {
		for _, dials := range all {
			t.Run(fmt.Sprintf("%q to %q", dials, listens), func(t *testing.T) {
				t.Parallel()
				s, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, Listen: "127.0.0.1:0", Upload: true, Encryption: listens})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if _, err := s.Add(torrent, store, fetch.AddOptions{Seed: true}); err != nil {
					t.Fatal(err)
				}
				c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, Encryption: dials})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				x, err := c.Add(torrent, memory(t, torrent, 32<<20), fetch.AddOptions{Peers: []string{s.Addr().String()}})
				if err != nil {
					t.Fatal(err)
				}
				possible := !(dials == fetch.RequireEncryption && listens == fetch.NoEncryption ||
					dials == fetch.NoEncryption && listens == fetch.RequireEncryption)
				if possible {
					if got := readAll(t, x, torrent.Length, 1<<20); !bytes.Equal(got, data) {
						t.Error("what was read differs")
					}
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				if err := x.ReadAt(ctx, make([]byte, 1), 0); err == nil {
					t.Error("they trade all the same")
				}
			})
		}
	}
}

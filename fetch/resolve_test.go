package fetch_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/tracker"
)

func newClient(t *testing.T) *fetch.Client {
	t.Helper()
	c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestResolveFromPeers(t *testing.T) {
	_, torrent, path := content(t, 3<<20, 16<<10)
	peer := seeder(t, torrent, path)
	for name, m := range map[string]metainfo.Magnet{
		"peer in the link": {InfoHash: torrent.InfoHash, Peers: []string{peer}},
		"peer by hand":     {InfoHash: torrent.InfoHash},
	} {
		t.Run(name, func(t *testing.T) {
			var byHand []string
			if m.Peers == nil {
				byHand = []string{peer}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got, err := newClient(t).Resolve(ctx, m, byHand, nil)
			if err != nil || got.InfoHash != torrent.InfoHash || got.Name != torrent.Name || got.NumPieces() != torrent.NumPieces() {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}

// One that gives back nothing still says what a torrent is.
func TestResolveFromOneThatUploadsNothing(t *testing.T) {
	_, torrent, _ := content(t, 3<<20, 16<<10)
	c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, NoPortMap: true, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Add(torrent, memory(t, torrent, 4<<20), fetch.AddOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := metainfo.Magnet{InfoHash: torrent.InfoHash}
	if got, err := newClient(t).Resolve(ctx, m, []string{c.Addr().String()}, nil); err != nil || got.InfoHash != torrent.InfoHash {
		t.Fatalf("%+v, %v", got, err)
	}
}

// A tracker of the magnet's names the seeder, and goes on being asked for the torrent after it was resolved.
func TestResolveByTracker(t *testing.T) {
	srv := httptest.NewServer(new(tracker.Server))
	defer srv.Close()
	announce := srv.URL + "/announce"
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := metainfo.Create(t.Context(), path, metainfo.CreateOptions{Trackers: [][]string{{announce}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	torrent, err := metainfo.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	seeder(t, torrent, path)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	announced(ctx, t, announce, torrent.InfoHash)
	got, err := newClient(t).Resolve(ctx, metainfo.Magnet{InfoHash: torrent.InfoHash, Trackers: []string{announce}}, nil, nil)
	if err != nil || got.Length != 1<<20 || len(got.Trackers) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
}

// announced waits until a tracker knows a peer of the torrent.
func announced(ctx context.Context, t *testing.T, url string, hash metainfo.Hash) {
	t.Helper()
	c := tracker.NewClient(tracker.ClientOptions{})
	defer c.Close()
	for {
		r, err := c.Announce(ctx, url, tracker.Request{InfoHash: hash, PeerID: [20]byte{1}, Port: 1, Event: tracker.Stopped})
		if err != nil {
			t.Fatal(err)
		}
		if r.Seeders > 0 {
			return
		}
	}
}

func TestResolveEnds(t *testing.T) {
	c := newClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Resolve(ctx, metainfo.Magnet{InfoHash: metainfo.Hash{1}}, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := c.Resolve(t.Context(), metainfo.Magnet{InfoHash: metainfo.Hash{2}}, nil, nil)
		ended <- err
	}()
	_ = c.Close()
	if err := <-ended; err == nil {
		t.Fatal("resolved by a closed client")
	}
}

func TestDownload(t *testing.T) {
	_, torrent, path := content(t, 100, 16<<10)
	b, err := metainfo.Create(t.Context(), path, metainfo.CreateOptions{PieceLength: 16 << 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }))
	defer srv.Close()
	got, err := newClient(t).Download(t.Context(), srv.URL+"/a.torrent")
	if err != nil || got.InfoHash != torrent.InfoHash {
		t.Fatalf("%+v, %v", got, err)
	}
}

// A magnet that was resolved is mounted with the peers that gave its metadata.
func TestAddAfterResolve(t *testing.T) {
	data, torrent, path := content(t, 1<<20, 64<<10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := newClient(t)
	got, err := c.Resolve(ctx, metainfo.Magnet{InfoHash: torrent.InfoHash}, []string{seeder(t, torrent, path)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	x, err := c.Add(got, memory(t, got, 16<<20), fetch.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if string(readAll(t, x, got.Length, 1<<20)) != string(data) {
		t.Fatal("the bytes differ")
	}
}

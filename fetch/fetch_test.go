package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"torrentfs/cache"
	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/seed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content makes a file of n pseudo-random bytes and its torrent.
func content(tb testing.TB, n int, pieceLength int64) (data []byte, t *metainfo.Torrent, path string) {
	tb.Helper()
	data = make([]byte, n)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{1}), data)
	path = filepath.Join(tb.TempDir(), "content.bin")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	b, err := metainfo.Create(tb.Context(), path, metainfo.CreateOptions{PieceLength: pieceLength}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	t, err = metainfo.Parse(b)
	if err != nil {
		tb.Fatal(err)
	}
	return data, t, path
}

// seeder starts a client that seeds the torrent and returns its address.
func seeder(tb testing.TB, t *metainfo.Torrent, path string) string {
	tb.Helper()
	c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, Listen: "127.0.0.1:0", Upload: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	store, err := seed.Open(t, filepath.Dir(path))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := store.Verify(tb.Context(), nil); err != nil {
		tb.Fatal(err)
	}
	x, err := c.Add(t, store, fetch.AddOptions{Seed: true})
	if err != nil {
		tb.Fatal(err)
	}
	store.Watch(x.Lost)
	return c.Addr().String()
}

// memory makes a store in memory.
func memory(tb testing.TB, t *metainfo.Torrent, size int64) *cache.Torrent {
	tb.Helper()
	mem, err := cache.New(cache.Config{Memory: size})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = mem.Close() })
	store, err := mem.Torrent(cache.Spec{
		InfoHash: t.InfoHash, Name: t.Name, PieceLength: t.PieceLength, Length: t.Length, Hashes: t.Pieces,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

// leech starts a client that reads the torrent from peers.
func leech(tb testing.TB, t *metainfo.Torrent, size int64, peers ...string) *fetch.Torrent {
	tb.Helper()
	store := memory(tb, t, size)
	c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, InFlight: size / 2})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	x, err := c.Add(t, store, fetch.AddOptions{Peers: peers})
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

// readAll reads the torrent in order, with read-ahead, as a mount does.
func readAll(tb testing.TB, x *fetch.Torrent, length, window int64) []byte {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	got := make([]byte, length)
	for off := int64(0); off < length; off += 128 << 10 {
		n := min(128<<10, length-off)
		if off%(1<<20) == 0 {
			x.Ahead(1, off, window, 0)
		}
		if err := x.ReadAt(ctx, got[off:off+n], off); err != nil {
			tb.Fatalf("read at %d: %v (%+v)", off, err, x.Stats())
		}
	}
	return got
}

func TestReadFromSeeders(t *testing.T) {
	for _, pieceLength := range []int64{16 << 10, 50000, 1 << 20, 8 << 20} {
		t.Run(fmt.Sprint(pieceLength), func(t *testing.T) {
			data, torrent, path := content(t, 20<<20+12345, pieceLength)
			x := leech(t, torrent, 64<<20, seeder(t, torrent, path), seeder(t, torrent, path))
			if got := readAll(t, x, torrent.Length, 8<<20); !bytes.Equal(got, data) {
				t.Fatal("the bytes differ")
			}
			t.Logf("%+v", x.Stats().Stats)
		})
	}
}

// A kept torrent comes whole, by itself, and each piece once.
func TestKeepFetchesEverything(t *testing.T) {
	data, torrent, path := content(t, 5<<20+99, 64<<10)
	c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, InFlight: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	store := memory(t, torrent, 64<<20)
	x, err := c.Add(torrent, store, fetch.AddOptions{Keep: true, Peers: []string{seeder(t, torrent, path), seeder(t, torrent, path)}})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for i := 0; i < torrent.NumPieces(); i++ {
		for !store.Has(i) {
			if time.Now().After(deadline) {
				t.Fatalf("piece %d does not come: %+v", i, x.Stats().Stats)
			}
			time.Sleep(time.Millisecond) // polled: nobody tells of pieces that nobody waits for
		}
	}
	if st := x.Stats(); st.Verified != torrent.Length || st.Downloaded > torrent.Length+torrent.Length/10 {
		t.Fatalf("%+v", st.Stats)
	}
	if !bytes.Equal(readAll(t, x, torrent.Length, 1<<20), data) {
		t.Fatal("the bytes differ")
	}
}

// Limits are kept: what came in some seconds is what they allow, and a burst at most more.
func TestDownloadLimit(t *testing.T) {
	const limit = 4 << 20
	data, torrent, path := content(t, 6<<20, 64<<10)
	c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, DownloadLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, err := c.Add(torrent, memory(t, torrent, 64<<20), fetch.AddOptions{Peers: []string{seeder(t, torrent, path), seeder(t, torrent, path)}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if !bytes.Equal(readAll(t, x, torrent.Length, 8<<20), data) {
		t.Fatal("the bytes differ")
	}
	// Faster than the limit is wrong however fast or slow the machine is. What may be made up for comes at once, at first.
	const burst, read = limit / 4, 64 << 10
	if least := time.Duration(float64(torrent.Length-burst-read) / limit * float64(time.Second)); time.Since(began) < least {
		t.Fatalf("%d bytes came in %v, against %v at the limit", torrent.Length, time.Since(began), least)
	}
}

func BenchmarkSequential(b *testing.B) {
	const size = 512 << 20
	_, torrent, path := content(b, size, 1<<20)
	var seeders []string
	for range 4 {
		seeders = append(seeders, seeder(b, torrent, path))
	}
	b.SetBytes(size)
	for b.Loop() {
		x := leech(b, torrent, 256<<20, seeders...)
		readAll(b, x, torrent.Length, 64<<20)
		b.Logf("%+v", x.Stats().Stats)
		_ = x.Close()
	}
}

// Two torrents with many seeders each share the few connections of a client, and both are read whole.
func TestMaxConnections(t *testing.T) {
	c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	type job struct {
		*fetch.Torrent
		data []byte
	}
	var jobs []job
	for i := range 2 {
		data, torrent, path := content(t, 2<<20+i, 64<<10)
		var peers []string
		for range 6 {
			peers = append(peers, seeder(t, torrent, path))
		}
		x, err := c.Add(torrent, memory(t, torrent, 16<<20), fetch.AddOptions{Peers: peers})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job{x, data})
		if i == 0 { // it has all the connections before the other begins
			for deadline := time.Now().Add(time.Minute); x.Stats().Connected < 4; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%+v", x.Stats())
				}
			}
		}
	}
	for _, j := range jobs {
		if !bytes.Equal(readAll(t, j.Torrent, int64(len(j.data)), 1<<20), j.data) {
			t.Error("the bytes differ")
		}
	}
	if one, two := jobs[0].Stats().Connected, jobs[1].Stats().Connected; one+two > 4 || one == 0 || two == 0 {
		t.Errorf("%d and %d connections", one, two)
	}
}

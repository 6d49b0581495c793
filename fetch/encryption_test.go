package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/mse"
	"torrentfs/fetch/seed"
	"torrentfs/fetch/wire"
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

// plaintext is how a connection in plaintext begins.
const plaintext = "\x13BitTorrent protocol"

// wiretap passes connections on and looks at what passes.
type wiretap struct {
	net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	first []string // what each connection's dialler said first
	seen  bytes.Buffer
}

func newWiretap(t *testing.T, to string) *wiretap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{Listener: l, to: to}
	w.wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			w.mu.Lock()
			i := len(w.first)
			w.first, w.conns = append(w.first, ""), append(w.conns, near, far)
			w.mu.Unlock()
			w.wg.Go(func() { w.pass(far, near, i) })
			w.wg.Go(func() { w.pass(near, far, -1) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); w.cut(); w.wg.Wait() })
	return w
}

// pass passes on what is said on one side of connection i.
func (w *wiretap) pass(to, from net.Conn, i int) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		w.seen.Write(b[:n])
		if i >= 0 && w.first[i] == "" {
			w.first[i] = string(b[:n])
		}
		w.mu.Unlock()
		if _, failed := to.Write(b[:n]); err != nil || failed != nil {
			return
		}
	}
}

// cut ends all connections.
func (w *wiretap) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, nc := range w.conns {
		_ = nc.Close()
	}
	w.conns = nil
}

// dialled is how each connection began, P in plaintext.
func (w *wiretap) dialled() (how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, first := range w.first {
		if strings.HasPrefix(first, plaintext) {
			how += "P"
		} else {
			how += "E"
		}
	}
	return how
}

// seederWith is a seeder with a policy.
func seederWith(t *testing.T, torrent *metainfo.Torrent, path string, how fetch.Encryption) string {
	t.Helper()
	store, err := seed.Open(torrent, filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, Listen: "127.0.0.1:0", Upload: true, Encryption: how})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Add(torrent, store, fetch.AddOptions{Seed: true}); err != nil {
		t.Fatal(err)
	}
	return s.Addr().String()
}

// TestPreferredEncryption has all encrypted that can be.
func TestPreferredEncryption(t *testing.T) {
	data, torrent, path := content(t, 1<<20, 32<<10)
	for how, dialled := range map[fetch.Encryption]string{
		fetch.AllowEncryption: "E", fetch.PreferEncryption: "E", fetch.RequireEncryption: "E", fetch.NoEncryption: "EP",
	} {
		t.Run("to "+string(how), func(t *testing.T) {
			w := newWiretap(t, seederWith(t, torrent, path, how))
			c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, Encryption: fetch.PreferEncryption})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			x, err := c.Add(torrent, memory(t, torrent, 32<<20), fetch.AddOptions{Peers: []string{w.Addr().String()}})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readAll(t, x, torrent.Length, 1<<20), data) {
				t.Error("what was read differs")
			}
			if got := w.dialled(); got != dialled {
				t.Errorf("dialled %q, want %q", got, dialled)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if clear := bytes.Contains(w.seen.Bytes(), data[4000:4064]); clear != (how == fetch.NoEncryption) {
				t.Errorf("content passes in the clear: %v", clear)
			}
		})
	}
}

// TestChoiceOfMethod offers both methods to who listens.
func TestChoiceOfMethod(t *testing.T) {
	_, torrent, path := content(t, 1<<20, 32<<10)
	for how, hidden := range map[fetch.Encryption]bool{
		fetch.AllowEncryption: false, fetch.PreferEncryption: true, fetch.RequireEncryption: true,
	} {
		w := newWiretap(t, seederWith(t, torrent, path, how))
		nc, err := net.Dial("tcp", w.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if nc, err = mse.Initiate(t.Context(), nc, torrent.InfoHash, mse.Plain|mse.RC4); err != nil {
			t.Fatal(err)
		}
		_, err = nc.Write(wire.Handshake{InfoHash: torrent.InfoHash, PeerID: [20]byte{1}}.Append(nil))
		if err == nil {
			_, err = io.ReadFull(nc, make([]byte, wire.HandshakeSize))
		}
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		if got := !strings.Contains(w.seen.String(), plaintext); got != hidden {
			t.Errorf("%s: hidden %v", how, got)
		}
		w.mu.Unlock()
		_ = nc.Close()
	}
}

// failures is what a client logs of dials that fail.
type failures struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (f *failures) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bytes.Contains(b, []byte("cannot connect")) || bytes.Contains(b, []byte("no metadata from peer")) {
		return f.all.Write(b)
	}
	return len(b), nil
}

// TestWhoRequiresEncryptionIsRemembered has a client that allows encryption find out that a peer requires it, without a
// failure and the pause that follows one, and once alone.
func TestWhoRequiresEncryptionIsRemembered(t *testing.T) {
	data, torrent, path := content(t, 1<<20, 32<<10)
	for _, magnet := range []bool{false, true} {
		t.Run(fmt.Sprintf("magnet %v", magnet), func(t *testing.T) {
			t.Parallel()
			w := newWiretap(t, seederWith(t, torrent, path, fetch.RequireEncryption))
			var failed failures
			c, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true,
				Logger: slog.New(slog.NewTextHandler(&failed, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if magnet {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := c.Resolve(ctx, metainfo.Magnet{InfoHash: torrent.InfoHash}, []string{w.Addr().String()}, nil); err != nil {
					t.Fatal(err)
				}
			}
			x, err := c.Add(torrent, memory(t, torrent, 128<<10), fetch.AddOptions{Peers: []string{w.Addr().String()}})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readAll(t, x, torrent.Length, 128<<10), data) {
				t.Error("what was read differs")
			}
			w.cut()
			if !bytes.Equal(readAll(t, x, torrent.Length, 128<<10), data) {
				t.Error("what was read differs")
			}
			if got := w.dialled(); got != "PEE" {
				t.Errorf("dialled %q", got)
			}
			failed.mu.Lock()
			defer failed.mu.Unlock()
			if failed.all.Len() > 0 {
				t.Errorf("dials failed:\n%s", &failed.all)
			}
		})
	}
}

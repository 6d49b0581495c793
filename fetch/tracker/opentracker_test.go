package tracker

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// opentracker runs the real tracker on a free port of host, for TCP and UDP, and returns its host:port. It serves the
// torrents of hashes.
func opentracker(t *testing.T, host string, hashes ...[20]byte) string {
	t.Helper()
	program, err := exec.LookPath("opentracker")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("opentracker is not installed")
		}
		t.Skip("opentracker is not installed (apt-get install opentracker)")
	}
	// Started as root it becomes nobody and changes its root to the directory, so that has to be open to all.
	dir := t.TempDir()
	var list bytes.Buffer
	for _, h := range hashes {
		fmt.Fprintln(&list, hex.EncodeToString(h[:]))
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "list"), list.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 5 { // somebody may take the port we found before opentracker does
		port := freePort(t, host)
		cmd := exec.Command(program, "-i", host, "-p", port, "-P", port, "-d", dir, "-w", "list")
		cmd.Dir = dir
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		addr := net.JoinHostPort(host, port)
		if answers(t, addr, ended, hashes) {
			t.Cleanup(func() {
				cmd.Process.Kill()
				<-ended
			})
			return addr
		}
		if strings.Contains(out.String(), "V4 only") {
			t.Skip("this opentracker is built without IPv6")
		}
		t.Logf("opentracker at %s ended: %s", addr, out.Bytes())
	}
	t.Fatal("opentracker does not start")
	return ""
}

// answers waits until a tracker at addr serves hashes, which it reads some time after it listens. It is false if
// ended comes first.
func answers(t *testing.T, addr string, ended <-chan error, hashes [][20]byte) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := newClient(t, ClientOptions{})
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for len(hashes) > 0 {
		// A stopped announce alone would not do: opentracker grants that before it has read its list.
		r := Request{InfoHash: hashes[0], Port: 1}
		_, err := c.Announce(ctx, "http://"+addr+"/announce", r)
		if err == nil {
			r.Event = Stopped
			_, err = c.Announce(ctx, "http://"+addr+"/announce", r)
		}
		if err == nil {
			hashes = hashes[1:]
			continue
		}
		select {
		case <-ended:
			return false
		case <-ctx.Done():
			t.Fatalf("opentracker at %s is not ready: %v", addr, err)
		case <-again.C:
		}
	}
	return true
}

// freePort finds a port of host that is free for TCP and UDP.
func freePort(t *testing.T, host string) string {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Skipf("no address %s here: %v", host, err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		p, err := net.ListenPacket("udp", net.JoinHostPort(host, port))
		l.Close()
		if err == nil {
			p.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

func TestOpentracker(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		for _, scheme := range []string{"http", "udp"} {
			t.Run(scheme+" "+host, func(t *testing.T) {
				t.Parallel()
				r := sample()
				url := scheme + "://" + opentracker(t, host, r.InfoHash) + "/announce"
				c := newClient(t, ClientOptions{})

				// A leecher and a seed join, and see each other.
				resp, err := announce(t, c, url, r)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Interval <= 0 {
					t.Errorf("no interval: %+v", resp)
				}
				seed := r
				seed.Port, seed.Left = 6882, 0
				copy(seed.PeerID[:], "-TF0001-seedseedseed")
				resp, err = announce(t, c, url, seed)
				if err != nil {
					t.Fatal(err)
				}
				if want := netip.AddrPortFrom(netip.MustParseAddr(host), 6881); !slices.Contains(resp.Peers, want) {
					t.Errorf("the seed sees %v, want %v", resp.Peers, want)
				}
				r.Event = None
				if resp, err = announce(t, c, url, r); err != nil {
					t.Fatal(err)
				}
				want := netip.AddrPortFrom(netip.MustParseAddr(host), 6882)
				if !slices.Contains(resp.Peers, want) || resp.Seeders != 1 || resp.Leechers != 1 {
					t.Errorf("the leecher sees %+v, want %v, 1 seeder and 1 leecher", resp, want)
				}

				// The leecher completes, the seed leaves.
				r.Event, r.Left = Completed, 0
				if resp, err = announce(t, c, url, r); err != nil || resp.Seeders != 2 {
					t.Errorf("after completed: %+v, %v; want 2 seeders", resp, err)
				}
				seed.Event = Stopped
				if _, err = announce(t, c, url, seed); err != nil {
					t.Error(err)
				}
				r.Event = None
				if resp, err = announce(t, c, url, r); err != nil || resp.Seeders != 1 || slices.Contains(resp.Peers, want) {
					t.Errorf("after stopped: %+v, %v; want 1 seeder, not %v", resp, err, want)
				}

				// A torrent it does not serve is refused in its own words.
				other := sample()
				other.InfoHash[0]++
				_, err = announce(t, c, url, other)
				t.Logf("unlisted torrent: %v", err)
				if scheme == "http" && (err == nil || !strings.Contains(err.Error(), "not authorized")) {
					t.Errorf("unlisted torrent: %v", err)
				}
			})
		}
	}
}

// TestOpentrackerTiers runs the schedule against the real tracker, with a tier of a dead one first, and beside it one
// whose first tracker never answers.
func TestOpentrackerTiers(t *testing.T) {
	r := sample()
	live := opentracker(t, "127.0.0.1", r.InfoHash)
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dead := "http://127.0.0.1:" + freePort(t, "127.0.0.1") + "/announce"
	c := newClient(t, ClientOptions{})
	seed := r
	seed.Port, seed.Left = 7000, 0
	if _, err := announce(t, c, "http://"+live+"/announce", seed); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := make(chan string, 100)
	a := NewAnnouncer(c, [][]string{{dead}, {"udp://" + silent.LocalAddr().String(), "udp://" + live}, {"http://" + live + "/announce"}},
		func() Request { r := r; r.Event = None; return r },
		func(url string, peers []netip.AddrPort) {
			if slices.Contains(peers, netip.MustParseAddrPort("127.0.0.1:7000")) {
				found <- url
			}
		}, nil)
	var wg sync.WaitGroup
	wg.Go(func() { a.Run(ctx) })
	from := make(map[string]bool)
	for len(from) < 2 {
		select {
		case url := <-found:
			from[url] = true
		case <-ctx.Done():
			t.Fatalf("peers only from %v; %+v", from, a.Status())
		}
	}
	cancel()
	wg.Wait()
	resp, err := announce(t, c, "http://"+live+"/announce", seed)
	if err != nil || resp.Leechers != 0 {
		t.Errorf("after the end: %+v, %v; want no leecher", resp, err)
	}
}

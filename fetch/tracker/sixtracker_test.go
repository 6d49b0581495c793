package tracker

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestBittorrentTracker announces over IPv6 to a tracker that others wrote, by HTTP (BEP 7) and UDP (BEP 15).
func TestBittorrentTracker(t *testing.T) {
	script, err := filepath.Abs("../../.ci/node_modules/bittorrent-tracker/bin/cmd.js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(script); err != nil {
		t.Skip("bittorrent-tracker is not installed (make setup, where there is npm)")
	}
	for _, scheme := range []string{"http", "udp"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			r := sample()
			port := freePort(t, "::1")
			cmd := exec.Command("node", script, "--port", port, "--http", "--udp")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Skip(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
			addr := net.JoinHostPort("::1", port)
			if !answers(t, addr, ended, [][20]byte{r.InfoHash}) {
				ended <- nil
				t.Fatalf("it ended: %s", out.Bytes())
			}
			c := newClient(t, ClientOptions{})
			url := scheme + "://" + addr + "/announce"
			seed := r
			seed.Port, seed.Left = 6882, 0
			copy(seed.PeerID[:], "-TF0001-seedseedseed")
			if _, err := announce(t, c, url, seed); err != nil {
				t.Fatal(err)
			}
			resp, err := announce(t, c, url, r)
			want := netip.AddrPortFrom(netip.MustParseAddr("::1"), 6882)
			if err != nil || resp.Seeders != 1 {
				t.Errorf("%+v, %v; want a seeder", resp, err)
			}
			// By UDP it tells of IPv4 peers alone, whoever asks.
			if scheme == "http" && !slices.Contains(resp.Peers, want) {
				t.Errorf("%v; want %v", resp.Peers, want)
			}
			seed.Event = Stopped
			if _, err := announce(t, c, url, seed); err != nil {
				t.Error(err)
			}
		})
	}
}

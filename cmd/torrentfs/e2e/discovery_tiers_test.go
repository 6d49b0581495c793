package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestDeadTrackerFirst finds a seeder by opentracker, over HTTP and UDP, with a tracker before it that never answers, and
// tells by how much that delays the first byte.
func TestDeadTrackerFirst(t *testing.T) {
	t.Parallel()
	needMount(t)
	for _, scheme := range []string{"http", "udp"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			tr := newTracker(t)
			live := fmt.Sprintf("%s://127.0.0.1:%d/announce", scheme, tr.port)
			path := write(t, filepath.Join(t.TempDir(), scheme+".bin"), noise(30, 300_000))
			alone := byLibtorrent(t, path, making{trackers: []string{live}})
			tiers := byLibtorrent(t, path, making{trackers: []string{silentHTTP(t), silentUDP(t), live}})
			tr.serve(alone)
			seedByLibtorrent(t, alone, seeding{}) // announces by HTTP or UDP as the torrent says
			tr.awaitSeeders(alone, 1)
			fast, slow := firstByte(t, alone), firstByte(t, tiers)
			t.Logf("first byte after %v by the live tracker alone, after %v behind two dead ones: %v later",
				fast.Round(time.Millisecond), slow.Round(time.Millisecond), (slow - fast).Round(time.Millisecond))
		})
	}
}

// firstByte is how long it takes from starting a mount to the first bytes of its file. The file is then compared.
func firstByte(t *testing.T, tt torrent, flags ...string) time.Duration {
	t.Helper()
	binary(t)
	began := time.Now()
	m := mountTorrent(t, tt, flags...)
	f, err := os.Open(m.path(tt.name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	return took
}

// silentHTTP is a tracker that takes connections and never answers.
func silentHTTP(t testing.TB) (url string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return fmt.Sprintf("http://%s/announce", l.Addr()) // the kernel takes connections for as long as nobody accepts
}

// silentUDP is a tracker that never answers.
func silentUDP(t testing.TB) (url string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return fmt.Sprintf("udp://%s/announce", conn.LocalAddr())
}

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// TestSix finds a seeder over IPv6 alone, by a tracker that is asked by HTTP (BEP 7) or UDP (BEP 15), from a .torrent and
// from a magnet link. Debian's opentracker can't be that tracker, being built without IPv6.
func TestSix(t *testing.T) {
	t.Parallel()
	needMount(t)
	for _, scheme := range []string{"http", "udp"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			tracker := scheme + "://" + trackSix(t) + "/announce"
			tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "six.bin"), noise(31, 300_000)), making{trackers: []string{tracker}})
			seeder := runClients(t, nil, client{Settings: map[string]any{"listen_interfaces": "[::1]:0"}, Torrents: []role{tt.seeding()}})
			eventually(t, "the tracker knows the seeder", func() bool {
				return seeder.ended() || bytes.Contains(seeder.stderr(), []byte("received peers"))
			})
			for _, source := range []string{tt.file, tt.magnet() + "&tr=" + tracker} {
				m := startMount(t, nil, t.TempDir(), source, "--listen", "[::1]:0")
				output(t, "cmp", tt.original(tt.name), m.path(tt.name))
				m.interrupt()
			}
		})
	}
}

// trackSix runs a tracker on ::1, for HTTP and UDP, and gives its host:port.
func trackSix(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	l.Close()
	if err := buildTracker(); err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("::1", strconv.Itoa(freePort(t)))
	p := start(t, exec.Command(filepath.Join(filepath.Dir(built), "tracker"), addr))
	eventually(t, "the tracker listens", func() bool {
		nc, err := net.Dial("tcp6", addr)
		if err == nil {
			nc.Close()
		}
		return p.ended() || err == nil
	})
	return addr
}

// buildTracker builds the tracker of testdata, a module of its own, beside the torrentfs under test.
var buildTracker = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-C", "testdata/tracker", "-o", filepath.Join(filepath.Dir(built), "tracker"), ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the tracker: %w\n%s", err, out)
	}
	return nil
})

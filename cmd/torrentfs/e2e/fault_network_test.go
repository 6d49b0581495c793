package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outages are the ways in which the network of a host is away, each with the command that takes it away and the one that
// brings it back.
var outages = map[string]struct {
	down, up func(s *segment, host int)
}{
	"partition": { // the interface stays up, and nothing comes back
		func(s *segment, host int) { s.link(host, "nomaster") },
		func(s *segment, host int) { s.link(host, "master", "br0") },
	},
	"interface down": {
		func(s *segment, host int) { s.ipOn(host, "link", "set", "eth0", "down") },
		func(s *segment, host int) { s.ipOn(host, "link", "set", "eth0", "up") },
	},
	"another address": {
		func(s *segment, host int) { s.ipOn(host, "address", "flush", "dev", "eth0") },
		func(s *segment, host int) { s.ipOn(host, "address", "add", "10.77.0.99/24", "dev", "eth0") },
	},
}

// link changes a host's port of the bridge.
func (s *segment) link(host int, change ...string) {
	s.t.Helper()
	number := fmt.Sprint(host)
	hub := strings.TrimSuffix(s.names[host], number) + "hub"
	output(s.t, "ip", append([]string{"-n", hub, "link", "set", "port" + number}, change...)...)
}

// ipOn runs ip(8) on a host.
func (s *segment) ipOn(host int, args ...string) {
	s.t.Helper()
	output(s.t, "ip", append([]string{"-n", s.names[host]}, args...)...)
}

// TestFaultNetwork takes the network away under a mount: a read waits and goes on when it is back, without a new mount.
func TestFaultNetwork(t *testing.T) {
	t.Parallel()
	needMount(t)
	for name, o := range outages {
		for client, seed := range map[string]func(*testing.T, *segment, torrent) (addr string){
			"libtorrent": seedAtLibtorrent, "torrentfs": seedAtTorrentfs, "transmission": seedAtTransmission,
		} {
			t.Run(name+", "+client, func(t *testing.T) {
				t.Parallel()
				const mount, other = 0, 1
				s := newSegment(t, 2)
				want := noise(90, 12<<20+3)
				tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "away.bin"), want), making{piece: 256 << 10})
				addr := seed(t, s, tt)
				m := startMount(t, s.on(mount), t.TempDir(), tt.file, "--listen", ":0", "--peer", addr, "--readahead", "2MiB", "--read-timeout", "3m")
				f, err := os.Open(m.path(tt.name))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if err := readSame(f, want, span{0, 1 << 20}); err != nil {
					t.Fatal(err)
				}
				o.down(s, mount)
				cat := blockedCat(t, m.path(tt.name))
				time.Sleep(away())
				o.up(s, mount)
				back := time.Now()
				if code := cat.exit(); code != 0 {
					t.Fatalf("cat: exit code %d, %s", code, cat.stderr())
				}
				t.Logf("%v after the network was back, the whole file was read", time.Since(back).Round(time.Millisecond))
				if err := readSame(f, want, span{0, int64(len(want))}); err != nil {
					t.Error(err)
				}
				m.interrupt()
			})
		}
	}
}

// TestFaultNetworkDeadline takes the network away for longer than a read may wait.
func TestFaultNetworkDeadline(t *testing.T) {
	t.Parallel()
	needMount(t)
	s := newSegment(t, 2)
	want := noise(91, 4<<20+3)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "late.bin"), want), making{piece: 256 << 10})
	m := startMount(t, s.on(0), t.TempDir(), tt.file, "--listen", ":0", "--peer", seedAtLibtorrent(t, s, tt), "--readahead", "512KiB", "--read-timeout", "2s")
	f, err := os.Open(m.path(tt.name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := readSame(f, want, span{0, 100}); err != nil {
		t.Fatal(err)
	}
	outages["partition"].down(s, 0)
	if _, err := f.ReadAt(make([]byte, 100), 3<<20); !errors.Is(err, syscall.EIO) {
		t.Errorf("read without a network: %v, want EIO", err)
	}
	if err := readSame(f, want, span{0, 100}); err != nil {
		t.Errorf("what is here: %v", err)
	}
	outages["partition"].up(s, 0)
	eventually(t, "reads go on", func() bool { return readSame(f, want, span{3 << 20, 100}) == nil })
	m.interrupt()
}

// seedAtLibtorrent seeds on host 1 and gives the address.
func seedAtLibtorrent(t *testing.T, s *segment, tt torrent) (addr string) {
	t.Helper()
	addr = s.ip(1) + ":6881"
	runClients(t, s.on(1), client{
		Settings: map[string]any{"listen_interfaces": addr, "allow_multiple_connections_per_ip": false},
		Torrents: []role{tt.seeding()},
	})
	return addr
}

// seedAtTorrentfs does so with the program under test.
func seedAtTorrentfs(t *testing.T, s *segment, tt torrent) (addr string) {
	t.Helper()
	addr = s.ip(1) + ":6881"
	start(t, s.on(1)(exec.Command(binary(t), "seed", "--cache-dir", t.TempDir(), "--listen", addr, "--no-lsd", "--no-dht", "--no-trackers",
		tt.file, tt.original(tt.name))))
	return addr
}

// seedAtTransmission does so with transmission.
func seedAtTransmission(t *testing.T, s *segment, tt torrent) (addr string) {
	t.Helper()
	seedLocally(t, s, 1, tt, false)
	return fmt.Sprintf("%s:%d", s.ip(1), transmissionPort)
}

// TestFaultAnotherAddress gives a host another address, after which its mount still finds peers as before: on the local network,
// where a seeder comes up later, and in the DHT, where one announces itself later.
func TestFaultAnotherAddress(t *testing.T) {
	t.Parallel()
	needMount(t)
	const reader, far, third = 0, 1, 2
	t.Run("local network", func(t *testing.T) {
		t.Parallel()
		s := newSegment(t, 2)
		tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "moved.bin"), noise(92, 2<<20+3)), making{})
		m := startMount(t, s.on(reader), t.TempDir(), tt.file, "--listen", ":0", "--no-lsd=false", "--read-timeout", "3m")
		cat := blockedCat(t, m.path(tt.name))
		outages["another address"].down(s, reader)
		outages["another address"].up(s, reader)
		seedLocally(t, s, far, tt, true)
		if code := cat.exit(); code != 0 {
			t.Errorf("cat: exit code %d, %s", code, cat.stderr())
		}
		m.interrupt()
	})
	t.Run("DHT", func(t *testing.T) {
		t.Parallel()
		s := newSegment(t, 3)
		tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "moved.bin"), noise(93, 2<<20+3)), making{})
		boot := runClients(t, s.on(far), client{Settings: map[string]any{"listen_interfaces": s.ip(far) + ":6881", "enable_dht": true}})
		entry := s.ip(far) + ":6881"
		m := startMount(t, s.on(reader), t.TempDir(), tt.file, "--listen", ":6882", "--no-dht=false", "--dht-bootstrap", entry, "--read-timeout", "3m")
		eventually(t, "the mount is in the DHT", func() bool { return boot.stats()[0].Nodes > 0 })
		cat := blockedCat(t, m.path(tt.name))
		outages["another address"].down(s, reader)
		outages["another address"].up(s, reader)
		runClients(t, s.on(third), client{
			Settings: map[string]any{"listen_interfaces": s.ip(third) + ":6881", "enable_dht": true, "dht_bootstrap_nodes": entry},
			Torrents: []role{tt.seeding()},
		})
		if code := cat.exit(); code != 0 {
			t.Errorf("cat: exit code %d, %s", code, cat.stderr())
		}
		m.interrupt()
	})
}

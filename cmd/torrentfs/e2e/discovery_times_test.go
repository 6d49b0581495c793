package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
)

// timesVar names the environment variable that gives how many rounds the measurements of finding peers take. They mean
// something only where nothing else runs, print figures, and fail for wrong bytes alone.
const timesVar = "TORRENTFS_E2E_TIMES"

// found is how one way of finding a torrent's content is measured: mount is run with these, over again.
type found struct {
	name   string
	tt     torrent
	source string
	flags  []string
}

// timed tells how long each takes from the start of the program to the first byte. They take turns.
func timed(t *testing.T, all ...found) {
	t.Helper()
	rounds, err := strconv.Atoi(os.Getenv(timesVar))
	if err != nil {
		t.Fatal(err)
	}
	took := make([][]time.Duration, len(all))
	for range rounds {
		for i, f := range all {
			took[i] = append(took[i], f.firstByte(t))
		}
	}
	for i, f := range all {
		slices.Sort(took[i])
		t.Logf("%-32s median %4d ms, %4d to %4d", f.name, took[i][rounds/2].Milliseconds(), took[i][0].Milliseconds(), took[i][rounds-1].Milliseconds())
	}
}

// firstByte mounts once.
func (f found) firstByte(t *testing.T) time.Duration {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, f.tt.name)
	args := slices.Concat([]string{"mount"}, isolated(t), []string{"--log-level", "info"}, f.flags, []string{f.source, dir})
	cmd := fast(t)(exec.Command(binary(t), args...))
	began := time.Now()
	p := start(t, cmd)
	for head(path) != nil && !p.ended() {
		time.Sleep(500 * time.Microsecond)
	}
	took := time.Since(began)
	output(t, "cmp", f.tt.original(f.tt.name), path)
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	return took
}

// head reads the first byte of a file.
func head(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(make([]byte, 1), 0)
	return err
}

// TestTimes measures how long it takes to find peers.
func TestTimes(t *testing.T) {
	if os.Getenv(timesVar) == "" {
		t.Skip("measurements: set " + timesVar + " to a number of rounds")
	}
	needMount(t)
	for _, scheme := range []string{"http", "udp"} {
		t.Run(scheme+" tracker behind dead ones", func(t *testing.T) { timeDeadTrackers(t, scheme) })
	}
	t.Run("dht", timeDHT)
	for name, seed := range map[string]func(testing.TB, torrent, seeding) seeder{
		"transmission": seedByTransmission, "libtorrent": seedByLibtorrent, "aria2": seedByAria2, "torrentfs": seedByMount,
	} {
		t.Run("magnet, from "+name, func(t *testing.T) { timeMagnet(t, seed) })
	}
}

// timeDeadTrackers has the tracker that knows the seeder behind two that are dead, each in a tier of its own.
func timeDeadTrackers(t *testing.T, scheme string) {
	tr := newTracker(t)
	live := fmt.Sprintf("%s://127.0.0.1:%d/announce", scheme, tr.port)
	closed := fmt.Sprintf("127.0.0.1:%d/announce", freePort(t))
	path := write(t, filepath.Join(t.TempDir(), scheme+".bin"), noise(30, 300_000))
	var all []found
	for _, c := range []struct {
		name     string
		trackers []string
	}{
		{"alone", []string{live}},
		{"behind ones that are silent", []string{silentHTTP(t), silentUDP(t), live}},
		{"behind ones that refuse", []string{"http://" + closed, "udp://" + closed, live}},
	} {
		tt := byLibtorrent(t, path, making{trackers: c.trackers})
		all = append(all, found{name: c.name, tt: tt, source: tt.file})
	}
	tr.serve(all[0].tt)
	seedByLibtorrent(t, all[0].tt, seeding{})
	tr.awaitSeeders(all[0].tt, 1)
	timed(t, all...)
}

// ownDownload tells how long libtorrent takes by itself, from knowing the peer to its first piece.
func ownDownload(t *testing.T, r role) {
	t.Helper()
	r.Folder = t.TempDir()
	c := runClients(t, nil, client{Settings: map[string]any{"listen_interfaces": "127.0.0.1:0"}, Torrents: []role{r}})
	began := time.Now()
	eventually(t, "libtorrent's first piece", func() bool { return c.stats()[0].Done > 0 })
	t.Logf("%-32s        %4d ms", "libtorrent's own download", time.Since(began).Milliseconds())
}

// timeDHT has nothing but the DHT lead to the seeder: by a bootstrap node, by a saved routing table, and by one of whose
// nodes half are silent by now.
func timeDHT(t *testing.T) {
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "dht.bin"), noise(47, 300_000)), making{})
	// The bootstrap node is ours: one of libtorrent takes minutes to know those that come.
	other := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "other.bin"), noise(48, 30_000)), making{})
	entry := net.JoinHostPort("127.0.2.1", strconv.Itoa(freePort(t)))
	nobody := net.JoinHostPort("127.0.2.1", strconv.Itoa(freePort(t)))
	boot := start(t, fast(t)(exec.Command(binary(t), "seed", "--listen", entry, "--no-lsd", "--dht-bootstrap", nobody,
		"--cache-dir", t.TempDir(), other.file, other.folder)))
	eventually(t, "the bootstrap node runs", func() bool { return boot.ended() || bytes.Contains(boot.stderr(), []byte("msg=seeding")) })
	half := func(from int) (nodes []client) {
		for i := range 12 {
			nodes = append(nodes, node(fmt.Sprintf("127.0.2.%d", from+i), entry))
		}
		return nodes
	}
	staying := half(10)
	staying[0].Torrents = []role{tt.seeding()}
	seeder := runClients(t, nil, staying...)
	leaving := runClients(t, nil, half(30)...)
	eventually(t, "the seeder has announced itself", func() bool { return seeder.stats()[0].Nodes > 5 })
	joining := []string{"--no-dht=false", "--dht-bootstrap", entry}
	cold := func(name, source string) found { return found{name, tt, source, joining} }
	timed(t, cold("cold, by .torrent", tt.file), cold("cold, by magnet link", tt.magnet()))

	cache := t.TempDir()
	within(t, patience, "most nodes are saved", func() bool {
		m := mountTorrent(t, tt, slices.Concat(joining, []string{"--cache-dir", cache})...)
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		m.interrupt()
		return savedNodes(t, cache) >= 8
	})
	boot.kill()
	warm := func(name, source string) found {
		dir := t.TempDir()
		output(t, "cp", "-r", filepath.Join(cache, "state"), dir)
		return found{name, tt, source, []string{"--no-dht=false", "--dht-bootstrap", nobody, "--cache-size", "0", "--cache-dir", dir}}
	}
	timed(t, warm("warm, by .torrent", tt.file))
	leaving.signal(syscall.SIGSTOP)
	timed(t, warm("warm, half of it silent", tt.file))
}

// timeMagnet mounts with one peer, by .torrent and by magnet link, next door and far away.
func timeMagnet(t *testing.T, seed func(testing.TB, torrent, seeding) seeder) {
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "magnet.bin"), noise(70, 500_000)), making{
		info: map[string]any{"x-several-parts": strings.Repeat("metadata ", 10_000)},
	})
	s := seed(t, tt, seeding{})
	var all []found
	for _, rtt := range []time.Duration{0, 100 * time.Millisecond} {
		addr := s.addr()
		if rtt > 0 {
			p, err := fetchtest.Shape("127.0.0.1:0", addr, fetchtest.Link{Delay: rtt / 2})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			addr = p.Addr()
		}
		flags := []string{"--peer", addr}
		all = append(all, found{fmt.Sprintf("%v away, by .torrent", rtt), tt, tt.file, flags},
			found{fmt.Sprintf("%v away, by magnet link", rtt), tt, tt.magnet(), flags})
	}
	timed(t, all...)
	ownDownload(t, role{File: tt.file, Peers: []string{s.addr()}})
}

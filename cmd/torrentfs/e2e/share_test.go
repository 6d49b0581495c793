package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// shareVar names the environment variable that has the measurements of sharing run, which take a few minutes and mean
// something only where nothing else runs. They print figures, and fail for wrong bytes alone.
const shareVar = "TORRENTFS_E2E_SHARE"

func measuring(t *testing.T) {
	t.Helper()
	if os.Getenv(shareVar) == "" {
		t.Skip("a measurement: set " + shareVar)
	}
	needMount(t)
}

// leeching is the role of who downloads everything into folder.
func (tt torrent) leeching(folder string, peers ...string) role {
	return role{File: tt.file, Folder: folder, Peers: peers}
}

// awaitDone waits until all clients have n bytes and gives how long that took.
func (c *clients) awaitDone(n int) time.Duration {
	c.t.Helper()
	began := time.Now()
	eventually(c.t, "all have all", func() bool {
		for _, s := range c.stats() {
			if s.Done < int64(n) {
				return false
			}
		}
		return true
	})
	return time.Since(began)
}

// cpu is the processor time that a process has used.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] { // user and system, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

var quietAlerts = map[string]any{"listen_interfaces": "127.0.0.1:0", "alert_mask": errorsAndStatus}

// TestShareThroughput has two libtorrent leechers download from `torrentfs seed` and from libtorrent, in turns.
func TestShareThroughput(t *testing.T) {
	measuring(t)
	const size, leechers, rounds = 384 << 20, 2, 2
	path := write(t, filepath.Join(t.TempDir(), "share.bin"), noise(95, size))
	tt := byLibtorrent(t, path, making{piece: 1 << 20})
	download := func(name, addr string, p *process) {
		before := p.cpu()
		var all []client
		for range leechers {
			all = append(all, client{Settings: quietAlerts, Torrents: []role{tt.leeching(t.TempDir(), addr)}})
		}
		c := runClients(t, nil, all...)
		took := c.awaitDone(size)
		gib := float64(leechers*size) / (1 << 30)
		t.Logf("%-10s %4.0f MB/s, %.2f CPU-s/GiB", name, float64(leechers*size)/1e6/took.Seconds(), (p.cpu()-before).Seconds()/gib)
		c.kill()
	}
	for range rounds {
		port := freePort(t)
		s := start(t, exec.Command(fastBinary(t), "seed", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--no-dht", "--no-lsd",
			"--no-pex", "--log-level", "debug", tt.file, path))
		eventually(t, "the content is shared", func() bool { return bytes.Contains(s.stderr(), []byte(" msg=seeding ")) })
		download("torrentfs", fmt.Sprintf("127.0.0.1:%d", port), s)
		s.kill()
		l := runClients(t, nil, client{Settings: quietAlerts, Torrents: []role{tt.seeding()}})
		download("libtorrent", fmt.Sprintf("127.0.0.1:%d", l.ports[0]), l.process)
		l.kill()
	}
}

// fastBinary gives the path of a torrentfs without the race detector.
func fastBinary(t testing.TB) string {
	t.Helper()
	return fast(t)(exec.Command("torrentfs")).Path
}

// TestShareSparing reads from libtorrent seeders that limit their own rate, and so send in bursts, and has libtorrent download
// from them, in turns.
func TestShareSparing(t *testing.T) {
	measuring(t)
	const size, seeders, rate, rounds = 64 << 20, 8, 512 << 10, 2
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "sparing.bin"), noise(98, size)), making{piece: 256 << 10})
	seed := tt.seeding()
	seed.UploadLimit = rate
	var all []client
	for range seeders {
		all = append(all, client{Settings: quietAlerts, Torrents: []role{seed}})
	}
	c := runClients(t, nil, all...)
	var peers []string
	for _, port := range c.ports {
		peers = append(peers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	tell := func(name string, took time.Duration) {
		t.Logf("%-10s %.2f of what the seeders allow", name, size/took.Seconds()/(seeders*rate))
	}
	for range rounds {
		var flags []string
		for _, p := range peers {
			flags = append(flags, "--peer", p)
		}
		m := startMount(t, fast(t), t.TempDir(), tt.file, flags...)
		began := time.Now()
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		tell("torrentfs", time.Since(began))
		m.interrupt()
		l := runClients(t, nil, client{Settings: quietAlerts, Torrents: []role{tt.leeching(t.TempDir(), peers...)}})
		tell("libtorrent", l.awaitDone(size))
		l.kill()
	}
}

// TestShareTitForTat has two mounts read the same file in order at the same time, in the same swarm of libtorrent leechers that
// serve few and choose those that serve them; one of the two mounts gives nothing back. So do two that keep the torrent besides.
// Of each piece three leechers have a copy from the start, and none of them has all at the end: who has all has nothing to gain,
// and serves anybody. So does the seeder, which therefore serves the leechers alone.
func TestShareTitForTat(t *testing.T) {
	t.Run("read", func(t *testing.T) { compareUpload(t) })
	t.Run("keep", func(t *testing.T) { compareUpload(t, "--keep") })
}

// compareUpload measures what two mounts get from a tit-for-tat swarm, of which one does not upload.
func compareUpload(t *testing.T, flags ...string) {
	t.Helper()
	measuring(t)
	const size, others, rate, rounds = 512 << 20, 8, 1 << 20, 3
	const seconds = 60
	want := noise(96, size)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "tit.bin"), want), making{piece: 256 << 10})
	for range rounds {
		source, leechers, peers := titForTat(t, tt, want, others, rate)
		eventually(t, "the leechers know what they have", func() bool {
			return !slices.ContainsFunc(leechers.stats(), func(l clientStats) bool { return l.Done < size/others })
		})
		var read [2]int
		var errs [2]error
		var mounts []*mount
		var wg sync.WaitGroup
		end := time.Now().Add(seconds * time.Second)
		for i, more := range [][]string{nil, {"--no-upload"}} {
			flags := append(more, flags...)
			for _, p := range peers {
				flags = append(flags, "--peer", p)
			}
			m := startMount(t, fast(t), t.TempDir(), tt.file, flags...)
			mounts = append(mounts, m)
			wg.Go(func() { read[i], errs[i] = readUntil(m.path(tt.name), want, end) })
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		most := int64(0)
		for _, l := range leechers.stats() {
			most = max(most, l.Done)
		}
		for i, m := range mounts {
			m.interrupt()
			_, moved, _ := strings.Cut(string(m.stderr()), " msg=unmounted ")
			t.Logf("%s in %d s: %s, read in order %.1f MiB", [2]string{"with upload", "--no-upload"}[i], seconds,
				strings.TrimSpace(moved), float64(read[i])/(1<<20))
		}
		t.Logf("no leecher has more than %d of %d MiB", most>>20, size>>20)
		leechers.kill()
		source.kill()
	}
}

// readUntil reads a file from its first byte on and compares it, until the time has come, and gives how many bytes it read.
func readUntil(path string, want []byte, end time.Time) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const step = 128 << 10
	for time.Now().Before(end) && n < len(want) {
		if err := readSame(f, want, span{int64(n), int64(min(step, len(want)-n))}); err != nil {
			return n, err
		}
		n += step
	}
	return min(n, len(want)), nil
}

// titForTat starts a seeder and others that download from it and from each other, which are the peers. Each of them sends rate
// bytes a second to three peers and to one more that goes round. Rounds of choking are three times as short as usual.
func titForTat(t *testing.T, tt torrent, content []byte, others, rate int) (source, leechers *clients, peers []string) {
	t.Helper()
	listening := func(port int) map[string]any {
		return map[string]any{
			"listen_interfaces": fmt.Sprintf("127.0.0.1:%d", port), "alert_mask": errorsAndStatus,
			"unchoke_slots_limit": 4, "num_optimistic_unchoke_slots": 1, "choking_algorithm": 0,
			"unchoke_interval": 5, "optimistic_unchoke_interval": 10,
		}
	}
	seed := tt.seeding()
	seed.UploadLimit = rate
	source = runClients(t, nil, client{Settings: listening(0), Torrents: []role{seed}, Choosy: true})
	seeder := fmt.Sprintf("127.0.0.1:%d", source.ports[0])
	var all []client
	for _, folder := range deal(t, tt.name, content, 256<<10, others, 3) {
		port := freePort(t)
		leech := tt.leeching(folder, append([]string{seeder}, peers...)...)
		leech.UploadLimit = rate
		all = append(all, client{Settings: listening(port), Torrents: []role{leech}, Choosy: true})
		peers = append(peers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return source, runClients(t, nil, all...), peers
}

// deal makes a folder for each of so many clients, in which a file of that name has some of the pieces, and zeros elsewhere. Each
// piece is in copies of them.
func deal(t *testing.T, name string, content []byte, piece, clients, copies int) (folders []string) {
	t.Helper()
	var files []*os.File
	for range clients {
		folder := t.TempDir()
		f, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		folders, files = append(folders, folder), append(files, f)
	}
	chance := rand.New(rand.NewPCG(99, 99))
	for off := 0; off < len(content); off += piece {
		for _, i := range chance.Perm(clients)[:copies] {
			if _, err := files[i].WriteAt(content[off:min(off+piece, len(content))], int64(off)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return folders
}

// TestShareLimits measures what --download-limit and --upload-limit let through in ten seconds.
func TestShareLimits(t *testing.T) {
	measuring(t)
	const size, limit, seconds = 64 << 20, 4_000_000, 10
	path := write(t, filepath.Join(t.TempDir(), "limits.bin"), noise(97, size))
	tt := byLibtorrent(t, path, making{piece: 256 << 10})
	over := func(what string, count func() int64) {
		t.Helper()
		first := count()
		eventually(t, "it has begun", func() bool { return count() > first+limit })
		before, began := count(), time.Now()
		time.Sleep(seconds * time.Second)
		took := time.Since(began).Seconds()
		t.Logf("%s: %.3f of the limit over %.1f s", what, float64(count()-before)/took/limit, took)
	}
	port := freePort(t)
	seedTorrent(t, tt, "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--upload-limit", "4MB/s")
	leech := runClients(t, nil, client{Settings: quietAlerts, Torrents: []role{tt.leeching(t.TempDir(), fmt.Sprintf("127.0.0.1:%d", port))}})
	over("--upload-limit", func() int64 { return leech.stats()[0].Done })
	leech.kill()
	source := runClients(t, nil, client{Settings: quietAlerts, Torrents: []role{tt.seeding()}})
	m := startMount(t, fast(t), t.TempDir(), tt.file, "--download-limit", "4MB/s", "--peer", fmt.Sprintf("127.0.0.1:%d", source.ports[0]))
	reader := start(t, exec.Command("cat", m.path(tt.name)))
	over("--download-limit", func() int64 { return source.stats()[0].Uploaded })
	reader.kill()
}

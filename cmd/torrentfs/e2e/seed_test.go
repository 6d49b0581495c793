package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// seedTorrent has `torrentfs seed` share the original of a torrent, and waits until it does. At the end of the test at
// the latest it is ended as by Ctrl-C, and must then exit cleanly.
func seedTorrent(t testing.TB, tt torrent, flags ...string) *process {
	t.Helper()
	args := slices.Concat([]string{"seed"}, isolated(t), flags, []string{tt.file, tt.original(tt.name)})
	p := start(t, exec.Command(binary(t), args...))
	t.Cleanup(func() {
		p.signal(syscall.SIGINT)
		if code := p.exit(); code != 0 {
			t.Errorf("seed exited with code %d:\n%s", code, tail(p.stderr()))
		}
	})
	eventually(t, "the content is shared", func() bool { return p.ended() || bytes.Contains(p.stderr(), []byte(" msg=seeding ")) })
	return p
}

// byTorrentfs makes a torrent of a file or folder with `torrentfs create`.
func byTorrentfs(t testing.TB, path string, m making) torrent {
	t.Helper()
	out := filepath.Join(t.TempDir(), "torrentfs.torrent")
	args := []string{"create", path, "-o", out}
	if m.piece > 0 {
		args = append(args, "--piece-size", fmt.Sprint(m.piece))
	}
	for _, url := range m.trackers {
		args = append(args, "--tracker", url)
	}
	output(t, binary(t), args...)
	return torrent{file: out, hash: shownHash(t, out), folder: filepath.Dir(path), name: filepath.Base(path)}
}

// leecher is another client that downloads the whole of a torrent.
type leecher struct {
	name string
	// fetch downloads into dir from the one source there is, which share starts: it listens on port, and dials the peers
	// that its flags name.
	fetch func(t *testing.T, tt torrent, tr *tracker, dir string, port int, share func(flags ...string))
}

var leechers = []leecher{
	{"transmission", func(t *testing.T, tt torrent, _ *tracker, dir string, _ int, share func(...string)) {
		// It dials nobody on loopback, so it is dialled.
		d := startTransmission(t, tt, 0, map[string]any{"download-dir": dir})
		share("--peer", d.addr())
		d.awaitAll(tt)
	}},
	{"libtorrent", func(t *testing.T, tt torrent, _ *tracker, dir string, port int, share func(...string)) {
		share()
		outputOf(t, libtorrent(t, "fetch", map[string]any{"torrent": tt.file, "folder": dir, "peer": []any{"127.0.0.1", port}}))
	}},
	{"aria2", func(t *testing.T, tt torrent, tr *tracker, dir string, _ int, share func(...string)) {
		need(t, "aria2c")
		share()
		eventually(t, "the tracker knows the source", func() bool {
			seeders, others, err := tr.scrape(tt)
			return err == nil && seeders+others == 1
		})
		outputOf(t, exec.Command("aria2c", "--dir="+dir, "--seed-time=0", "--no-conf", "--enable-dht=false",
			fmt.Sprintf("--listen-port=%d", freePort(t)), "--bt-enable-lpd=false", "--enable-peer-exchange=false",
			"--summary-interval=0", tt.file))
	}},
}

// album makes a folder of files of odd sizes.
func album(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "Album")
	write(t, filepath.Join(folder, "one.bin"), noise(31, 3<<20+1))
	write(t, filepath.Join(folder, "sub", "two.bin"), noise(32, 1<<20-7))
	write(t, filepath.Join(folder, "sub", "three.txt"), []byte(strings.Repeat("three ", 5000)))
	return folder
}

// TestSeed has other clients download a torrent whose only source is `torrentfs seed`.
func TestSeed(t *testing.T) {
	t.Parallel()
	folder := album(t)
	for _, l := range leechers {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			tr := newTracker(t)
			tt := byTorrentfs(t, folder, making{piece: 64 << 10, trackers: []string{tr.url()}})
			tr.serve(tt)
			dir, port := t.TempDir(), freePort(t)
			l.fetch(t, tt, tr, dir, port, func(flags ...string) {
				seedTorrent(t, tt, append(flags, "--listen", fmt.Sprintf("127.0.0.1:%d", port))...)
			})
			output(t, "diff", "-r", folder, filepath.Join(dir, tt.name))
		})
	}
}

// TestMountSeeds has other clients download a torrent whose only source is a mount that has read all of it.
func TestMountSeeds(t *testing.T) {
	t.Parallel()
	needMount(t)
	folder := album(t)
	for _, l := range leechers {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			tr := newTracker(t)
			tt := byTorrentfs(t, folder, making{piece: 64 << 10, trackers: []string{tr.url()}})
			tr.serve(tt)
			dir, port, store := t.TempDir(), freePort(t), t.TempDir()
			// The original source tells no tracker.
			original := seedByLibtorrent(t, byTorrentfs(t, folder, making{piece: 64 << 10}), seeding{})
			m := mountTorrent(t, tt, "--no-trackers", "--cache-dir", store, "--peer", original.addr())
			output(t, "diff", "-r", folder, m.path(tt.name))
			original.kill()
			m.interrupt()
			l.fetch(t, tt, tr, dir, port, func(flags ...string) {
				mountTorrent(t, tt, append(flags, "--cache-dir", store, "--listen", fmt.Sprintf("127.0.0.1:%d", port))...)
			})
			output(t, "diff", "-r", folder, filepath.Join(dir, tt.name))
		})
	}
}

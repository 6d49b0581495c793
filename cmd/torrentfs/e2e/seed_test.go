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
	fetch func(t *testing.T, tt torrent, d demand, dir string, port int, share func(flags ...string))
	knows []demand
	asks  bool // a tracker, which is started for it; libtorrent would dial who is found there in plaintext first
}

var leechers = []leecher{
	{"transmission", func(t *testing.T, tt torrent, d demand, dir string, _ int, share func(...string)) {
		// It dials nobody on loopback, so it is dialled.
		settings := map[string]any{"download-dir": dir}
		if d == encrypted {
			settings["encryption"] = transmissionEncrypts
		}
		daemon := startTransmission(t, tt, 0, settings)
		share("--peer", daemon.addr())
		daemon.awaitAll(tt)
	}, []demand{anything, encrypted}, false},
	{"libtorrent", func(t *testing.T, tt torrent, d demand, dir string, port int, share func(...string)) {
		share()
		outputOf(t, libtorrent(t, "fetch", map[string]any{
			"torrent": tt.file, "folder": dir, "peer": []any{"127.0.0.1", port}, "settings": libtorrentDemands(d),
		}))
	}, []demand{anything, encrypted, greeting}, false},
	{"aria2", func(t *testing.T, tt torrent, d demand, dir string, _ int, share func(...string)) {
		need(t, "aria2c")
		share()
		outputOf(t, exec.Command("aria2c", slices.Concat([]string{"--dir=" + dir, "--seed-time=0", "--no-conf", "--enable-dht=false",
			fmt.Sprintf("--listen-port=%d", freePort(t)), "--bt-enable-lpd=false", "--enable-peer-exchange=false",
			"--summary-interval=0"}, aria2Demands[d], []string{tt.file})...))
	}, []demand{anything, encrypted, greeting}, true},
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

// TestOnlySource has other clients download a torrent whose only source is `torrentfs seed`, or a mount that has all of
// it in its cache, with all that either side can demand of a connection.
func TestOnlySource(t *testing.T) {
	t.Parallel()
	needMount(t)
	folder := album(t)
	const piece = 64 << 10

	// One mount reads everything from a source that tells no tracker; the others have copies of its cache.
	full := t.TempDir()
	tt := byTorrentfs(t, folder, making{piece: piece})
	original := seedByLibtorrent(t, tt, seeding{})
	m := mountTorrent(t, tt, "--cache-dir", full, "--peer", original.addr())
	output(t, "diff", "-r", folder, m.path(tt.name))
	m.interrupt()
	original.kill()

	sources := map[string]func(t *testing.T, tt torrent, flags ...string){
		"seed": func(t *testing.T, tt torrent, flags ...string) { seedTorrent(t, tt, flags...) },
		"mount": func(t *testing.T, tt torrent, flags ...string) {
			store := filepath.Join(t.TempDir(), "store")
			output(t, "cp", "-r", "--sparse=always", full, store)
			mountTorrent(t, tt, append(flags, "--cache-dir", store)...)
		},
	}
	for name, source := range sources {
		for _, l := range leechers {
			for _, c := range []struct {
				name, policy string
				demand       demand
				less         bool // not with transmission, which takes ten seconds to say that it is interested
			}{
				{"no demands", "allow", anything, false},
				{"encryption off here", "off", anything, true},
				{"required here", "require", anything, false},
				{"required there", "allow", encrypted, false},
				{"required on both sides", "require", encrypted, true},
				{"an encrypted greeting required there", "allow", greeting, false},
			} {
				if !slices.Contains(l.knows, c.demand) || c.less && l.name == "transmission" {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, %s", name, l.name, c.name), func(t *testing.T) {
					t.Parallel()
					m, tr := making{piece: piece}, newTracker(t)
					if l.asks {
						m.trackers = []string{tr.url()}
					}
					tt := byTorrentfs(t, folder, m)
					if l.asks {
						tr.serve(tt)
					}
					dir, port := t.TempDir(), freePort(t)
					l.fetch(t, tt, c.demand, dir, port, func(flags ...string) {
						source(t, tt, append(flags, "--encryption", c.policy, "--listen", fmt.Sprintf("127.0.0.1:%d", port))...)
						if l.asks {
							eventually(t, "the tracker knows the source", func() bool {
								seeders, others, err := tr.scrape(tt)
								return err == nil && seeders+others == 1
							})
						}
					})
					output(t, "diff", "-r", folder, filepath.Join(dir, tt.name))
				})
			}
		}
	}
}

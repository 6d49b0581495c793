package e2e

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// withTracker is a magnet link that names a tracker.
func (tt torrent) withTracker(tr *tracker) string {
	return tt.magnet() + "&dn=" + url.QueryEscape(tt.name) + "&tr=" + url.QueryEscape(tr.url())
}

// TestMagnetByTracker mounts magnet links that name nothing but a tracker, which leads to seeders of every make.
func TestMagnetByTracker(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "by tracker.bin"), noise(40, 3<<20+17))
	for name, seed := range map[string]func(testing.TB, torrent, seeding) seeder{
		"transmission": seedByTransmission, "libtorrent": seedByLibtorrent, "aria2": seedByAria2,
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracker(t)
			tt := byTransmission(t, path, making{trackers: []string{tr.url()}})
			tr.serve(tt)
			seed(t, tt, seeding{})
			tr.awaitSeeders(tt, 1)
			m := startMount(t, nil, t.TempDir(), tt.withTracker(tr))
			if got := listing(t, m.dir); !slices.Equal(got, []string{fmt.Sprintf("f %d %s", 3<<20+17, tt.name)}) {
				t.Errorf("the mount shows %q", got)
			}
			output(t, "cmp", path, m.path(tt.name))
		})
	}
}

// TestKindsOfSources mounts one torrent by everything that can name it.
func TestKindsOfSources(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "named.bin"), noise(41, 300_000))
	tt := byLibtorrent(t, path, making{})
	s := seedByLibtorrent(t, tt, seeding{})
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(tt.file))))
	defer server.Close()
	hash, err := hex.DecodeString(tt.hash)
	if err != nil {
		t.Fatal(err)
	}
	digits := base32.StdEncoding.EncodeToString(hash)
	for name, source := range map[string]string{
		"magnet":                tt.magnet(),
		"magnet in base32":      "MAGNET:?xt=urn:btih:" + strings.ToLower(digits),
		"magnet out of a page":  "magnet:?dn=x&amp;xt=urn:btih:" + strings.ToUpper(tt.hash),
		"info-hash":             tt.hash,
		"info-hash in capitals": strings.ToUpper(tt.hash),
		"info-hash in base32":   digits,
		"URL":                   server.URL + "/" + filepath.Base(tt.file),
	} {
		t.Run(name, func(t *testing.T) {
			m := startMount(t, nil, t.TempDir(), source, "--peer", s.addr())
			output(t, "cmp", path, m.path(tt.name))
		})
	}
	t.Run("magnet that names a peer", func(t *testing.T) {
		m := startMount(t, nil, t.TempDir(), tt.magnet()+"&x.pe="+s.addr())
		output(t, "cmp", path, m.path(tt.name))
	})
	t.Run("info", func(t *testing.T) {
		got := output(t, binary(t), "info", "--no-dht", "--no-lsd", "--cache-dir", t.TempDir(), "--peer", s.addr(), tt.magnet())
		if want := output(t, binary(t), "info", tt.file); !strings.Contains(got, tt.hash) || filesOf(got) != filesOf(want) {
			t.Errorf("by magnet link it is\n%s\nby file\n%s", got, want)
		}
	})
}

// TestMagnetNamesLink has the .torrent behind a link that a magnet names (xs, as) tried beside the swarm: it is enough, and
// one that is of no use, or never answers, keeps nobody waiting who has the metadata. Where strangers' links may lead to is
// a server at a public address.
func TestMagnetNamesLink(t *testing.T) {
	t.Parallel()
	needMount(t)
	r := newRouter(t)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "linked.bin"), noise(42, 300_000)), making{})
	other := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "other.bin"), noise(43, 300_000)), making{})
	seeder := fmt.Sprintf("9.9.9.1:%d", runClients(t, r.on(outside), client{
		Settings: map[string]any{"listen_interfaces": "9.9.9.1:0"}, Torrents: []role{tt.seeding()},
	}).ports[0])
	mux := http.NewServeMux()
	mux.HandleFunc("/right", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, tt.file) })
	mux.HandleFunc("/other", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, other.file) })
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	r.inside(outside, func() (err error) {
		server.Listener, err = net.Listen("tcp4", "9.9.9.1:0")
		return err
	})
	server.Start()
	t.Cleanup(server.Close)
	info := func(link string) string {
		return outputOf(t, r.on(inside)(exec.Command(binary(t), "info", "--no-dht", "--cache-dir", t.TempDir(), tt.magnet()+link)))
	}
	for _, key := range []string{"xs", "as"} {
		if got := info("&" + key + "=" + server.URL + "/right"); !strings.Contains(got, tt.name) {
			t.Errorf("by %s it is\n%s", key, got)
		}
	}
	for _, path := range []string{"/other", "/absent", "/silent"} {
		if got := info("&xs=" + server.URL + path + "&x.pe=" + seeder); !strings.Contains(got, tt.name) {
			t.Errorf("beside %s it is\n%s", path, got)
		}
	}
}

// filesOf gives the last paragraph of what info prints.
func filesOf(info string) string {
	_, files, _ := strings.Cut(info, "\n\n")
	return files
}

// TestMagnetAgain mounts a magnet link that was mounted before, with nobody left to ask: it is there at once.
func TestMagnetAgain(t *testing.T) {
	t.Parallel()
	root := sampleTree(t, false)
	tt := byLibtorrent(t, root, making{piece: 32 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	cacheDir := t.TempDir()
	m := startMount(t, nil, t.TempDir(), tt.magnet(), "--cache-dir", cacheDir, "--peer", s.addr())
	want := listing(t, m.dir) // and nothing is read
	m.interrupt()
	for _, source := range []string{tt.magnet(), tt.hash} {
		m := startMount(t, nil, t.TempDir(), source, "--cache-dir", cacheDir)
		if got := listing(t, m.dir); !slices.Equal(got, want) {
			t.Errorf("by %s the mount shows\n%s\nat first\n%s", source, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		m.interrupt()
	}

	m = startMount(t, nil, t.TempDir(), tt.magnet(), "--cache-dir", cacheDir, "--peer", s.addr())
	output(t, "diff", "--recursive", root, m.path(tt.name))
	m.interrupt()
	s.kill()
	m = startMount(t, nil, t.TempDir(), tt.hash, "--cache-dir", cacheDir)
	output(t, "diff", "--recursive", root, m.path(tt.name))
	m.interrupt()

	output(t, binary(t), "cache", "rm", "--cache-dir", cacheDir, tt.magnet())
	if left := blocks(cacheDir); left > 1<<20 {
		t.Errorf("after its removal the cache still takes %d bytes", left)
	}
	p := start(t, exec.Command(binary(t), "mount", "--no-dht", "--no-lsd", "--cache-dir", cacheDir, tt.hash, t.TempDir()))
	if code := p.exit(); code != 1 || !strings.Contains(string(p.stderr()), "nobody to ask") {
		t.Errorf("exit code %d\n%s", code, p.stderr())
	}
}

// TestNotice mounts a magnet link before there is anybody who knows it.
func TestNotice(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--no-wait", "--daemon"} {
		t.Run(flag, func(t *testing.T) {
			needMount(t)
			path := write(t, filepath.Join(t.TempDir(), "later.bin"), noise(42, 300_000))
			tt := byLibtorrent(t, path, making{})
			port, dir := freePort(t), t.TempDir()
			peer := fmt.Sprintf("127.0.0.1:%d", port)
			if flag == "--no-wait" {
				startMount(t, nil, dir, tt.magnet(), flag, "--peer", peer)
			} else {
				t.Cleanup(func() {
					if mounted(t, dir) {
						output(t, binary(t), "unmount", dir)
					}
				})
				output(t, binary(t), slices.Concat([]string{"mount", flag, "--peer", peer}, isolated(t), []string{tt.magnet(), dir})...)
			}
			if got := listing(t, dir); len(got) != 1 || !strings.HasSuffix(got[0], " torrentfs-status.txt") {
				t.Errorf("the mount shows %q", got)
			}
			said, err := os.ReadFile(filepath.Join(dir, "torrentfs-status.txt"))
			if err != nil || !strings.Contains(string(said), tt.hash) {
				t.Errorf("it says %q, %v", said, err)
			}
			seedByLibtorrent(t, tt, seeding{port: port})
			eventually(t, "the content takes the notice's place", func() bool {
				return slices.Equal(listing(t, dir), []string{"f 300000 " + tt.name})
			})
			output(t, "cmp", path, filepath.Join(dir, tt.name))
		})
	}
}

// TestSelection mounts a magnet link that selects files: the others are not there, and nothing of them is downloaded.
func TestSelection(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "several")
	for i := range 6 {
		write(t, filepath.Join(root, fmt.Sprintf("%d.bin", i)), noise(byte(i), 1<<20))
	}
	tt := byTransmission(t, root, making{piece: 64 << 10}) // which orders the files by name
	s := seedByLibtorrent(t, tt, seeding{})
	m := startMount(t, nil, t.TempDir(), tt.magnet()+"&so=1,3-4", "--peer", s.addr())
	if got, want := listing(t, m.path(tt.name)), []string{"f 1048576 1.bin", "f 1048576 3.bin", "f 1048576 4.bin"}; !slices.Equal(got, want) {
		t.Errorf("the mount shows %q, want %q", got, want)
	}
	for _, name := range []string{"1.bin", "3.bin", "4.bin"} {
		output(t, "cmp", filepath.Join(root, name), filepath.Join(m.path(tt.name), name))
	}
	if got := s.uploaded(); got > 5<<20 {
		t.Errorf("the seeder gave %d bytes for 3 MiB", got)
	}
}

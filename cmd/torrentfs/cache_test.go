package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// shared is a folder that a swarm in this process shares.
type shared struct {
	*swarm
	folder string
	link   string // a magnet link
	closed bool
}

// share makes a folder of a large file, a small program and an empty file, and shares it.
func share(t *testing.T) *shared {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "shared")
	large := make([]byte, 3<<20+17)
	_, _ = rand.NewChaCha8([32]byte([]byte(t.Name() + strings.Repeat(".", 32))[:32])).Read(large)
	for name, content := range map[string][]byte{"large": large, "sub/program": []byte("#!/bin/sh\n"), "sub/empty": nil} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s, err := startSwarm(t.Context(), folder, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	link := metainfo.Magnet{InfoHash: s.torrent.InfoHash, Name: "shared", Trackers: []string{s.tracker}}
	sh := &shared{swarm: s, folder: folder, link: link.String()}
	t.Cleanup(sh.end)
	return sh
}

// end stops sharing.
func (s *shared) end() {
	if !s.closed {
		s.closed = true
		_ = s.close() // what it says concerns nobody here
	}
}

// file writes the .torrent file, without its tracker.
func (s *shared) file(t *testing.T) string {
	t.Helper()
	b, err := metainfo.Create(t.Context(), s.folder, metainfo.CreateOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "shared.torrent")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// compare reads the files of a mount.
func (s *shared) compare(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		want, err := os.ReadFile(filepath.Join(s.folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "shared", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
}

// mountAt starts a mount that keeps to this machine.
func mountAt(t *testing.T, dir, cacheDir string, args ...string) *running {
	t.Helper()
	args = append([]string{"mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", "--cache-dir", cacheDir}, args...)
	return startProgram(t, "msg=mounted", append(args, dir)...)
}

func (r *running) unmount() {
	r.t.Helper()
	r.signal(unix.SIGTERM)
	r.end()
}

// list returns what `cache ls --json` says.
func list(t *testing.T, cacheDir string) (all []cachedJSON) {
	t.Helper()
	got := runProgram(t, "cache", "ls", "--json", "--cache-dir", cacheDir)
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	if err := json.Unmarshal([]byte(got.stdout), &all); err != nil || all == nil {
		t.Fatalf("%v in %s", err, got.stdout)
	}
	return all
}

func TestCacheServesOffline(t *testing.T) {
	dir, cacheDir := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	s := share(t)
	hash := s.torrent.InfoHash.String()
	r := mountAt(t, dir, cacheDir, s.link)
	s.compare(t, dir, "large", "sub/program", "sub/empty")
	r.unmount()
	s.end()

	for _, again := range []string{s.link, hash, s.file(t)} {
		r := mountAt(t, dir, cacheDir, "--no-trackers", again)
		s.compare(t, dir, "large", "sub/program", "sub/empty")
		r.unmount()
	}
	if got := runProgram(t, "info", "--no-dht", "--no-lsd", "--cache-dir", cacheDir, hash); got.code != exitOK || !strings.Contains(got.stdout, s.tracker) {
		t.Errorf("the tracker is not remembered: %+v", got)
	}
}

func TestCacheVerbs(t *testing.T) {
	dir, cacheDir := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	verb := func(want result, args ...string) {
		t.Helper()
		got := runProgram(t, append([]string{"cache", "--cache-dir", cacheDir}, args...)...)
		if got.code != want.code || !regexp.MustCompile(`^(?s:`+want.stdout+`)$`).MatchString(got.stdout) ||
			!regexp.MustCompile(`^(?s:`+want.stderr+`)$`).MatchString(got.stderr) {
			t.Errorf("%q: %+v\nwant %+v", args, got, want)
		}
	}
	if all := list(t, cacheDir); len(all) != 0 {
		t.Errorf("in a cache that does not exist: %+v", all)
	}
	verb(result{0, " +0 B  in 0 torrents\n", ""}, "ls")
	verb(result{0, "the cache is empty\n", ""}, "verify")
	verb(result{0, "the cache is empty\n", ""}, "rm", "--all")

	s := share(t)
	hash := s.torrent.InfoHash.String()
	data := filepath.Join(cacheDir, hash+".data")
	started := time.Now().Add(-time.Second)
	r := mountAt(t, dir, cacheDir, s.link)
	s.compare(t, dir, "sub/program") // and with it all of the last piece
	if all := list(t, cacheDir); len(all) != 1 || !all[0].InUse || all[0].InfoHash != hash {
		t.Errorf("%+v", all)
	}
	verb(result{0, ".* shared  \\(in use\\)\n.*", ""}, "ls")
	verb(result{1, "", "torrentfs: shared: a mount is using it; unmount that first\n"}, "rm", hash)
	verb(result{1, "", "torrentfs: shared: a mount is using it; unmount that first\n"}, "rm", "--all")
	verb(result{0, "shared: 1 piece, all right\n", ""}, "verify") // a mount in use is no hindrance
	r.unmount()

	all := list(t, cacheDir)
	if len(all) != 1 || all[0].Name != "shared" || all[0].InUse || all[0].Kept || all[0].Complete <= 0 || all[0].Complete >= 1 ||
		all[0].Present > all[0].Disk || all[0].Size != s.torrent.Length || all[0].LastUse == nil || all[0].LastUse.Before(started) {
		t.Errorf("%+v", all)
	}
	// What is complete is exported, and what is not is named.
	dest := filepath.Join(t.TempDir(), "dest")
	verb(result{1, "exported 2 files to .*\n", `torrentfs: shared/large: [\d.]+ MiB of it are not in the cache\n`}, "export", s.link, dest)
	verb(result{1, "", `.*sub/program: file already exists\n`}, "export", hash, dest)
	verb(result{0, "exported 1 file to .*\n", ""}, "export", s.link+"&so=1", filepath.Join(dest, "selected"))
	if got, err := os.ReadFile(filepath.Join(dest, "shared", "sub", "program")); err != nil || string(got) != "#!/bin/sh\n" {
		t.Errorf("exported: %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dest, "shared", "large")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an incomplete file was exported: %v", err)
	}

	// All of it, kept.
	r = mountAt(t, dir, cacheDir, "--keep", s.link)
	waitFor(t, "everything is kept", func() bool { all = list(t, cacheDir); return all[0].Complete == 1 && all[0].Kept })
	r.unmount()
	verb(result{0, ".* 100% .* shared  \\(kept\\)\n.*", ""}, "ls")
	whole := filepath.Join(t.TempDir(), "whole")
	verb(result{0, "exported 3 files to .*\n", ""}, "export", s.file(t), whole)
	s.compare(t, whole, "large", "sub/program", "sub/empty")

	// Damage is found, dropped and told.
	f, err := os.OpenFile(data, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 5); err != nil {
		t.Fatal(err)
	}
	verb(result{1, "", `torrentfs: shared: 1 piece of \d+ damaged, \d+ KiB, and dropped: they will be downloaded again\n`}, "verify")
	verb(result{0, `shared: \d+ pieces, all right\n`, ""}, "verify", hash)
	verb(result{0, `shared: \d+ pieces, all right\n`, ""}, "verify", strings.ToUpper(hash[:8]))
	verb(result{1, "", `torrentfs: '?` + hash[:7] + `'?: no such file.*`}, "verify", hash[:7])
	verb(result{1, "", `torrentfs: 0123456789ab: no such file, and no info-hash in the cache begins so.*`}, "verify", "0123456789ab")
	twin := hash[:39] + string('0'+(hash[39]+1)%2)
	if err := os.WriteFile(filepath.Join(cacheDir, "torrents", twin+".json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	verb(result{1, "", "torrentfs: " + hash[:9] + ": more than one info-hash .*" + hash + ".*\n"}, "rm", hash[:9])
	if err := os.Remove(filepath.Join(cacheDir, "torrents", twin+".json")); err != nil {
		t.Fatal(err)
	}
	verb(result{1, "exported 2 files .*", `torrentfs: shared/large: \d+ KiB of it are not in the cache\n`}, "export", hash, t.TempDir())

	// A mount without --keep leaves it kept, --keep=false does not.
	for flag, kept := range map[string]bool{"--keep=false": false, "--keep=true": true} {
		r = mountAt(t, dir, cacheDir, flag, hash)
		r.unmount()
		r = mountAt(t, dir, cacheDir, hash)
		r.unmount()
		if all = list(t, cacheDir); all[0].Kept != kept {
			t.Errorf("after %s: %+v", flag, all)
		}
	}

	verb(result{0, `removed shared, \S+ MiB\n`, ""}, "rm", hash[:12])
	verb(result{1, "", "torrentfs: " + hash + ": nothing of it is in the cache\n"}, "rm", hash)
	if left, err := filepath.Glob(filepath.Join(cacheDir, "*", hash+"*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCacheOfWhatIsNotRemembered(t *testing.T) {
	dir, cacheDir := t.TempDir(), t.TempDir()
	s := share(t)
	r := mountAt(t, dir, cacheDir, s.link)
	s.compare(t, dir, "sub/program")
	r.unmount()
	if err := os.RemoveAll(filepath.Join(cacheDir, "torrents")); err != nil {
		t.Fatal(err)
	}
	if got := runProgram(t, "cache", "verify", "--cache-dir", cacheDir); got.code != exitFailure || !strings.Contains(got.stderr, "name its .torrent file instead") {
		t.Errorf("%+v", got)
	}
	if got := runProgram(t, "cache", "verify", "--cache-dir", cacheDir, s.file(t)); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	if got := runProgram(t, "cache", "rm", "--all", "--cache-dir", cacheDir); got.code != exitOK || !strings.HasPrefix(got.stdout, "removed shared, ") {
		t.Errorf("%+v", got)
	}
}

func TestKeepNeedsRoom(t *testing.T) {
	needFUSE(t)
	cacheDir := t.TempDir()
	one, two := share(t), makeTorrent(t)
	r := mountAt(t, t.TempDir(), cacheDir, "--keep", one.file(t))
	r.unmount()
	for source, want := range map[string]string{
		one.file(t): "torrentfs: shared: it has 3.0 MiB .*: raise --cache-size to keep it\n",
		two:         "torrentfs: folder: it has 5.9 KiB .*, and other torrents that are kept have 3.0 MiB .*: raise --cache-size to keep it too\n",
	} {
		got := runProgram(t, "mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", "--keep", "--cache-size=3MB", "--cache-dir", cacheDir,
			source, t.TempDir())
		if got.code != exitFailure || !regexp.MustCompile("^"+want+"$").MatchString(got.stderr) {
			t.Errorf("%+v, want %s", got, want)
		}
	}
}

func TestCacheOff(t *testing.T) {
	dir, cacheDir := t.TempDir(), t.TempDir()
	s := share(t)
	r := mountAt(t, dir, cacheDir, "--cache-size=0", s.link)
	s.compare(t, dir, "large")
	r.unmount()
	if all := list(t, cacheDir); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

func TestMountByURL(t *testing.T) {
	dir, cacheDir := t.TempDir(), t.TempDir()
	s := share(t)
	file := s.file(t)
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(file))))
	defer server.Close()
	url := server.URL + "/" + filepath.Base(file)
	if got := runProgram(t, "info", "--no-dht", "--no-lsd", "--cache-dir", cacheDir, url+"x"); got.code != exitFailure || !strings.Contains(got.stderr, "404") {
		t.Errorf("%+v", got)
	}
	r := mountAt(t, dir, cacheDir, "--peer", s.seeders[0].Addr().String(), url)
	s.compare(t, dir, "large")
	r.unmount()
	server.Close()
	r = mountAt(t, dir, cacheDir, url)
	s.compare(t, dir, "large")
	r.unmount()
	if !strings.Contains(r.output.String(), "taking the torrent that this URL gave before") {
		t.Errorf("it does not warn:\n%s", r.output)
	}
}

func TestSelectedFiles(t *testing.T) {
	dir, cacheDir := t.TempDir(), t.TempDir()
	s := share(t)
	r := mountAt(t, dir, cacheDir, s.link+"&so=1-2")
	s.compare(t, dir, "sub/program", "sub/empty")
	if _, err := os.Stat(filepath.Join(dir, "shared", "large")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not selected: %v", err)
	}
	r.unmount()
	got := runProgram(t, "info", "--no-dht", "--no-lsd", "--cache-dir", cacheDir, s.link+"&so=1")
	if got.code != exitOK || strings.Contains(got.stdout, "large") || !strings.Contains(got.stdout, "shared/sub/") {
		t.Errorf("%+v", got)
	}
}

// TestNoWait looks at a mount before and after its torrent is found.
func TestNoWait(t *testing.T) {
	for _, how := range []string{"--no-wait", "--daemon"} {
		t.Run(how, func(t *testing.T) {
			dir, cacheDir := t.TempDir(), t.TempDir()
			s := share(t)
			there := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-there:
					http.ServeFile(w, r, s.file(t))
				case <-r.Context().Done():
				}
			}))
			defer server.Close()
			link := metainfo.Magnet{InfoHash: metainfo.Hash{1, 2, 3}, Name: "nowhere"}
			peer := "--peer=" + s.seeders[0].Addr().String() // who does not know the latter
			var r *running
			if how == "--no-wait" {
				r = mountAt(t, dir, cacheDir, how, peer, server.URL, link.String())
			} else {
				args := []string{"mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", "--cache-dir", cacheDir, how, peer, server.URL, link.String(), dir}
				if got := runProgram(t, args...); got.code != exitOK || !strings.Contains(got.stderr, "not_found_yet=2") {
					t.Fatalf("%+v", got)
				}
				t.Cleanup(func() {
					if mounted(t, dir) {
						runProgram(t, "unmount", dir)
					}
				})
			}
			notice := filepath.Join(dir, noticeName)
			said, err := os.ReadFile(notice)
			if err != nil || !strings.Contains(string(said), "looking for 2 torrents") || !strings.Contains(string(said), server.URL) {
				t.Errorf("it says %q, %v", said, err)
			}
			if err := os.WriteFile(notice, nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing to it: %v", err)
			}
			close(there)
			waitFor(t, "the torrent is there", func() bool { _, err := os.Stat(filepath.Join(dir, "shared")); return err == nil })
			s.compare(t, dir, "large")
			waitFor(t, "one search is left", func() bool {
				said, err := os.ReadFile(notice)
				return err == nil && strings.Contains(string(said), "looking for 1 torrent.") && !strings.Contains(string(said), server.URL)
			})
			if r != nil {
				r.unmount()
			} else if got := runProgram(t, "unmount", dir); got.code != exitOK {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestWaitEnds ends mounts that wait for a torrent that nobody knows.
func TestWaitEnds(t *testing.T) {
	needFUSE(t)
	link := metainfo.Magnet{InfoHash: metainfo.Hash{1, 2, 3}, Name: "nowhere", Peers: []string{"127.0.0.1:1"}}
	for name, test := range map[string]struct {
		flag string
		end  func(r *running, dir string)
		says string
	}{
		"timeout": {"--resolve-timeout=200ms", func(*running, string) {}, "torrentfs: magnet:.*: not found in 200ms: .*"},
		"signal":  {"--resolve-timeout=1h", func(r *running, _ string) { r.signal(unix.SIGINT) }, "torrentfs: interrupted\n"},
		"unmount": {"--resolve-timeout=1h", func(r *running, dir string) {
			waitFor(r.t, "it is mounted", func() bool { return mounted(r.t, dir) })
			if got := runProgram(r.t, "unmount", dir); got.code != exitOK {
				r.t.Errorf("%+v", got)
			}
		}, "torrentfs: unmounted before everything was found\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := startProgram(t, "looking for a torrent", "mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd",
				"--cache-dir", t.TempDir(), test.flag, link.String(), dir)
			test.end(r, dir)
			<-r.ended
			if code := r.cmd.ProcessState.ExitCode(); code != exitFailure || !regexp.MustCompile(test.says).MatchString(r.output.String()) {
				t.Errorf("exit code %d, output:\n%s", code, r.output)
			}
			if mounted(t, dir) {
				t.Error("still mounted")
			}
		})
	}
}

// waitFor polls until ok.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still waiting: %s", what)
		}
	}
}

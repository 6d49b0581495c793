package e2e

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRestart mounts again what was read before: nothing of it is downloaded a second time, and with no seeder alive all
// of it is there.
func TestRestart(t *testing.T) {
	t.Parallel()
	want := noise(30, 8<<20+99)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "restart.bin"), want), making{piece: 64 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	cacheDir := t.TempDir()
	m := startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", cacheDir, "--peer", s.addr())
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	m.interrupt()
	once := s.uploaded()
	if c := inCache(t, cacheDir, tt); c.Present != int64(len(want)) || c.Size != c.Present || c.InUse {
		t.Errorf("in the cache: %+v", c)
	}

	m = startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", cacheDir, "--peer", s.addr())
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	m.interrupt()
	if twice := s.uploaded(); twice != once {
		t.Errorf("after a restart the seeder gave %d bytes more", twice-once)
	}
	s.kill()
	for _, source := range []string{tt.file, tt.hash} {
		m = startMount(t, nil, t.TempDir(), source, "--cache-dir", cacheDir)
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		m.interrupt()
	}
}

// TestTwoProcesses reads the same torrent through two mounts with one cache directory, at once.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	want := noise(31, 6<<20+1)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "two.bin"), want), making{piece: 64 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	cacheDir := t.TempDir()
	var mounts []*mount
	for range 2 {
		mounts = append(mounts, startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", cacheDir, "--peer", s.addr()))
	}
	var reading sync.WaitGroup
	for i, m := range mounts {
		reading.Go(func() {
			f, err := os.Open(m.path(tt.name))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 200 {
				if err := readSame(f, want, span{random.Int64N(int64(len(want))), 1 + random.Int64N(200_000)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reading.Wait()
	for _, m := range mounts {
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		m.interrupt()
	}
	s.kill()
	m := startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", cacheDir)
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
}

// TestCacheTrouble mounts with something wrong with the cache's files or its directory: what is read is right all the same.
func TestCacheTrouble(t *testing.T) {
	t.Parallel()
	want := noise(32, 2<<20+5)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "trouble.bin"), want), making{piece: 1 << 20})
	s := seedByLibtorrent(t, tt, seeding{})
	full := t.TempDir() // a cache directory with all of it
	m := startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", full, "--peer", s.addr())
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	m.interrupt()

	change := func(ext, script string) func(testing.TB, string) {
		return func(t testing.TB, dir string) {
			t.Helper()
			outputOf(t, exec.Command("sh", "-euc", script, "sh", filepath.Join(dir, tt.hash+ext)))
		}
	}
	for name, c := range map[string]struct {
		harm func(t testing.TB, dir string)
		warn string // that the log has
	}{
		"flipped bits":        {change(".data", `printf wrong | dd of="$1" bs=1 seek=70000 conv=notrunc status=none`), "damaged"},
		"zeroed":              {change(".data", `dd if=/dev/zero of="$1" bs=1M count=1 conv=notrunc status=none`), "damaged"},
		"index deleted":       {change(".index", `rm "$1"`), ""},
		"index of nonsense":   {change(".index", `head -c 5000 /dev/urandom > "$1"`), ""},
		"index cut short":     {change(".index", `truncate -s 70 "$1"`), ""},
		"directory for data":  {change(".data", `rm "$1"; mkdir "$1"`), "disk cache"},
		"directory for index": {change(".index", `rm "$1"; mkdir "$1"`), "disk cache"},
		"remembered nonsense": {change("", `echo nonsense > "$(dirname "$1")/torrents/$(basename "$1").json"`), ""},
		"a file for the directory": {func(t testing.TB, dir string) {
			t.Helper()
			outputOf(t, exec.Command("sh", "-euc", `rm -r "$1"; echo > "$1"`, "sh", dir))
		}, "disk cache"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			output(t, "cp", "-a", full, dir)
			c.harm(t, dir)
			m := startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", dir, "--peer", s.addr())
			output(t, "cmp", tt.original(tt.name), m.path(tt.name))
			m.interrupt()
			if said := string(m.stderr()); !strings.Contains(said, c.warn) || strings.Count(said, "level=WARN") > 2 {
				t.Errorf("its log should warn of %q, and not often:\n%s", c.warn, tail(m.stderr()))
			}
		})
	}
	t.Run("a full disk", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Skipf("can't mount a small file system: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		m := startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", dir, "--peer", s.addr())
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		m.interrupt()
		if n := bytes.Count(m.stderr(), []byte("the disk cache can't be written")); n != 1 {
			t.Errorf("it should be said once, not %d times, that the disk is full:\n%s", n, tail(m.stderr()))
		}
	})
	t.Run("read only", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount(full, dir, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("can't mount a directory twice: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			t.Skipf("can't make it read-only: %v", err)
		}
		m := startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", dir)
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	})
}

// TestKeep fetches a torrent that nobody reads.
func TestKeep(t *testing.T) {
	t.Parallel()
	want := noise(33, 5<<20+7)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "keep.bin"), want), making{piece: 64 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	cacheDir := t.TempDir()
	m := startMount(t, nil, t.TempDir(), tt.file, "--cache-dir", cacheDir, "--peer", s.addr(), "--keep")
	eventually(t, "all of it is kept", func() bool {
		c := inCache(t, cacheDir, tt)
		return c.Kept && c.Present == c.Size
	})
	m.interrupt()
	s.kill()
	dest := t.TempDir()
	output(t, binary(t), "cache", "export", "--cache-dir", cacheDir, tt.hash, dest)
	output(t, "cmp", tt.original(tt.name), filepath.Join(dest, tt.name))

	small := start(t, exec.Command(binary(t), "mount", "--keep", "--cache-dir", cacheDir, "--cache-size", "1MB", "--no-dht", "--no-lsd",
		tt.file, t.TempDir()))
	if code := small.exit(); code != 1 || !strings.Contains(string(small.stderr()), "--cache-size") {
		t.Errorf("a torrent that can't be kept: exit code %d\n%s", code, small.stderr())
	}
}

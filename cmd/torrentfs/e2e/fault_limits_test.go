package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestFaultDescriptors floods a mount that may open few files with connections: what is read is right, whatever else is mounted
// and unmounted meanwhile; the log tells of it once, and the mount ends cleanly.
func TestFaultDescriptors(t *testing.T) {
	t.Parallel()
	want := noise(95, 6<<20+1)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "few.bin"), want), making{piece: 64 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	port := freePort(t)
	few := func(cmd *exec.Cmd) *exec.Cmd {
		wrapped := exec.Command("sh", append([]string{"-c", `ulimit -n 40; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)...)
		wrapped.Env, wrapped.Dir = cmd.Env, cmd.Dir
		return wrapped
	}
	m := startMount(t, few, t.TempDir(), tt.file, "--log-level", "info", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--peer", s.addr())
	for range 100 {
		nc, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	eventually(t, "the mount has run out of descriptors", func() bool { return strings.Contains(string(m.stderr()), "too many open files") })
	startMount(t, nil, t.TempDir(), tt.file).interrupt()
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	m.interrupt()
	if n := strings.Count(string(m.stderr()), "level=WARN"); n > 3 {
		t.Errorf("%d warnings", n)
	}
}

// group makes a control group of a kind, with a limit, and gives the directory that stands for it.
func group(t *testing.T, kind, limit, value string) (dir string, into func(*exec.Cmd) *exec.Cmd) {
	t.Helper()
	dir = fmt.Sprintf("/sys/fs/cgroup/%s/torrentfs-%d", kind, os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no control group of %s here: %v", kind, err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := os.WriteFile(filepath.Join(dir, limit), []byte(value), 0); err != nil {
		t.Skip(err)
	}
	as := fast(t)
	return dir, func(cmd *exec.Cmd) *exec.Cmd {
		cmd = as(cmd)
		wrapped := exec.Command("sh", append([]string{"-c", "echo $$ > " + dir + `/cgroup.procs; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)...)
		wrapped.Env, wrapped.Dir = cmd.Env, cmd.Dir
		return wrapped
	}
}

// TestFaultMemory reads far more than a mount may have memory, limited by a control group or by the runtime.
func TestFaultMemory(t *testing.T) {
	t.Parallel()
	want := noise(96, extent(96<<20, 1<<30))
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "much.bin"), want), making{piece: 1 << 20})
	s := seedByLibtorrent(t, tt, seeding{})
	for name, limited := range map[string]func(*testing.T) func(*exec.Cmd) *exec.Cmd{
		"control group": func(t *testing.T) func(*exec.Cmd) *exec.Cmd {
			_, into := group(t, "memory", "memory.limit_in_bytes", fmt.Sprint(96<<20))
			return into
		},
		"GOMEMLIMIT": func(t *testing.T) func(*exec.Cmd) *exec.Cmd { // less than it takes: it is a wish
			as := fast(t)
			return func(cmd *exec.Cmd) *exec.Cmd {
				cmd.Env = append(os.Environ(), "GOMEMLIMIT=24MiB")
				return as(cmd)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startMount(t, limited(t), t.TempDir(), tt.file, "--memory", "32MiB", "--peer", s.addr())
			for range 2 {
				output(t, "cmp", tt.original(tt.name), m.path(tt.name))
			}
			t.Logf("%v", m.usage())
			m.interrupt()
		})
	}
}

// TestFaultThreads refuses a mount every further thread, which Go's runtime may die of: readers get right bytes or an error, and
// the next mount at the same place has what this one had.
func TestFaultThreads(t *testing.T) {
	t.Parallel()
	want := noise(98, 24<<20+1)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "threads.bin"), want), making{piece: 256 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	dir, into := group(t, "pids", "pids.max", "max")
	cacheDir, place := t.TempDir(), t.TempDir()
	flags := []string{"--log-level", "info", "--cache-dir", cacheDir, "--memory", "16MiB", "--peer", s.addr()}
	m := startMount(t, into, place, tt.file, flags...)
	output(t, "cmp", "-n", "8000000", tt.original(tt.name), m.path(tt.name))
	now, err := os.ReadFile(filepath.Join(dir, "pids.current"))
	if err != nil {
		t.Fatal(err)
	}
	limit := func(n string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strings.TrimSpace(n)), 0); err != nil {
			t.Fatal(err)
		}
	}
	limit(string(now))
	var reading sync.WaitGroup
	var died atomic.Bool // or is about to, which takes a moment
	for reader := range 64 {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(98, uint64(reader)))
			f, err := os.Open(m.path(tt.name))
			if err != nil {
				died.Store(true)
				return
			}
			defer f.Close()
			for range 50 {
				_ = forgetPages(f)
				err := readSame(f, want, span{random.Int64N(int64(len(want))), 1 + random.Int64N(1<<20)})
				var errno syscall.Errno
				if err != nil && !errors.As(err, &errno) {
					t.Error(err)
				}
				if err != nil {
					died.Store(true)
					return
				}
			}
		})
	}
	reading.Wait()
	limit("max")
	if died.Load() {
		t.Logf("it has died, with exit code %d", m.exit())
		// With cgo, and without it.
		if said := string(m.stderr()); !strings.Contains(said, "pthread_create failed") && !strings.Contains(said, "failed to create new OS thread") {
			t.Errorf("of something else:\n%s", tail(m.stderr()))
		}
		m.watchdog.Stop()
	} else {
		t.Log("it has gone on")
		m.interrupt()
	}
	again := startMount(t, nil, place, tt.file, flags...)
	output(t, "cmp", tt.original(tt.name), again.path(tt.name))
	again.interrupt()
}

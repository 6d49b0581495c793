package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needMount skips the test where nothing can be mounted.
func needMount(t testing.TB) {
	t.Helper()
	need(t, "fusermount3")
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		missing(t, "nothing can be mounted here: %v (make setup)", err)
	}
	f.Close()
}

// lifetime bounds how long a mount may stay up. A mount that wedges takes whoever reads it along; ending its process
// sets them free.
const lifetime = 4 * time.Minute

// mount is a `torrentfs mount` in a process of its own.
type mount struct {
	*process
	dir      string
	watchdog *time.Timer
}

// isolated are the flags that keep a mount from looking for peers anywhere but where the test says, and from finding what
// others have downloaded, and make it talk.
func isolated(t testing.TB) []string {
	t.Helper()
	return []string{"--listen", "127.0.0.1:0", "--no-dht", "--no-pex", "--no-lsd", "--log-level", "debug", "--cache-dir", t.TempDir()}
}

// mountTorrent mounts a torrent at a new directory and waits until it is usable. At the end of the test at the latest it
// is ended as by Ctrl-C, and must then exit cleanly.
func mountTorrent(t testing.TB, tt torrent, flags ...string) *mount {
	t.Helper()
	return startMount(t, nil, t.TempDir(), tt.file, flags...)
}

// startMount mounts source at dir and waits until it says that it is ready. With as it is as another user that this
// happens.
func startMount(t testing.TB, as func(*exec.Cmd) *exec.Cmd, dir, source string, flags ...string) *mount {
	t.Helper()
	needMount(t)
	cmd := exec.Command(binary(t), slices.Concat([]string{"mount"}, isolated(t), flags, []string{source, dir})...)
	if as != nil {
		cmd = as(cmd)
	}
	m := &mount{process: start(t, cmd), dir: dir}
	m.watchdog = time.AfterFunc(lifetime, func() {
		t.Errorf("%s: still mounted after %v", dir, lifetime)
		m.signal(syscall.SIGQUIT)
	})
	t.Cleanup(func() {
		if !m.ended() {
			m.interrupt()
		}
		m.watchdog.Stop()
		if mounted(t, dir) {
			_ = exec.Command("fusermount3", "-u", "-z", dir).Run() // the test has failed already
		}
	})
	eventually(t, dir+" is mounted", func() bool {
		return m.ended() || mounted(t, dir) && bytes.Contains(m.stderr(), []byte(" msg=mounted "))
	})
	if m.ended() {
		t.Fatalf("mount exited with code %d:\n%s", m.exit(), tail(m.stderr()))
	}
	return m
}

// path gives where a file of the torrent is in the mount.
func (m *mount) path(name string) string { return filepath.Join(m.dir, name) }

// interrupt ends the mount as Ctrl-C does.
func (m *mount) interrupt() {
	m.t.Helper()
	m.signal(syscall.SIGINT)
	m.awaitEnd()
}

// awaitEnd waits until the mount's process has ended by itself, and cleanly.
func (m *mount) awaitEnd() {
	m.t.Helper()
	if code := m.exit(); code != 0 {
		m.t.Errorf("mount exited with code %d:\n%s", code, tail(m.stderr()))
	}
	m.watchdog.Stop()
	if mounted(m.t, m.dir) {
		m.t.Errorf("%s is still mounted after its process has ended", m.dir)
	}
}

// mounted says whether a file system of type fuse is mounted at dir.
func mounted(t testing.TB, dir string) bool {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 98:0 /root /mountpoint options - type source superoptions
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) > 4 && fields[4] == dir && strings.HasPrefix(after, "fuse") {
			return true
		}
	}
	return false
}

// dropCache forgets what the kernel has cached of a file, so that the next read asks the mount.
func dropCache(t testing.TB, f *os.File) {
	t.Helper()
	if err := forgetPages(f); err != nil {
		t.Fatal(err)
	}
}

// forgetPages is dropCache for goroutines other than the test's own.
func forgetPages(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

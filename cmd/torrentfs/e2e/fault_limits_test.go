package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaultDescriptors floods a mount that may open few files with connections: what is read is right, the log tells of it
// once, and the mount ends cleanly.
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
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	m.interrupt()
	if n := strings.Count(string(m.stderr()), "level=WARN"); n > 3 {
		t.Errorf("%d warnings", n)
	}
}

// TestFaultMemory reads far more than a mount may have memory, limited by a control group.
func TestFaultMemory(t *testing.T) {
	t.Parallel()
	const limit = 96 << 20
	group := fmt.Sprintf("/sys/fs/cgroup/memory/torrentfs-%d", os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("no control group for memory here: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(group) })
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(fmt.Sprint(limit)), 0); err != nil {
		t.Skip(err)
	}
	want := noise(96, extent(96<<20, 1<<30))
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "much.bin"), want), making{piece: 1 << 20})
	as := fast(t)
	limited := func(cmd *exec.Cmd) *exec.Cmd {
		cmd = as(cmd)
		wrapped := exec.Command("sh", append([]string{"-c", "echo $$ > " + group + `/cgroup.procs; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)...)
		wrapped.Env, wrapped.Dir = cmd.Env, cmd.Dir
		return wrapped
	}
	m := startMount(t, limited, t.TempDir(), tt.file, "--memory", "32MiB", "--peer", seedByLibtorrent(t, tt, seeding{}).addr())
	for range 2 {
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	}
	m.interrupt()
}

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lonely mounts a torrent that nobody seeds: every read waits.
func lonely(t *testing.T, flags ...string) (*mount, string) {
	t.Helper()
	tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "lonely.bin"), noise(3, 1<<20)), making{})
	m := mountTorrent(t, tt, flags...)
	return m, m.path(tt.name)
}

// blockedCat starts a cat of a file in a mount and waits until it is blocked in a read of it.
func blockedCat(t *testing.T, path string) *process {
	t.Helper()
	cat := start(t, exec.Command("cat", path))
	eventually(t, "cat is blocked", func() bool {
		if cat.ended() {
			t.Fatalf("cat ended:\n%s", cat.stderr())
		}
		return blocked(cat.cmd.Process.Pid, path)
	})
	return cat
}

// blocked says whether a process has path open and is inside a system call that reads.
func blocked(pid int, path string) bool {
	call, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	if err != nil {
		return false
	}
	number, err := strconv.Atoi(strings.Fields(string(call))[0])
	if err != nil { // "running"
		return false
	}
	reads := []int{unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_COPY_FILE_RANGE, unix.SYS_SPLICE, unix.SYS_SENDFILE}
	if !slices.Contains(reads, number) {
		return false
	}
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(open, func(fd string) bool {
		target, err := os.Readlink(fd)
		return err == nil && target == path
	})
}

func TestInterruptedRead(t *testing.T) {
	t.Parallel()
	m, path := lonely(t, "--read-timeout", "1h")
	for range 3 {
		cat := blockedCat(t, path)
		cat.signal(syscall.SIGINT)
		cat.exit()
		if by := cat.cmd.ProcessState.Sys().(syscall.WaitStatus); !by.Signaled() || by.Signal() != syscall.SIGINT {
			t.Errorf("cat ended with %v, want by SIGINT", cat.cmd.ProcessState)
		}
	}
	m.interrupt()
}

func TestSignalledMount(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(unix.SignalName(s), func(t *testing.T) {
			t.Parallel()
			m, path := lonely(t, "--read-timeout", "1h")
			cats := []*process{blockedCat(t, path), blockedCat(t, path), blockedCat(t, path)}
			m.signal(s)
			for _, cat := range cats {
				if code := cat.exit(); code != 1 {
					t.Errorf("cat ended with %v, want exit code 1", cat.cmd.ProcessState)
				}
			}
			m.awaitEnd()
		})
	}
}

// TestUnmounted ends mounts from the outside, as a user would.
func TestUnmounted(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]func(*testing.T, string) *exec.Cmd{
		"fusermount3": func(_ *testing.T, dir string) *exec.Cmd { return exec.Command("fusermount3", "-u", dir) },
		"torrentfs":   func(t *testing.T, dir string) *exec.Cmd { return exec.Command(binary(t), "unmount", dir) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, _ := lonely(t)
			outputOf(t, command(t, m.dir))
			m.awaitEnd()
		})
	}
}

// TestBusyMount ends a mount in which a process has its working directory and another a file open.
func TestBusyMount(t *testing.T) {
	t.Parallel()
	m, path := lonely(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sitting := in(m.dir, "cat") // waits for a standard input that stays open
	stdin, err := sitting.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	start(t, sitting)
	m.interrupt()
}

func TestNoPeers(t *testing.T) {
	t.Parallel()
	_, path := lonely(t, "--read-timeout", "2s")
	cat := start(t, exec.Command("cat", path))
	if code := cat.exit(); code != 1 || !strings.Contains(string(cat.stderr()), "Input/output error") {
		t.Errorf("cat: exit code %d, %s", code, cat.stderr())
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

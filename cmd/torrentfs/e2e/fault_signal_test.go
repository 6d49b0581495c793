package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFaultSignalledUnderManyReaders ends a mount by SIGTERM while 256 readers wait: each gets an error at once, and the process
// ends cleanly. What was read before that is right.
func TestFaultSignalledUnderManyReaders(t *testing.T) {
	t.Parallel()
	const readers, size = 256, 4096
	tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "many.bin"), noise(107, readers*size)), making{})
	for range extent(1, 20) {
		m := mountTorrent(t, tt, "--read-timeout", "1h")
		ends := make(chan error, readers)
		fds := make(map[string]bool, readers) // as /proc shows them
		for i := range readers {
			fd, err := unix.Open(m.path(tt.name), unix.O_RDONLY|unix.O_CLOEXEC|i%2*unix.O_DIRECT, 0)
			if err != nil {
				t.Fatal(err)
			}
			fds[fmt.Sprintf("%#x", fd)] = true
			go func() {
				defer unix.Close(fd)
				err := error(unix.EINTR)
				for errors.Is(err, unix.EINTR) { // a signal of Go's own, to preempt this thread
					_, err = unix.Pread(fd, make([]byte, size), int64(i)*size)
				}
				ends <- err
			}()
		}
		eventually(t, "all wait", func() bool { return len(inPread(fds)) == readers })
		m.signal(syscall.SIGTERM)
		m.awaitEnd()
		for range readers {
			if err := <-ends; !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("a reader ends with %v", err)
			}
		}
	}
}

// TestFaultStopped stops the program in the middle of a download, as a suspended machine does, and has it go on.
func TestFaultStopped(t *testing.T) {
	t.Parallel()
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "stopped.bin"), noise(111, 12<<20+1)), making{piece: 256 << 10})
	s := seedByLibtorrent(t, tt, seeding{limit: 4 << 20})
	m := mountTorrent(t, tt, "--peer", s.addr())
	reader := start(t, exec.Command("cmp", tt.original(tt.name), m.path(tt.name)))
	eventually(t, "some of it is here", func() bool { return s.uploaded() > 1<<20 || reader.ended() })
	m.signal(syscall.SIGSTOP)
	time.Sleep(away())
	m.signal(syscall.SIGCONT)
	if code := reader.exit(); code != 0 {
		t.Errorf("cmp: exit code %d, %s", code, reader.stderr())
	}
	m.interrupt()
}

// inPread gives those of the descriptors in which a thread of this process waits in pread.
func inPread(fds map[string]bool) map[string]bool {
	waiting := make(map[string]bool)
	calls, _ := filepath.Glob("/proc/self/task/*/syscall")
	for _, path := range calls {
		call, _ := os.ReadFile(path) // the thread may have ended
		if f := strings.Fields(string(call)); len(f) > 1 && f[0] == fmt.Sprint(unix.SYS_PREAD64) && fds[f[1]] {
			waiting[f[1]] = true
		}
	}
	return waiting
}

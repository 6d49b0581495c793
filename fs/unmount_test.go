package fs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// patient is a test's way to say that a read may take any time: the test must end it some other way.
const patient = time.Hour

// start runs f in a goroutine, whose result is to be had from the channel.
func start[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}

// soon returns what comes from c, and fails the test where nothing does.
func soon[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatalf("never: %s", what)
	}
	return v
}

func blocked(r reply) bool { return r.Asleep > 0 }

// cat reads a file with a program of its own; how that ended is to be had from the channel.
func cat(t *testing.T, path string) (*exec.Cmd, <-chan error) {
	t.Helper()
	return run(t, "cat", path)
}

func run(t *testing.T, name string, args ...string) (*exec.Cmd, <-chan error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, start(cmd.Wait)
}

func TestBlockedReadGoesOnWhenDataCome(t *testing.T) {
	tor := single(1, "file", 3<<20)
	s := startServer(t, serverOptions{ReadTimeout: patient}, 1<<20, tor)
	got := start(func() []byte { b, _ := os.ReadFile(s.path("file")); return b })
	s.until("a blocked read", blocked)
	if _, err := os.Stat(s.path("file")); err != nil {
		t.Error(err)
	}
	s.ask("gate 0")
	if b := soon(t, "the read goes on", got); !bytes.Equal(b, want(&tor, tor.Files[0], 0, tor.Length)) {
		t.Error("the file differs")
	}
}

// Many readers that wait hold back none whose data is there.
func TestBlockedReadersDontHoldBackOthers(t *testing.T) {
	var files []metainfo.File
	for i := range 40 {
		files = append(files, metainfo.File{Path: "t/" + string(rune('A'+i)), Length: 1 << 20})
	}
	s := startServer(t, serverOptions{ReadTimeout: patient}, 1<<20, layout(1, "t", files...))
	for _, f := range files[1:] {
		cmd, _ := cat(t, s.path(f.Path))
		defer cmd.Process.Kill()
	}
	s.until("39 blocked readers", func(r reply) bool { return r.Asleep >= 39 })
	read := start(func() error { _, err := os.ReadFile(s.path("t", "A")); return err })
	if err := soon(t, "a read of what is there", read); err != nil {
		t.Error(err)
	}
}

func TestSignalsEndABlockedProgram(t *testing.T) {
	for _, c := range []struct {
		signal  os.Signal
		program string
	}{
		{os.Interrupt, "cat %"},
		{unix.SIGTERM, "dd bs=1M if=%"}, // has a handler for SIGINT, and the kernel makes it wait
		{os.Interrupt, "dd bs=1M iflag=direct if=%"},
		{os.Kill, "md5sum %"},
	} {
		t.Run(c.program, func(t *testing.T) {
			s := startServer(t, serverOptions{ReadTimeout: patient, ReadAhead: 64 << 20}, 1<<20, single(1, "file", 64<<20))
			args := strings.Fields(strings.Replace(c.program, "%", s.path("file"), 1))
			cmd, ended := run(t, args[0], args[1:]...)
			s.until("a blocked read", blocked)
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if err := soon(t, "the program ends", ended); err == nil {
				t.Error("the program succeeded")
			}
			// Its windows go at once, though the kernel still waits for what it read ahead.
			s.until("no window is left", func(r reply) bool { return len(r.Ahead) == 0 })
			s.ask("unmount")
		})
	}
}

// A read that the kernel makes for a waiting program ends when a signal comes, with EINTR.
func TestInterruptOfABlockedRead(t *testing.T) {
	s := startServer(t, serverOptions{ReadTimeout: patient}, 1, single(1, "file", 1<<20))
	fd, err := unix.Open(s.path("file"), unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	thread := make(chan int, 1)
	read := start(func() error {
		runtime.LockOSThread() // the signal goes to this thread
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		_, err := unix.Pread(fd, make([]byte, 4096), 0)
		return err
	})
	tid := <-thread
	s.until("a blocked read", blocked)
	if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil { // which the Go runtime ignores
		t.Fatal(err)
	}
	if err := soon(t, "the read ends", read); !errors.Is(err, unix.EINTR) {
		t.Errorf("%v, want %v", err, unix.EINTR)
	}
	s.until("nothing waits", func(r reply) bool { return r.Asleep == 0 })
}

func TestReadTimesOut(t *testing.T) {
	for name, flags := range map[string]int{"cached": 0, "direct": unix.O_DIRECT} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, serverOptions{ReadTimeout: 300 * time.Millisecond}, 1<<20, single(1, "file", 3<<20))
			fd, err := unix.Open(s.path("file"), unix.O_RDONLY|flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			p := make([]byte, 64<<10)
			read := start(func() error { _, err := unix.Pread(fd, p, 2<<20); return err })
			if err := soon(t, "the read ends", read); !errors.Is(err, unix.EIO) {
				t.Errorf("%v, want %v", err, unix.EIO)
			}
			if _, err := unix.Pread(fd, p, 0); err != nil {
				t.Errorf("what is there can't be read: %v", err)
			}
			s.ask("gate 0")
			if _, err := unix.Pread(fd, p, 2<<20); err != nil {
				t.Errorf("what came later can't be read: %v", err)
			}
		})
	}
}

func TestUnmountEndsBlockedReads(t *testing.T) {
	s := startServer(t, serverOptions{ReadTimeout: patient, ReadAhead: 64 << 20}, 1<<20, single(1, "file", 64<<20))
	var ends []<-chan error
	for range 4 {
		ends = append(ends, start(func() error { _, err := os.ReadFile(s.path("file")); return err }))
	}
	cmd, ended := cat(t, s.path("file"))
	defer cmd.Process.Kill()
	s.until("a blocked read", blocked)
	s.tell("unmount")
	for _, e := range ends {
		if err := soon(t, "a blocked read ends", e); !errors.Is(err, unix.EIO) {
			t.Errorf("%v, want %v", err, unix.EIO)
		}
	}
	if err := soon(t, "cat ends", ended); err == nil {
		t.Error("cat succeeded")
	}
	r := s.receive()
	if _, ok := mountedAt(s.dir); r.Error != "" || !r.Done || ok || len(r.Ahead) != 0 {
		t.Errorf("%+v, mounted %v", r, ok)
	}
	if r := s.ask("unmount"); !r.Done {
		t.Errorf("unmounted twice: %+v", r)
	}
}

// A program that sits in the mount doesn't hold up the end of it.
func TestBusyMountIsDetached(t *testing.T) {
	s := startServer(t, serverOptions{}, 0, single(1, "file", 1<<20))
	f, err := os.Open(s.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.tell("unmount")
	r := start(s.receive)
	if r := soon(t, "unmounted", r); !r.Done || r.Error != "" && os.Geteuid() == 0 {
		t.Errorf("%+v", r)
	}
	if _, ok := mountedAt(s.dir); ok {
		t.Error("still mounted")
	}
}

func TestOthersUnmount(t *testing.T) {
	for name, unmount := range map[string]func(dir string) error{
		"verb":        Unmount,
		"fusermount3": func(dir string) error { return exec.Command(helper, "-u", dir).Run() },
		"by a link": func(dir string) error {
			link := filepath.Join(filepath.Dir(dir), "link")
			if err := os.Symlink(dir, link); err != nil {
				return err
			}
			return Unmount(link)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, serverOptions{ReadTimeout: patient}, 1<<20, single(1, "file", 64<<20))
			// A program was killed while it waited: what the kernel read ahead for it is still under way.
			cmd, ended := cat(t, s.path("file"))
			s.until("a blocked read", blocked)
			_ = cmd.Process.Kill()
			soon(t, "cat ends", ended)
			if err := unmount(s.dir); err != nil {
				t.Fatal(err)
			}
			s.tell("wait")
			if r := soon(t, "the server ends", start(s.receive)); r.Error != "" || !r.Done || r.Asleep != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Detached lazily by somebody else, with a program still reading: the server ends, and so does the program.
func TestOthersDetach(t *testing.T) {
	s := startServer(t, serverOptions{ReadTimeout: patient}, 1<<20, single(1, "file", 64<<20))
	cmd, ended := cat(t, s.path("file"))
	defer cmd.Process.Kill()
	s.until("a blocked read", blocked)
	if err := exec.Command(helper, "-u", "-z", s.dir).Run(); err != nil {
		t.Fatal(err)
	}
	s.tell("wait")
	if r := soon(t, "the server ends", start(s.receive)); !r.Done || r.Asleep != 0 {
		t.Errorf("%+v", r)
	}
	if err := soon(t, "cat ends", ended); err == nil {
		t.Error("cat succeeded")
	}
}

func TestBusyMountIsDetachedByTheVerb(t *testing.T) {
	s := startServer(t, serverOptions{ReadTimeout: patient}, 1<<20, single(1, "file", 64<<20))
	cmd, ended := cat(t, s.path("file"))
	defer cmd.Process.Kill()
	s.until("a blocked read", blocked)
	if err := Unmount(s.dir); err != nil {
		t.Fatal(err)
	}
	s.tell("wait")
	if r := soon(t, "the server ends", start(s.receive)); !r.Done {
		t.Errorf("%+v", r)
	}
	if err := soon(t, "cat ends", ended); err == nil {
		t.Error("cat succeeded")
	}
}

func TestDeadMount(t *testing.T) {
	s := startServer(t, serverOptions{ReadTimeout: patient}, 1<<20, single(1, "file", 64<<20))
	cmd, ended := cat(t, s.path("file"))
	defer cmd.Process.Kill()
	s.until("a blocked read", blocked)
	s.kill()
	if err := soon(t, "cat ends", ended); err == nil {
		t.Error("cat succeeded")
	}
	if err := unix.Statfs(s.dir, new(unix.Statfs_t)); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("statfs: %v, want a dead mount", err)
	}
	if err := Unmount(s.dir); err != nil {
		t.Fatal(err)
	}
	if _, r := tryServer(t, serverConfig{Dir: s.dir}); r.Error != "" {
		t.Errorf("after it was cleared: %s", r.Error)
	}
}

func TestUnmountOfWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	if err := Unmount(dir); err == nil || !strings.Contains(err.Error(), "nothing is mounted") {
		t.Error(err)
	}
	if err := Unmount("/proc"); err == nil || !strings.Contains(err.Error(), "proc") {
		t.Error(err)
	}
	if err := Unmount(filepath.Join(dir, "missing", "x")); err == nil {
		t.Error("no error")
	}
}

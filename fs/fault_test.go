package fs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// long asks for the long forms of the tests of faults; `make faults` sets it.
var long = os.Getenv("TORRENTFS_FAULTS") != ""

// extent says how often a fault is tried, and for how long a process is stopped.
func extent() (rounds int, stopped time.Duration) {
	if long {
		return 50, time.Minute
	}
	return 2, time.Second / 2
}

// many is how many readers wait at once in a test: as many as the kernel lets wait in the background.
const many = maxBackground

// crowd has many readers wait for what does not come; how each ended is to be had from the channel.
func crowd(t *testing.T, s *server, path string) <-chan error {
	t.Helper()
	ends := make(chan error, many)
	for i := range many {
		fd, err := unix.Open(path, unix.O_RDONLY|i%2*unix.O_DIRECT, 0)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer unix.Close(fd)
			var err error
			for err = unix.EINTR; errors.Is(err, unix.EINTR); { // a signal of Go's own, to preempt this thread
				_, err = unix.Pread(fd, make([]byte, 4096), int64(2+i)<<20)
			}
			ends <- err
		}()
	}
	s.until("all wait", func(r reply) bool { return r.Asleep >= many })
	return ends
}

// The readers of a process that is killed get an error at once, and the next mount at the same place needs no help.
func TestKilledUnderManyReaders(t *testing.T) {
	tor := single(1, "file", 512<<20)
	dir := t.TempDir()
	for range 3 {
		s, r := tryServer(t, serverConfig{Dir: dir, Torrents: []metainfo.Torrent{tor}, Gate: 1 << 20, Options: serverOptions{ReadTimeout: patient}})
		if r.Error != "" {
			t.Fatal(r.Error)
		}
		ends := crowd(t, s, s.path("file"))
		s.kill()
		for range many {
			if err := soon(t, "a reader ends", ends); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, unix.EIO) {
				t.Errorf("%v", err)
			}
		}
		if err := unix.Statfs(dir, new(unix.Statfs_t)); !errors.Is(err, unix.ENOTCONN) {
			t.Fatalf("statfs: %v, want a dead mount", err)
		}
	}
	s, r := tryServer(t, serverConfig{Dir: dir, Torrents: []metainfo.Torrent{tor}})
	if r.Error != "" {
		t.Fatal(r.Error)
	}
	s.ask("unmount")
	if _, ok := mountedAt(dir); ok {
		t.Error("there is another mount below")
	}
	s.stop() // by then all that it logged is here
	if !strings.Contains(s.logs.String(), "cleared a dead mount") {
		t.Errorf("the log does not tell:\n%s", s.logs)
	}
}

// A dead mount that a program is still in is cleared all the same.
func TestKilledWhileBusy(t *testing.T) {
	tor := single(1, "file", 4<<20)
	s := startServer(t, serverOptions{}, 0, tor)
	f, err := os.Open(s.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.kill()
	again, r := tryServer(t, serverConfig{Dir: s.dir, Torrents: []metainfo.Torrent{tor}})
	if r.Error != "" {
		t.Fatal(r.Error)
	}
	if got, err := os.ReadFile(again.path("file")); err != nil || !bytes.Equal(got, want(&tor, tor.Files[0], 0, tor.Length)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := f.ReadAt(make([]byte, 4096), 1<<20); err == nil {
		t.Error("the dead mount's file can be read")
	}
}

// halt stops the server's process. While it is stopped, the test's own process must not have a file of the mount open and
// start a program: closing the file for that would wait for the server. If the test forgets, the server is killed.
func halt(t *testing.T, s *server, pause time.Duration) {
	t.Helper()
	s.signal(unix.SIGSTOP)
	timer := time.AfterFunc(pause+30*time.Second, func() { _ = s.cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
}

// A process that is stopped for a while loses nothing: its readers wait, and go on with it.
func TestStoppedForAWhile(t *testing.T) {
	_, pause := extent()
	tor := single(1, "file", 64<<20)
	s := startServer(t, serverOptions{ReadTimeout: patient, ReadAhead: 8 << 20}, 1<<20, tor)
	reader := exec.Command("cat", s.path("file"))
	var got bytes.Buffer
	reader.Stdout = &got
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	ended := start(reader.Wait)
	s.until("a blocked read", blocked)
	halt(t, s, pause)
	_, r := tryServer(t, serverConfig{Dir: s.dir})
	if !strings.Contains(r.Error, "does not answer") || !strings.Contains(r.Error, "torrentfs unmount "+s.dir) {
		t.Errorf("another mount at the same place: %q", r.Error)
	}
	sent := start(func() error { // to one who does not listen
		f, err := os.Open(s.path("file"))
		if err != nil {
			return err
		}
		defer f.Close()
		return compare(f, &tor, 32<<20)
	})
	info := start(func() error { _, err := os.Lstat(s.path("missing")); return err })
	time.Sleep(pause)
	s.signal(unix.SIGCONT)
	s.ask("gate 0")
	if err := soon(t, "the reader ends", ended); err != nil || !bytes.Equal(got.Bytes(), want(&tor, tor.Files[0], 0, tor.Length)) {
		t.Errorf("the reader that waited: %d bytes, %v", got.Len(), err)
	}
	if err := soon(t, "the read that was sent meanwhile", sent); err != nil {
		t.Error(err)
	}
	if err := soon(t, "the look-up", info); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the look-up: %v", err)
	}
	s.ask("unmount")
}

// One that is stopped can be unmounted, and ends once it may.
func TestStoppedAndUnmounted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("starts a program to unmount, with files of the mount open")
	}
	s := startServer(t, serverOptions{ReadTimeout: patient}, 1<<20, single(1, "file", 512<<20))
	ends := crowd(t, s, s.path("file"))
	halt(t, s, 0)
	if err := soon(t, "unmounted", start(func() error { return Unmount(s.dir) })); err != nil {
		t.Fatal(err)
	}
	s.signal(unix.SIGCONT)
	s.tell("wait")
	if r := soon(t, "the server ends", start(s.receive)); !r.Done || r.Error != "" {
		t.Errorf("%+v", r)
	}
	for range many {
		if err := soon(t, "a reader ends", ends); err == nil {
			t.Error("a reader got what isn't there")
		}
	}
}

// Unmounting ends all reads, however many wait.
func TestUnmountUnderManyReaders(t *testing.T) {
	rounds, _ := extent()
	for range rounds {
		s := startServer(t, serverOptions{ReadTimeout: patient, ReadAhead: 8 << 20}, 1<<20, single(1, "file", 512<<20))
		ends := crowd(t, s, s.path("file"))
		s.tell("unmount")
		for range many {
			if err := soon(t, "a reader ends", ends); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("%v", err)
			}
		}
		if r := soon(t, "unmounted", start(s.receive)); r.Error != "" || !r.Done {
			t.Errorf("%+v", r)
		}
		s.stop()
	}
}

// A program that reads through a mapping and gets signals all the time learns at the deadline that nothing comes: its wait for a
// page is interrupted by each of them and begins anew.
func TestMappingUnderSignals(t *testing.T) {
	for name, advice := range map[string]int{"in order": unix.MADV_NORMAL, "at random": unix.MADV_RANDOM} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, serverOptions{ReadTimeout: time.Second / 2, ReadAhead: 8 << 20}, 1<<20, single(1, "file", 64<<20))
			fd, err := unix.Open(s.path("file"), unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			mapping, err := unix.Mmap(fd, 0, 64<<20, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Munmap(mapping) }()
			if err := unix.Madvise(mapping, advice); err != nil {
				t.Fatal(err)
			}
			reading := make(chan int)
			ended := start(func() error {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
				reading <- unix.Gettid()
				return touch(mapping, 32<<20)
			})
			thread := <-reading
			ticks, late := time.NewTicker(time.Millisecond), time.After(time.Minute)
			defer ticks.Stop()
			for {
				select {
				case err := <-ended:
					if err == nil {
						t.Error("it got what isn't there")
					}
					return
				case <-ticks.C:
					// The signal by which Go preempts a thread, so that it expects more of them than it sends.
					if err := unix.Tgkill(unix.Getpid(), thread, unix.SIGURG); err != nil {
						t.Fatal(err)
					}
				case <-late:
					s.kill() // which ends the wait
					t.Fatal("it waits on")
				}
			}
		})
	}
}

var touched byte // so that the compiler reads it

// touch reads a byte of a mapping; where that fails, the error is what the runtime says.
func touch(mapping []byte, off int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	touched = mapping[off]
	return nil
}

// compare reads a page of the first file at off and compares it.
func compare(f *os.File, tor *metainfo.Torrent, off int64) error {
	p := make([]byte, 4096)
	if _, err := f.ReadAt(p, off); err != nil {
		return err
	}
	if !bytes.Equal(p, want(tor, tor.Files[0], off, 4096)) {
		return errors.New("the bytes differ")
	}
	return nil
}

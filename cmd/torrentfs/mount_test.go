package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// needFUSE skips the test where nothing can be mounted.
func needFUSE(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("fusermount3")
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile("/dev/fuse", os.O_RDWR, 0); err == nil {
			f.Close()
			return
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("nothing can be mounted here: %v", err)
	}
	t.Skipf("nothing can be mounted here: %v", err)
}

// makeTorrent returns a .torrent file of a folder of two files that nobody seeds.
func makeTorrent(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "folder")
	for _, name := range []string{"a", "sub/b"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte(name), 1000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := metainfo.Create(t.Context(), folder, metainfo.CreateOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "folder.torrent")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// running is a torrentfs that serves a mount.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *lines
	ended  chan struct{} // closed once cmd.ProcessState is set
}

// startProgram runs torrentfs with its stdout and stderr going to one place, and waits until that holds ready.
func startProgram(t *testing.T, ready string, args ...string) *running {
	t.Helper()
	needFUSE(t)
	r := &running{t: t, cmd: command(args...), output: newLines(), ended: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r.output, r.output
	r.cmd.Env = append(r.cmd.Env, "TMPDIR="+t.TempDir())
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // its code is looked at by whom it concerns
		close(r.ended)
		r.output.end()
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Signal(unix.SIGTERM) // it has mostly ended
		<-r.ended
	})
	if !r.output.await(ready) {
		t.Fatalf("no %q in the output:\n%s", ready, r.output)
	}
	return r
}

// end waits for the end of the program, which must be a clean one.
func (r *running) end() {
	r.t.Helper()
	<-r.ended
	if code := r.cmd.ProcessState.ExitCode(); code != exitOK {
		r.t.Errorf("%v; output:\n%s", r.cmd.ProcessState, r.output)
	}
}

func (r *running) signal(s os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// lines is a buffer that can be waited on.
type lines struct {
	mu    sync.Mutex
	more  *sync.Cond
	b     bytes.Buffer
	ended bool
}

func newLines() *lines {
	l := &lines{}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more.Broadcast()
	return l.b.Write(p)
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.more.Broadcast()
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until s was written. It says no if the end comes first.
func (l *lines) await(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.b.String(), s) {
		if l.ended {
			return false
		}
		l.more.Wait()
	}
	return true
}

// mounted says whether something is mounted at dir.
func mounted(t *testing.T, dir string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), " "+dir+" ")
}

func TestDemo(t *testing.T) {
	needFUSE(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	got := runProgram(t, "demo")
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	want := regexp.MustCompile(`(?s)^sharing 64 MiB in 4 files.*\nmounted on .*(\n  equal .*){4}\nall 4 files.* equal their originals.*\nunmounted\n$`)
	if !want.MatchString(got.stdout) {
		t.Errorf("it says:\n%s", got.stdout)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemoStays(t *testing.T) {
	dir := t.TempDir()
	r := startProgram(t, "Ctrl-C here ends it", "demo", dir)
	for _, s := range sample {
		var want bytes.Buffer
		if err := s.write(&want); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, sampleName, s.path))
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: %d bytes of %d, %v", s.path, len(got), want.Len(), err)
		}
	}
	r.signal(unix.SIGINT)
	r.end()
	if mounted(t, dir) {
		t.Error("still mounted")
	}
}

func TestMountEndsCleanly(t *testing.T) {
	torrent := makeTorrent(t)
	for name, end := range map[string]func(t *testing.T, r *running, dir string){
		"SIGINT":  func(_ *testing.T, r *running, _ string) { r.signal(unix.SIGINT) },
		"SIGTERM": func(_ *testing.T, r *running, _ string) { r.signal(unix.SIGTERM) },
		"SIGHUP":  func(_ *testing.T, r *running, _ string) { r.signal(unix.SIGHUP) },
		"unmount": func(t *testing.T, _ *running, dir string) {
			if got := runProgram(t, "unmount", dir); got.code != exitOK || got.stderr != "" {
				t.Errorf("%+v", got)
			}
		},
		"fusermount3": func(t *testing.T, _ *running, dir string) {
			if out, err := exec.Command("fusermount3", "-u", dir).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "SIGHUP" && signal.Ignored(unix.SIGHUP) {
				t.Skip("SIGHUP is ignored here, and so by the mount too: these tests run under nohup")
			}
			dir := t.TempDir()
			r := startProgram(t, "msg=mounted mountpoint="+dir, "mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", torrent, dir)
			if info, err := os.Stat(filepath.Join(dir, "folder", "sub", "b")); err != nil || info.Size() != 5000 {
				t.Error(info, err)
			}
			end(t, r, dir)
			r.end()
			if mounted(t, dir) {
				t.Error("still mounted")
			}
			if !strings.Contains(r.output.String(), "msg=unmounted") {
				t.Errorf("it does not say that it was unmounted:\n%s", r.output)
			}
		})
	}
}

func TestSignalEndsBlockedRead(t *testing.T) {
	dir := t.TempDir()
	r := startProgram(t, "msg=mounted", "mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", makeTorrent(t), dir)
	f, err := os.Open(filepath.Join(dir, "folder", "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := make(chan error, 1)
	go func() {
		_, err := f.Read(make([]byte, 1))
		read <- err
	}()
	r.signal(unix.SIGTERM) // no matter whether the read has begun
	if err := <-read; !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("the read ended with %v", err)
	}
	r.end()
}

func TestLogReaderGoesAway(t *testing.T) {
	needFUSE(t)
	dir := t.TempDir()
	cmd := command("mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", makeTorrent(t), dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for line := bufio.NewScanner(stderr); line.Scan(); {
		if strings.Contains(line.Text(), "msg=mounted") {
			break
		}
	}
	stderr.Close()
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || mounted(t, dir) {
		t.Errorf("%v, still mounted: %v", err, mounted(t, dir))
	}
}

func TestDaemon(t *testing.T) {
	needFUSE(t)
	base, torrent := t.TempDir(), makeTorrent(t)
	dir := filepath.Join(base, "a mountpoint")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := command("mount", "--daemon", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", "--log-file=log", torrent, "a mountpoint") // relative to:
	cmd.Dir = base
	out, err := cmd.CombinedOutput()
	t.Cleanup(func() {
		if mounted(t, dir) {
			runProgram(t, "unmount", dir)
		}
	})
	if err != nil || !bytes.Contains(out, []byte("msg=mounted")) {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "folder", "a")); err != nil {
		t.Errorf("not usable once the parent has returned: %v", err)
	}
	if got := runProgram(t, "unmount", dir); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	log, err := os.Open(filepath.Join(base, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	deadline := time.Now().Add(time.Minute)
	for said := ""; !strings.Contains(said, "msg=unmounted"); {
		if time.Now().After(deadline) {
			t.Fatalf("the daemon does not end; its log:\n%s", said)
		}
		more, err := io.ReadAll(log)
		if err != nil {
			t.Fatal(err)
		}
		said += string(more)
	}
}

func TestMountErrors(t *testing.T) {
	needFUSE(t)
	base, torrent := t.TempDir(), makeTorrent(t)
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"missing", []string{torrent, filepath.Join(base, "nowhere")}, `torrentfs: mountpoint \S+ does not exist: .*\n`},
		{"not a directory", []string{torrent, file}, `torrentfs: mountpoint \S+ is not a directory: .*\n`},
		{"not empty", []string{torrent, base}, `torrentfs: mountpoint \S+ is not empty: .*--allow-non-empty\n`},
		{"not a torrent", []string{file, empty}, `torrentfs: \S+file\S*.*\n`},
		{"listen", []string{"--listen=192.0.2.1:1", torrent, empty}, `torrentfs: cannot bind to the address 192\.0\.2\.1: ` +
			`no interface of this machine has that address; there are .*127\.0\.0\.1 \(lo\).*\n`},
		{"listen at a taken port", []string{"--listen=" + taken, torrent, empty}, `torrentfs: cannot listen for peers at ` +
			regexp.QuoteMeta(taken) + `: another program has that port; choose another one, or port 0 for one that is free\n`},
		{"log file", []string{"--daemon", "--log-file=" + base, torrent, empty}, `torrentfs: --log-file: .*\n`},
	}
	for _, test := range tests {
		for _, mode := range []string{"foreground", "daemon"} {
			t.Run(test.name+"/"+mode, func(t *testing.T) {
				args := append([]string{"mount"}, test.args...)
				if mode == "daemon" {
					args = append(args, "--daemon")
				}
				got := runProgram(t, args...)
				if got.code != exitFailure || !regexp.MustCompile(`^`+test.want+`$`).MatchString(got.stderr) {
					t.Errorf("%+v, want %s", got, test.want)
				}
			})
		}
	}
	if mounted(t, empty) {
		t.Error("a mount was left behind")
	}
}

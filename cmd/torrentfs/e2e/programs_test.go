package e2e

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that should take moments; it is long because machines are slow and the
// race detector slower.
const patience = 90 * time.Second

// missing skips the test, or fails it where CI=true: there nothing may be missing.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// need skips the test unless all these programs are installed. "libtorrent" stands for its Python binding.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if p == "libtorrent" {
			if !hasLibtorrent() {
				missing(t, "needs libtorrent for /usr/bin/python3: install python3-libtorrent (make setup)")
			}
			continue
		}
		if _, err := exec.LookPath(p); err != nil {
			missing(t, "needs %s, which is not installed (make setup)", p)
		}
	}
}

var hasLibtorrent = sync.OnceValue(func() bool {
	return exec.Command("/usr/bin/python3", "-I", "-c", "import libtorrent").Run() == nil
})

// eventually polls until ok, failing the test when that takes longer than patience.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

// within polls until ok, failing the test when that takes longer than limit.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting after %v: %s", limit, what)
		}
	}
}

// freePort gives a port that is free for TCP and UDP, to a program that can't choose one itself. It lies below those
// that the kernel hands out, so that nobody takes it meanwhile, and is given once.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		if _, given := ports.LoadOrStore(port, true); given {
			continue
		}
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		l.Close()
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		u.Close()
		return port
	}
	t.Fatal("no port is free")
	return 0
}

var ports sync.Map // given by freePort

// output runs a program to its end and gives its standard output; the test fails unless it exits 0 in good time.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	return outputOf(t, exec.Command(name, args...))
}

// outputOf is output for a prepared command.
func outputOf(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout = &out
	p := start(t, cmd)
	if code := p.exit(); code != 0 {
		t.Fatalf("%s: exit code %d\n%s", p, code, tail(out.Bytes()))
	}
	return out.String()
}

// process is a program started by a test and ended, at the latest, with it.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  string        // path of what it wrote to standard error, and to standard output unless that was set
	done chan struct{} // closed when it has ended
}

// start starts cmd. Its output is shown if the test fails.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(cmd.Path)+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // should the test's own process be killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if said := p.stderr(); t.Failed() && len(said) > 0 {
			t.Logf("%s:\n%s", p, tail(said))
		}
	})
	return p
}

// String is the command line, without the embedded script that may be in it.
func (p *process) String() string {
	args := slices.DeleteFunc(slices.Clone(p.cmd.Args), func(arg string) bool { return strings.Contains(arg, "\n") })
	return strings.Join(args, " ")
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended by itself

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process the hard way and waits for its end.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// exit waits for the end and gives the exit code, -1 when a signal ended it. A process that doesn't end in good time
// fails the test.
func (p *process) exit() int {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.signal(syscall.SIGQUIT) // a Go program tells where it stands
		p.t.Errorf("%s: still running after %v", p, patience)
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			p.kill()
		}
	}
	return p.cmd.ProcessState.ExitCode()
}

// stderr gives what the process has written so far.
func (p *process) stderr() []byte {
	b, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return []byte(err.Error())
	}
	return b
}

// tail cuts a log to what a reader of a failed test can use.
func tail(b []byte) []byte {
	const most = 64 << 10
	if len(b) > most {
		return append([]byte("[...]\n"), b[len(b)-most:]...)
	}
	return b
}

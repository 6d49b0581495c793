package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// soakVar names the environment variable that says for how long TestSoak goes on, as a Go duration; `make soak` sets it.
const soakVar = "TORRENTFS_E2E_SOAK"

// TestSoak reads from a mount whose cache is far too small, while its peers come, go, die and lie, and while other mounts of
// the same torrent, by magnet link too, begin and end in every way: each byte that is read is right, and in the end the mount
// holds no more goroutines, descriptors and memory than in the beginning.
func TestSoak(t *testing.T) {
	t.Parallel()
	needMount(t)
	length := 30 * time.Second
	if s := os.Getenv(soakVar); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := newCrowd(t, seed)
	as, dir := fast(t), t.TempDir()
	m := startMount(t, as, dir, c.torrent.file, soakFlags(t.TempDir())...)
	m.watchdog.Reset(length + lifetime)
	work := &workload{t: t, as: as, seed: seed, crowd: c, m: m, shared: t.TempDir()}
	// It rests now and then, to look at what it has made the mount take.
	rests := max(3, int(min(length/time.Minute, 20)))
	round := length / time.Duration(rests)
	var first usage
	for rest := range rests {
		work.run(round)
		if t.Failed() {
			return
		}
		c.calm()
		now := m.usage()
		t.Logf("%v: %v; %v; %v", round*time.Duration(rest+1), now, work, c)
		if rest == 0 {
			first = now
		}
	}
	// As many more as there are peers may be connected, and the heap may grow by what it likes to have in reserve.
	eventually(t, "descriptors and memory are as in the beginning", func() bool {
		now := m.usage()
		return now.fds <= first.fds+crowdSize && now.rss <= first.rss+first.rss/4+32<<20
	})
	fresh := startMount(t, as, t.TempDir(), c.torrent.file, soakFlags(t.TempDir())...)
	work.readWhole(fresh.path(c.torrent.name))
	want, got := fresh.goroutines(), m.goroutines()
	t.Logf("%d goroutines, of a fresh mount %d", got, want)
	if most := want + 4*crowdSize; got > most {
		t.Errorf("%d goroutines, when a fresh mount has %d", got, want)
	}
}

// soakFlags are those of the soak's mounts: peers by the tracker and by each other, and a cache that holds a part.
func soakFlags(cacheDir string) []string {
	return []string{"--log-level", "info", "--no-pex=false", "--memory", "16MiB", "--cache-size", "16MiB", "--cache-dir", cacheDir}
}

// workload is what goes on around a mount in the soak.
type workload struct {
	t      *testing.T
	as     func(*exec.Cmd) *exec.Cmd
	seed   uint64
	crowd  *crowd
	m      *mount
	shared string // a cache directory for mounts that come and go

	round                 uint64
	reads, wholes, mounts atomic.Int64
}

func (w *workload) String() string {
	return fmt.Sprintf("%d reads, %d of the whole, %d mounts came and went", w.reads.Load(), w.wholes.Load(), w.mounts.Load())
}

// run has everything go on for a while.
func (w *workload) run(d time.Duration) {
	w.round++
	w.crowd.rouse()
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	var begun uint64
	begin := func(n int, f func(context.Context, *rand.Rand) error) {
		for range n {
			begun++
			random := rand.New(rand.NewPCG(w.seed^w.round, begun))
			wg.Go(func() {
				for ctx.Err() == nil && !w.t.Failed() {
					if err := f(ctx, random); err != nil {
						w.t.Error(err)
					}
				}
			})
		}
	}
	path := w.m.path(w.crowd.torrent.name)
	begin(4, func(ctx context.Context, random *rand.Rand) error { return w.readHere(ctx, path, random) })
	begin(1, func(context.Context, *rand.Rand) error { w.readWhole(path); return nil })
	begin(1, w.comeAndGo)
	begin(1, w.crowd.churn)
	select {
	case <-time.After(d / 2):
		w.crowd.restart()
	case <-ctx.Done():
	}
	wg.Wait()
}

// readHere opens a file, and reads some ranges of it.
func (w *workload) readHere(ctx context.Context, path string, random *rand.Rand) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	want := w.crowd.content.Bytes
	for n := random.IntN(20); n >= 0 && ctx.Err() == nil; n-- {
		if random.IntN(4) == 0 {
			if err := forgetPages(f); err != nil {
				return err
			}
		}
		if err := readSame(f, want, span{random.Int64N(int64(len(want))), 1 + random.Int64N(1+random.Int64N(1<<20))}); err != nil {
			return err
		}
		w.reads.Add(1)
	}
	return nil
}

// readWhole reads a file in order and compares.
func (w *workload) readWhole(path string) {
	f, err := os.Open(path)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err = errors.Join(err, forgetPages(f)); err != nil || !bytes.Equal(sum.Sum(nil), w.crowd.sum[:]) {
		w.t.Errorf("%d bytes of %d read, which differ from the original: %v", n, len(w.crowd.content.Bytes), err)
	}
	w.wholes.Add(1)
}

// comeAndGo mounts the torrent by its file or a magnet link at a place of its own, reads a little, and ends the mount in one
// way or another.
func (w *workload) comeAndGo(ctx context.Context, random *rand.Rand) (err error) {
	tt := w.crowd.torrent
	source := tt.file
	if random.IntN(2) == 0 {
		source = tt.magnet() + "&tr=" + w.crowd.tracker.URL + "/announce"
	}
	dir, err := os.MkdirTemp("", "torrentfs-soak-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	var said bytes.Buffer
	args := append([]string{"mount", "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd"}, soakFlags(w.shared)...)
	cmd := w.as(exec.Command(binary(w.t), append(args, source, dir)...))
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &said, &said, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	wedged := time.AfterFunc(lifetime, func() { _ = cmd.Process.Kill() })
	defer func() {
		if wedged.Stop(); err != nil {
			_ = cmd.Process.Kill()
			_ = exec.Command("fusermount3", "-u", "-z", dir).Run()
			err = fmt.Errorf("%v: %w\n%s", cmd.Args, err, tail(said.Bytes()))
		}
	}()
	path := filepath.Join(dir, tt.name)
	for there := false; !there; {
		select {
		case err := <-ended:
			return fmt.Errorf("it ended before its files were there: %w", err)
		case <-time.After(10 * time.Millisecond):
			_, err := os.Stat(path)
			there = err == nil
		}
	}
	w.mounts.Add(1)
	if err := w.readHere(ctx, path, random); err != nil {
		return err
	}
	how := random.IntN(4)
	switch how {
	case 0:
		err = cmd.Process.Signal(syscall.SIGTERM)
	case 1:
		err = exec.Command("fusermount3", "-u", dir).Run()
	case 2:
		err = w.as(exec.Command(binary(w.t), "unmount", dir)).Run()
	case 3:
		err = cmd.Process.Kill()
	}
	if err != nil {
		return fmt.Errorf("ending it: %w", err)
	}
	err = <-ended
	if how == 3 { // the dead mount stays
		return exec.Command("fusermount3", "-u", "-z", dir).Run()
	}
	return err
}

// usage is what a process takes.
type usage struct {
	fds, threads int
	rss          int64 // bytes
}

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d MiB resident", u.fds, u.threads, u.rss>>20)
}

var statusLine = regexp.MustCompile(`(?m)^(Threads|VmRSS):\s+(\d+)`)

func (m *mount) usage() (u usage) {
	m.t.Helper()
	proc := fmt.Sprintf("/proc/%d", m.cmd.Process.Pid)
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		m.t.Fatal(err)
	}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		m.t.Fatal(err)
	}
	u.fds = len(fds)
	for _, l := range statusLine.FindAllStringSubmatch(string(status), -1) {
		n, _ := strconv.ParseInt(l[2], 10, 64)
		if l[1] == "Threads" {
			u.threads = int(n)
		} else {
			u.rss = n << 10
		}
	}
	return u
}

// goroutines ends a mount with SIGQUIT, at which Go tells of each goroutine, and counts them.
func (m *mount) goroutines() int {
	m.t.Helper()
	m.watchdog.Stop()
	m.signal(syscall.SIGQUIT)
	m.exit()
	_ = exec.Command("fusermount3", "-u", "-z", m.dir).Run()
	n := strings.Count(string(m.stderr()), "\ngoroutine ")
	if n == 0 {
		m.t.Errorf("no goroutines are told of:\n%s", tail(m.stderr()))
	}
	return n
}

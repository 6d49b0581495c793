package e2e

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// killsVar names the environment variable that says how often TestKills kills; `make kills` sets it.
const killsVar = "TORRENTFS_E2E_KILLS"

// seedVar names the environment variable that gives TestKills the seed of an earlier run.
const seedVar = "TORRENTFS_E2E_SEED"

// TestKills kills mounts in the middle of reads: no read gives a wrong byte, every next mount starts, and in the end
// nothing that the cache had is downloaded again. When it fails, what tells why is left in the test's artifacts, which
// outlive it with -artifacts: the cache as it was found then, and what the last mounts said.
func TestKills(t *testing.T) {
	t.Parallel()
	kills := 25
	if s := os.Getenv(killsVar); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	if s := os.Getenv(seedVar); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))

	const size = 24<<20 + 333
	want := noise(34, size)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "killed.bin"), want), making{piece: 128 << 10})
	s := seedByLibtorrent(t, tt, seeding{})
	cacheDir, dir := t.TempDir(), t.TempDir()
	as := fast(t)
	step := 0
	var said []string // the logs of the last mounts
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d, step %d of %d", seed, step, kills)
			keepEvidence(t, append(said, cacheDir)...)
		}
	})
	// Less than all of it, so that pieces come and go all the time.
	flags := []string{"--log-level", "info", "--cache-dir", cacheDir, "--cache-size", "16MiB", "--memory", "16MiB", "--peer", s.addr()}
	for ; step < kills; step++ {
		m := startMount(t, as, dir, tt.file, flags...)
		said = append(said[max(0, len(said)-2):], m.log)
		var reading sync.WaitGroup
		for reader := range 3 {
			random := rand.New(rand.NewPCG(seed, uint64(1+3*step+reader)))
			reading.Go(func() { readUntilDead(t, m.path(tt.name), want, random) })
		}
		time.Sleep(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		m.kill()
		reading.Wait()
		m.watchdog.Stop()
		output(t, "fusermount3", "-u", "-z", dir)
		if t.Failed() {
			return
		}
	}
	if size := blocks(cacheDir); size > 16<<20 {
		t.Errorf("the cache takes %d bytes on disk", size)
	}
	had, before := inCache(t, cacheDir, tt).Present, s.uploaded()
	m := startMount(t, as, dir, tt.file, "--log-level", "info", "--cache-dir", cacheDir, "--peer", s.addr()) // with room for all
	said = append(said, m.log)
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	// Beside what was missing: what was on its way to the one that was killed last.
	if came := s.uploaded() - before; came > size-had+1<<20 {
		t.Errorf("with %d of %d bytes in the cache, %d were downloaded", had, size, came)
	}
}

// keepEvidence copies files and directories to where a failed test may leave something.
func keepEvidence(t *testing.T, paths ...string) {
	args := append([]string{"-a", "--sparse=always"}, paths...)
	if out, err := exec.Command("cp", append(args, t.ArtifactDir())...).CombinedOutput(); err != nil {
		t.Logf("cp: %v\n%s", err, out)
	}
}

// readUntilDead reads a file here and there until its mount has died.
func readUntilDead(t *testing.T, path string, want []byte, random *rand.Rand) {
	f, err := os.Open(path)
	if err != nil {
		return // it died first
	}
	defer f.Close()
	for {
		s := span{random.Int64N(int64(len(want))), 1 + random.Int64N(1<<20)}
		err := readSame(f, want, s)
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// TestKilledWhileResolving kills a mount that has not found its torrent; the next one starts.
func TestKilledWhileResolving(t *testing.T) {
	t.Parallel()
	needMount(t)
	dir, cacheDir := t.TempDir(), t.TempDir()
	const link = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&x.pe=127.0.0.1:1"
	for range 3 {
		m := startMount(t, nil, dir, link, "--cache-dir", cacheDir, "--no-wait")
		m.kill()
		<-m.done
		m.watchdog.Stop()
		outputOf(t, exec.Command(binary(t), "unmount", dir))
	}
}

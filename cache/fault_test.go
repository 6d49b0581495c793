package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tmpfs mounts an empty file system of that many bytes, for tests that fill one up or make it read-only.
func tmpfs(t testing.TB, size int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("can't mount a tmpfs: %v; run this test as root", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func retryNow(c *Cache) {
	c.disk.do(func() {
		c.disk.retryAt = time.Time{}
		for _, s := range c.disk.open {
			s.retryAt = time.Time{}
		}
		c.disk.upkeep()
	})
	settle(c)
}

// TestFloor: the cache leaves free what the floor says, and gives back what others need.
func TestFloor(t *testing.T) {
	const size = 20 << 20
	top := tmpfs(t, size)
	dir := filepath.Join(top, "cache")
	said := new(logs)
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30, Logger: said.logger()})
	v := open(t, c, testSpec(1, 64<<10, 40<<20))
	for n := range 600 {
		put(v, n)
		settle(c)
		if free, _, _ := freeSpace(dir); free < size/20 {
			t.Fatalf("only %d bytes left after %d pieces", free, n)
		}
	}
	if u := usage(t, dir); u < size*8/10 {
		t.Errorf("uses only %d bytes of %d", u, size)
	}
	if err := os.WriteFile(filepath.Join(top, "film"), make([]byte, 900<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	c.disk.do(c.disk.upkeep)
	if free, _, _ := freeSpace(dir); free < size/20 {
		t.Errorf("only %d bytes left once somebody else wrote", free)
	}
	if said.count("WARN") != 0 {
		t.Error(said.buf.String())
	}
}

// TestFullDisk: others take all there is, and the cache has nothing to give back.
func TestFullDisk(t *testing.T) {
	const size = 4 << 20
	top := tmpfs(t, size)
	dir := filepath.Join(top, "cache")
	said := new(logs)
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30, Logger: said.logger()})
	v := open(t, c, testSpec(1, 64<<10, 40<<20))
	film := filepath.Join(top, "film")
	f, err := os.Create(film)
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(b)
	}
	f.Close()
	for n := range 40 {
		put(v, n)
		settle(c)
		retryNow(c)
		if !v.Has(n) {
			t.Fatal("memory does not work")
		}
	}
	if said.count("WARN") != 1 || c.Stats().DiskProblem == "" {
		t.Errorf("%+v, said %s", c.Stats(), said.buf.String())
	}
	if err := os.Remove(film); err != nil {
		t.Fatal(err)
	}
	retryNow(c)
	if s := c.Stats(); s.Written == 0 || s.Unwritten != 0 || s.DiskProblem != "" || said.count("works again") != 1 {
		t.Errorf("%+v, said %s", s, said.buf.String())
	}
}

// TestQuota: writes fail with ENOSPC though the file system says that there is room.
func TestQuota(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30})
	spec := testSpec(1, 64<<10, 4<<20)
	v := open(t, c, spec)
	put(v, 0)
	settle(c)
	// A file size limit fails writes with EFBIG, which is as good as any error the disk may give.
	c.disk.do(func() {
		vol := v.s.vol.Load()
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		vol.data, f = f, vol.data // /dev/null open for reading: writes fail with EBADF
		put(v, 1)
		for c.disk.writeNext() {
		}
		if !c.disk.trouble || v.s.onDisk(1) {
			t.Error("a failed write went unnoticed")
		}
		vol.data, f = f, vol.data
		f.Close()
		c.disk.retryAt = time.Time{}
		for c.disk.writeNext() {
		}
		if c.disk.trouble || !v.s.onDisk(1) {
			t.Error("the piece was not written when that worked again")
		}
	})
}

func TestReadOnlyDirectory(t *testing.T) {
	dir := tmpfs(t, 16<<20)
	spec := testSpec(1, 64<<10, 1<<20)
	fill(t, dir, spec)
	flip(t, dir, spec, 3)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	said := new(logs)
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30, Logger: said.logger()})
	v, w := open(t, c, spec), open(t, c, testSpec(2, 64<<10, 1<<20))
	for n := range spec.Hashes {
		if load(t, v, n) != (n != 3) {
			t.Errorf("piece %d", n)
		}
	}
	put(v, 3)
	put(w, 0)
	retryNow(c)
	if !load(t, v, 3) || !load(t, w, 0) {
		t.Error("memory does not work")
	}
	// One word for each torrent, and one for the damaged piece.
	if said.count("WARN") != 3 || said.count("only read") != 1 || said.count("memory only") != 1 || said.count("damaged") != 1 {
		t.Error(said.buf.String())
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	retryNow(c)
	if s := c.Stats(); s.Written != 64<<10 || // piece 3 is claimed until somebody looks again
		said.count("keeps this torrent again") != 2 {
		t.Errorf("%+v, said %s", s, said.buf.String())
	}
}

// TestDirectoryComesLater: a cache directory that can't be made at first.
func TestDirectoryComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := os.WriteFile(filepath.Dir(dir), []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	said := new(logs)
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: 1 << 30, Logger: said.logger()})
	spec := testSpec(1, 64<<10, 1<<20)
	v := open(t, c, spec)
	for n := range spec.Hashes {
		put(v, n)
	}
	retryNow(c)
	if said.count("WARN") != 1 || !v.Has(1) {
		t.Error(said.buf.String())
	}
	if err := os.Remove(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	retryNow(c)
	if s := c.Stats(); s.Written != spec.Length {
		t.Errorf("%+v, said %s", s, said.buf.String())
	}
}

// child runs the named function of children in a process of its own, until it ends or is killed.
func child(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "CACHE_TEST_CHILD="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

var children = map[string]func(args []string){
	// write adds random pieces of torrent 1 to a small cache until it is killed.
	"write": func(args []string) {
		seed, _ := strconv.ParseUint(args[1], 10, 64)
		rng := rand.New(rand.NewPCG(seed, 1))
		c, err := New(Config{Memory: 1 << 20, Dir: args[0], DiskSize: killLimit})
		if err != nil {
			panic(err)
		}
		v, err := c.Torrent(killSpec())
		if err != nil {
			panic(err)
		}
		fmt.Println("open")
		for {
			n := rng.IntN(len(v.s.spec.Hashes))
			if data, release, ok := v.Load(n); ok {
				want := make([]byte, len(data))
				content(want, 1, n)
				if string(data) != string(want) {
					panic("wrong bytes")
				}
				release()
				continue
			}
			put(v, n)
		}
	},
	// hold keeps torrent 1 open until its input ends.
	"hold": func(args []string) {
		c, err := New(Config{Memory: 1 << 20, Dir: args[0], DiskSize: 1 << 30})
		if err != nil {
			panic(err)
		}
		if _, err := c.Torrent(testSpec(1, 64<<10, 1<<20)); err != nil {
			panic(err)
		}
		fmt.Println("open")
		os.Stdin.Read(make([]byte, 1))
		c.Close()
	},
}

const killLimit = 3 << 20

func killSpec() Spec { return testSpec(1, 50_000, 5_000_000) }

// TestKill kills a process that writes at random moments. What it leaves behind never reads as wrong bytes, the next
// process starts at once, and what was written is there.
func TestKill(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	if s := os.Getenv("CACHE_KILLS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	dir := t.TempDir()
	spec := killSpec()
	for round := range rounds {
		cmd := child(t, "write", dir, strconv.Itoa(round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		select { // any moment is as good as another, so this is no synchronisation
		case <-time.After(time.Duration(rand.IntN(30_000)) * time.Microsecond):
		case <-t.Context().Done():
		}
		cmd.Process.Kill()
		cmd.Wait()

		said := new(logs)
		c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: killLimit, Logger: said.logger()})
		v := open(t, c, spec)
		claimed, lost := 0, 0
		for n := range spec.Hashes {
			if v.Has(n) {
				claimed++
				if !load(t, v, n) {
					lost++
				}
			}
		}
		// One run of pieces may have been on its way.
		if most := writeRun/int(spec.PieceLength) + 1; lost > most {
			t.Fatalf("round %d: %d of %d pieces lost, said %s", round, lost, claimed, said.buf.String())
		}
		if claimed < 20 && round > 5 {
			t.Fatalf("round %d: only %d pieces there", round, claimed)
		}
		if u := usage(t, dir); u > killLimit {
			t.Fatalf("round %d: %d bytes on disk", round, u)
		}
		c.Close()
	}
}

// TestLockOfTheDead: two processes on one torrent share it; when one is killed, nothing of it stays in the way.
func TestLockOfTheDead(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 64<<10, 1<<20)
	fill(t, dir, spec)
	cmd := child(t, "hold", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	said := new(logs)
	c := newCache(t, Config{Dir: dir, DiskSize: 1 << 30, Logger: said.logger()})
	v := open(t, c, spec)
	for n := range spec.Hashes {
		if !load(t, v, n) {
			t.Errorf("piece %d can't be had beside another process", n)
		}
	}
	if said.count("sharing") != 1 || said.count("WARN") != 0 {
		t.Error(said.buf.String())
	}
	v.Close()
	if err := Dir(dir).Remove(spec.InfoHash); err == nil {
		t.Error("removed what another process has open")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if err := Dir(dir).Remove(spec.InfoHash); err != nil {
		t.Errorf("the lock of a dead process holds: %v", err)
	}
}

// TestSharing: two caches on one directory, as of two processes, work on the same torrent and on different ones.
func TestSharing(t *testing.T) {
	const limit = 3 << 20
	dir := t.TempDir()
	same, mine, yours := testSpec(1, 64<<10, 1<<20), testSpec(2, 64<<10, 8<<20), testSpec(3, 64<<10, 8<<20)
	a := newCache(t, Config{Memory: 512 << 10, Dir: dir, DiskSize: limit})
	b := newCache(t, Config{Memory: 512 << 10, Dir: dir, DiskSize: limit})
	av, bv := open(t, a, same), open(t, b, same)
	for n := range 16 {
		if n%2 == 0 {
			put(av, n)
			settle(a)
		} else {
			put(bv, n)
			settle(b)
		}
	}
	a.disk.do(a.disk.upkeep)
	b.disk.do(b.disk.upkeep)
	for n := range 16 {
		if !load(t, av, n) || !load(t, bv, n) {
			t.Errorf("piece %d is not shared", n)
		}
	}
	am, bm := open(t, a, mine), open(t, b, yours)
	for n := range 128 {
		put(am, n)
		settle(a)
		a.disk.do(a.disk.scan) // as after a moment
	}
	full := usage(t, dir)
	age(t, dir, mine, 1000, -1)
	for n := range 128 { // the newcomer finds the directory full of another's pieces
		put(bm, n)
		settle(b)
		b.disk.do(b.disk.scan)
	}
	if u := usage(t, dir); u > limit || full > limit {
		t.Errorf("%d bytes, then %d", full, u)
	}
	a.disk.do(a.disk.upkeep)
	has := 0
	for n := range 128 {
		load(t, am, n)
		if load(t, bm, n) {
			has++
		}
	}
	if has < 20 {
		t.Errorf("the newcomer could keep only %d pieces", has)
	}
	for _, c := range []*Cache{a, b} {
		if s := c.Stats(); s.Wrong != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestDiskModel lets readers, downloads, closing and damage go on at once over a small memory and a small disk.
// Nothing wrong is read, and the bounds hold.
func TestDiskModel(t *testing.T) {
	const limit = 2 << 20
	dir := t.TempDir()
	c := newCache(t, Config{Memory: 1 << 20, Dir: dir, DiskSize: limit})
	specs := []Spec{testSpec(1, 20_000, 2_000_000), testSpec(2, 32<<10, 2<<20), testSpec(3, 1<<10, 100<<10)}
	steps := 1500
	if testing.Short() {
		steps = 200
	}
	done := make(chan struct{})
	for w := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			spec := specs[rng.IntN(len(specs))]
			v, err := c.Torrent(spec)
			if err != nil {
				t.Error(err)
				return
			}
			for range steps {
				n := rng.IntN(len(spec.Hashes))
				switch rng.IntN(100) {
				case 0:
					v.Close()
					spec = specs[rng.IntN(len(specs))]
					if v, err = c.Torrent(spec); err != nil {
						t.Error(err)
						return
					}
				case 1:
					f, err := os.OpenFile(Dir(dir).path(spec.InfoHash, ".data"), os.O_RDWR, 0)
					if err != nil {
						break
					}
					if v.s.onDisk(n) {
						f.WriteAt([]byte("damage"), int64(n)*spec.PieceLength)
					}
					f.Close()
				default:
					if !load(t, v, n) {
						put(v, n)
					}
				}
			}
			v.Close()
		}()
	}
	for running := 4; running > 0; {
		select {
		case <-done:
			running--
		default:
			if s := c.Stats(); s.Memory > s.MemoryLimit && s.Overruns == 0 {
				t.Errorf("%+v", s)
			}
			// Damage may land in what is being evicted, and take a block there.
			c.disk.do(func() { // between two writes
				if u := usage(t, dir); u > limit+32*blockSize {
					t.Errorf("%d bytes on disk, thought %d", u, c.disk.used.Load())
				}
			})
		}
	}
	c.mem.verify(t)
	if s := c.Stats(); s.Pinned != 0 || s.InFlight != 0 || s.Unwritten != 0 {
		t.Errorf("%+v", s)
	}
}

func runChild() {
	name := os.Getenv("CACHE_TEST_CHILD")
	if name == "" {
		return
	}
	if f := children[strings.TrimSpace(name)]; f != nil {
		f(os.Args[1:])
	}
	os.Exit(0)
}

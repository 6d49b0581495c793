package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// rackVar names the environment variable that gives the MiB that the machines of TestRack read.
const rackVar = "TORRENTFS_E2E_RACK"

// rack is a number of machines that mount one torrent, of which there is one seeder that is slower than any of them. They
// find each other by a tracker.
type rack struct {
	t       *testing.T
	tt      torrent
	want    []byte
	seeder  *clients
	mounts  []*mount
	tracker *process
}

const (
	mostCopies      = 1.3      // that the seeder may give away, however many read
	errorsAndStatus = 1 | 1<<6 // of libtorrent's alerts: each block would be one
)

// newRack starts everything but the reading. The seeder sends rate bytes a second.
func newRack(t *testing.T, machines, rate int, want []byte, more ...string) *rack {
	t.Helper()
	need(t, "opentracker")
	rackSeeder, rackTracker := machines, machines+1 // hosts
	segment := newSegment(t, machines+2)
	tracker := net.JoinHostPort(segment.ip(rackTracker), "6969")
	r := &rack{t: t, want: want}
	piece := max(256<<10, len(want)/256)
	r.tt = byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "set.bin"), want),
		making{piece: piece, trackers: []string{"http://" + tracker + "/announce"}})
	home := t.TempDir()
	write(t, filepath.Join(home, "allowed"), []byte(r.tt.hash+"\n"))
	cmd := exec.Command("opentracker", "-i", segment.ip(rackTracker), "-p", "6969", "-P", "6969", "-d", home, "-w", "allowed")
	r.tracker = start(t, segment.on(rackTracker)(cmd))
	eventually(t, "opentracker listens", func() bool {
		return segment.enter(rackTracker, func() error {
			c, err := net.Dial("tcp", tracker)
			if err == nil {
				c.Close()
			}
			return err
		}) == nil
	})
	all := r.tt.seeding()
	all.UploadLimit = rate
	r.seeder = runClients(t, segment.on(rackSeeder), client{
		Settings: map[string]any{"listen_interfaces": segment.ip(rackSeeder) + ":6881", "alert_mask": errorsAndStatus},
		Torrents: []role{all},
	})
	seeder := fmt.Sprintf("%s:%d", segment.ip(rackSeeder), r.seeder.ports[0])
	binary := fast(t)
	for i := range machines {
		as := func(cmd *exec.Cmd) *exec.Cmd { return segment.on(i)(binary(cmd)) }
		flags := append([]string{"--listen", segment.ip(i) + ":6881", "--peer", seeder, "--log-level", "info"}, more...)
		r.mounts = append(r.mounts, startMount(t, as, t.TempDir(), r.tt.file, flags...))
	}
	eventually(t, "all mounts have found the seeder", func() bool { return len(r.seeder.stats()[0].Peers) >= machines })
	return r
}

// read reads n bytes at off through a mount and compares them; past is told of each MiB.
func (r *rack) read(machine int, off, n int, past func(read int)) error {
	f, err := os.Open(r.mounts[machine].path(r.tt.name))
	if err != nil {
		return err
	}
	defer f.Close()
	const step = 128 << 10
	for at := off; at < off+n; at += step {
		if err := readSame(f, r.want, span{int64(at), int64(min(step, off+n-at))}); err != nil {
			return fmt.Errorf("machine %d: %w", machine, err)
		}
		if past != nil {
			past(at + step - off)
		}
	}
	return nil
}

// copies reads on all machines at once and gives how many copies of the whole the seeder has sent.
func (r *rack) copies(read func(machine int) error) float64 {
	r.t.Helper()
	errs := make([]error, len(r.mounts))
	began := time.Now()
	var wg sync.WaitGroup
	for i := range r.mounts {
		wg.Go(func() { errs[i] = read(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
	copies := float64(r.seeder.stats()[0].Uploaded) / float64(len(r.want))
	r.t.Logf("%d machines read %d MiB in %.1f s; the seeder sent %.2f copies", len(r.mounts), len(r.want)>>20, time.Since(began).Seconds(), copies)
	return copies
}

// together reads everything on each machine, from the first byte on.
func (r *rack) together(machine int) error { return r.read(machine, 0, len(r.want), nil) }

// inTurn has each machine begin when the one before has read its share.
func (r *rack) inTurn() func(machine int) error {
	begun := make([]chan struct{}, len(r.mounts)+1)
	for i := range begun {
		begun[i] = make(chan struct{})
	}
	close(begun[0])
	return func(machine int) error {
		<-begun[machine]
		var next sync.Once
		defer next.Do(func() { close(begun[machine+1]) })
		return r.read(machine, 0, len(r.want), func(read int) {
			if read >= len(r.want)/len(r.mounts) {
				next.Do(func() { close(begun[machine+1]) })
			}
		})
	}
}

// around begins on each machine at another place and goes on to the end and then from the beginning.
func (r *rack) around(machine int) error {
	from := machine * len(r.want) / len(r.mounts)
	if err := r.read(machine, from, len(r.want)-from, nil); err != nil {
		return err
	}
	return r.read(machine, 0, from, nil)
}

// thirdInMemory are the flags of a mount whose caches are too small for size bytes.
func thirdInMemory(size int) []string {
	return []string{"--cache-size", "0", "--memory", fmt.Sprint(size / 3)}
}

// TestRack has eight machines read the same data set from one slow seeder: they get nearly all of it from each other.
func TestRack(t *testing.T) {
	if os.Getenv(rackVar) == "" {
		t.Skip("a measurement with eight mounts: set " + rackVar + " to the MiB to read")
	}
	needMount(t)
	n, err := strconv.Atoi(os.Getenv(rackVar))
	if err != nil {
		t.Fatal(err)
	}
	const machines, rate = 8, 6 << 20
	want := noise(90, n<<20)
	for _, c := range []struct {
		name  string
		flags []string
		read  func(r *rack) func(machine int) error
	}{
		{"at the same time", nil, func(r *rack) func(int) error { return r.together }},
		{"one after the other", nil, func(r *rack) func(int) error { return r.inTurn() }},
		{"from different places", nil, func(r *rack) func(int) error { return r.around }},
		{"into small caches", thirdInMemory(len(want)), func(r *rack) func(int) error { return r.together }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRack(t, machines, rate, want, c.flags...)
			if copies := r.copies(c.read(r)); copies > mostCopies {
				t.Errorf("the seeder sent %.2f copies, more than %.1f", copies, mostCopies)
			}
		})
	}
}

// TestRackOfFour is the short form of TestRack, whose bound holds on a machine that is busy with other tests too: the seeder
// sends less than half of what it would if each read for itself.
func TestRackOfFour(t *testing.T) {
	needMount(t)
	t.Parallel()
	const machines, rate = 4, 8 << 20
	want := noise(91, 48<<20)
	r := newRack(t, machines, rate, want, thirdInMemory(len(want))...)
	if copies := r.copies(r.together); copies > machines/2 {
		t.Errorf("the seeder sent %.2f copies of %d", copies, machines)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Sample is what one run of one reader gave. What was not measured is zero.
type Sample struct {
	Bytes    int64     `json:"bytes,omitempty"`            // delivered
	Rate     float64   `json:"bytes_per_second,omitempty"` // from the mount being up, or the start of the download, to the last byte
	Steady   float64   `json:"steady_bytes_per_second,omitempty"`
	First    float64   `json:"first_byte_s,omitempty"`              // after the mount was up; a downloader's: its first verified piece
	Up       float64   `json:"mount_s,omitempty"`                   // from the start of the process to the mount being up
	Seeks    []float64 `json:"seeks_s,omitempty"`                   // each 64 KiB read at a random place
	Alone    []float64 `json:"seeks_alone_s,omitempty"`             // the same while nobody downloads from the mount
	Upload   float64   `json:"uploaded_bytes_per_second,omitempty"` // by the mount meanwhile
	Start    float64   `json:"start_s,omitempty"`                   // a player's, after the mount was up
	Stalled  float64   `json:"stalled_s"`                           // a player's, in all
	CPU      float64   `json:"cpu_s_per_gib,omitempty"`             // the reader's process
	Caller   float64   `json:"caller_cpu_s_per_gib"`                // what the program reading from the mount used besides
	Peak     int64     `json:"peak_bytes,omitempty"`                // resident memory
	Overhead float64   `json:"downloaded_per_byte,omitempty"`       // bytes the seeders sent over bytes delivered
	Again    float64   `json:"again_bytes_per_second,omitempty"`
	Local    float64   `json:"local_bytes_per_second,omitempty"` // a local file read again
	Plain    float64   `json:"plain_bytes_per_second,omitempty"` // a file on the same disk that has to come from there too
	Tmpfs    float64   `json:"tmpfs_bytes_per_second,omitempty"` // the same where readers write, by default a tmpfs
	One      float64   `json:"one_bytes_per_second,omitempty"`   // a single reader, just before the four
	Least    float64   `json:"least_share,omitempty"`            // of the slowest of several readers, as a part of an equal share
	Error    string    `json:"error,omitempty"`
}

// chunk is what cat reads at a time.
const chunk = 128 << 10

// onThread runs f locked to a thread and gives the CPU time it used.
func onThread(f func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadCPU()
	err := f()
	return threadCPU() - before, err
}

// sequential reads a file from the start as cat does, the first byte apart, to its end or until limit has passed.
func sequential(m *mounted, limit time.Duration) (Sample, error) {
	var s Sample
	before := cpuTime(m.cmd.Process.Pid)
	cpu, err := onThread(func() error {
		f, err := os.Open(m.file)
		if err != nil {
			return err
		}
		defer f.Close()
		buf := make([]byte, chunk)
		if _, err := f.ReadAt(buf[:1], 0); err != nil {
			return err
		}
		first := time.Since(m.up)
		s.First = first.Seconds()
		s.Bytes, err = readOn(f, 0, 1<<62, m.up.Add(limit), buf, nil)
		took := time.Since(m.up)
		s.Rate = float64(s.Bytes) / took.Seconds()
		s.Steady = float64(s.Bytes) / (took - first).Seconds()
		return err
	})
	s.CPU = perGiB((cpuTime(m.cmd.Process.Pid) - before).Seconds(), s.Bytes)
	s.Caller = perGiB(cpu.Seconds(), s.Bytes)
	return s, err
}

// readOn reads f from off in chunks for n bytes, to its end or to the deadline, and gives the bytes read.
func readOn(f *os.File, off, n int64, deadline time.Time, buf []byte, count *atomic.Int64) (int64, error) {
	begin := off
	for off < begin+n {
		k, err := f.ReadAt(buf, off)
		if err := check(buf[:k], off); err != nil {
			return off - begin, err
		}
		off += int64(k)
		if count != nil {
			count.Add(int64(k))
		}
		if errors.Is(err, io.EOF) || time.Now().After(deadline) {
			return off - begin, nil
		}
		if err != nil {
			return off - begin, err
		}
	}
	return off - begin, nil
}

// again reads the beginning of the file anew, and of two local ones of the same content, turn by turn, and
// notes the best rate of each.
func (b *bench) again(m *mounted, s *Sample) error {
	for _, path := range []string{b.local, b.tmpfs} {
		if _, err := os.Stat(path); err != nil {
			if err := writeContent(path, 256*mib); err != nil {
				return err
			}
		}
	}
	pass := func(path string) (float64, error) {
		f, err := os.Open(path)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		began := time.Now()
		n, err := readOn(f, 0, min(s.Bytes, 256*mib), began.Add(2*time.Second), make([]byte, chunk), nil)
		return float64(n) / time.Since(began).Seconds(), err
	}
	for range 3 {
		for path, best := range map[string]*float64{b.local: &s.Local, b.tmpfs: &s.Tmpfs, m.file: &s.Again} {
			rate, err := pass(path)
			if err != nil {
				return err
			}
			*best = max(*best, rate)
		}
	}
	return nil
}

// seeks reads 64 KiB at n random places of the second half of the file, on a handle of its own. Before each
// a program reads the first half in order, so that its read-ahead is under way when the seek comes. No two
// seeks fall into the same piece. It ends early when limit has passed.
func seeks(m *mounted, t *torrent, n int, round uint64, limit time.Duration) (Sample, error) {
	const lead, between, size = time.Second, 300 * time.Millisecond, 64 << 10
	var s Sample
	ahead, err := os.Open(m.file)
	if err != nil {
		return s, err
	}
	defer ahead.Close()
	seek, err := os.Open(m.file)
	if err != nil {
		return s, err
	}
	defer seek.Close()

	buf := make([]byte, chunk)
	if _, err := ahead.ReadAt(buf[:1], 0); err != nil {
		return s, err
	}
	s.First = time.Since(m.up).Seconds()
	deadline := m.up.Add(limit)
	var off int64
	forward := func(d time.Duration) error {
		k, err := readOn(ahead, off, t.size/2-off, time.Now().Add(d), buf, nil)
		off += k
		s.Bytes += k
		return err
	}
	if err := forward(lead); err != nil {
		return s, err
	}
	random := rand.New(rand.NewPCG(round, 42)) // every reader is sent to the same places
	half := int(t.size / 2 / t.piece)
	for _, i := range random.Perm(half - 1)[:min(n, half-1)] {
		if time.Now().After(deadline) {
			break
		}
		at := t.size/2 + int64(i)*t.piece + random.Int64N(t.piece-size)
		began := time.Now()
		if _, err := seek.ReadAt(buf[:size], at); err != nil {
			return s, err
		}
		s.Seeks = append(s.Seeks, time.Since(began).Seconds())
		if err := check(buf[:size], at); err != nil {
			return s, err
		}
		s.Bytes += size
		if err := forward(between); err != nil {
			return s, err
		}
	}
	return s, nil
}

// play reads as a player of constant rate does that keeps only a moment in hand: it starts once it has the
// first 256 KiB, asks for each 64 KiB one step before they are due, and stands still while they are late.
func play(m *mounted, rate int64, length time.Duration) (Sample, error) {
	const step, opening, unseen = 64 << 10, 256 << 10, 20 * time.Millisecond // unseen: half a film's frame
	var s Sample
	f, err := os.Open(m.file)
	if err != nil {
		return s, err
	}
	defer f.Close()
	buf := make([]byte, opening)
	if _, err := f.ReadAt(buf, 0); err != nil {
		return s, err
	}
	s.Start = time.Since(m.up).Seconds()
	tick := time.Duration(float64(step) / float64(rate) * float64(time.Second))
	s.Bytes = opening
	due, end := time.Now().Add(opening/step*tick), time.Now().Add(length)
	for buf = buf[:step]; due.Before(end); due = due.Add(tick) {
		time.Sleep(time.Until(due.Add(-tick)))
		if _, err := f.ReadAt(buf, s.Bytes); err != nil {
			return s, err
		}
		if err := check(buf, s.Bytes); err != nil {
			return s, err
		}
		s.Bytes += step
		if late := time.Since(due); late > unseen {
			s.Stalled += late.Seconds()
			due = due.Add(late)
		}
	}
	return s, nil
}

// several reads n parts of the file at once, each in order, until the first of them is through, and gives the
// rate of all together and the least reader's part of an equal share.
func several(m *mounted, t *torrent, n int, limit time.Duration) (Sample, error) {
	var s Sample
	part := t.size / int64(n)
	got := make([]atomic.Int64, n)
	errs := make([]error, n)
	before := cpuTime(m.cmd.Process.Pid)
	began := time.Now()
	deadline := began.Add(limit)
	var wg sync.WaitGroup
	var once sync.Once
	for i := range n {
		wg.Go(func() {
			f, err := os.Open(m.file)
			if err != nil {
				errs[i] = err
				return
			}
			defer f.Close()
			_, errs[i] = readOn(f, int64(i)*part, part, deadline, make([]byte, chunk), &got[i])
			once.Do(func() {
				took := time.Since(began).Seconds()
				least := int64(1 << 62)
				for j := range got {
					k := got[j].Load()
					s.Bytes += k
					least = min(least, k)
				}
				s.Rate = float64(s.Bytes) / took
				s.Least = float64(least) * float64(n) / float64(max(s.Bytes, 1))
			})
		})
	}
	wg.Wait()
	s.CPU = perGiB((cpuTime(m.cmd.Process.Pid) - before).Seconds(), t.size)
	return s, errors.Join(errs...)
}

// withMount gives f a fresh mount of a fresh swarm, ends both, and adds to the sample what can be told only
// of a whole run.
func (b *bench) withMount(ctx context.Context, c *Case, r reader, f func(m *mounted, s *swarm, t *torrent) (Sample, error)) (Sample, error) {
	return b.withSwarm(ctx, c, func(s *swarm, t *torrent, work string) (Sample, error) {
		m, err := r.start(ctx, s, work)
		if err != nil {
			return Sample{}, err
		}
		defer m.stop()
		// A read that never ends is ended by ending the mount.
		patience := c.Limit + 15*time.Second
		late := time.AfterFunc(patience, m.kill)
		defer context.AfterFunc(ctx, m.kill)()
		sample, err := f(m, s, t)
		sample.Up = m.up.Sub(m.began).Seconds()
		sample.Peak = peakMemory(m.cmd.Process.Pid)
		if ended := !late.Stop(); err != nil && ended {
			err = fmt.Errorf("a read was not answered within %v", patience)
		} else if err != nil {
			m.stop()
			err = fmt.Errorf("%w\n%s", err, lastLines(m.log.String()))
		}
		return sample, err
	})
}

// withSwarm gives f a fresh swarm and a fresh directory to work in. The page cache is cold for it: a new mount
// has no pages yet. The seeders' content, though, shall be in memory, so that no disk is measured.
func (b *bench) withSwarm(ctx context.Context, c *Case, f func(s *swarm, t *torrent, work string) (Sample, error)) (Sample, error) {
	t, err := b.shelf.torrent(c.Size, c.Piece)
	if err != nil {
		return Sample{}, err
	}
	b.mu.Lock()
	b.runs++
	dir := b.work
	if c.OnDisk {
		dir = b.shelf.dir
	}
	work := filepath.Join(dir, fmt.Sprintf("run%d", b.runs))
	b.mu.Unlock()
	if err := os.Mkdir(work, 0o755); err != nil {
		return Sample{}, err
	}
	defer os.RemoveAll(work)
	if err := touchMemory(work, t.size); err != nil {
		return Sample{}, err
	}
	s, err := newSwarm(ctx, work, t, c.Peers)
	if err != nil {
		return Sample{}, err
	}
	defer s.close()
	sample, err := f(s, t, work)
	if err == nil && sample.Bytes == t.size && sample.Overhead == 0 {
		if sent, err := s.seeders.sent(ctx); err == nil {
			sample.Overhead = float64(sent) / float64(t.size)
		}
	}
	return sample, err
}

// touchMemory fills and frees as much memory as the reader of a file of size bytes will use. A virtual machine may have to be
// given each page by its host when it is first touched, which takes longer than anything that is measured here.
func touchMemory(dir string, size int64) error {
	path := filepath.Join(dir, "touched")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	zeros := make([]byte, mib)
	for n := int64(0); n < 2*size; n += mib {
		if _, err := f.Write(zeros); err != nil {
			break // less room than that: what there is has been touched
		}
	}
	return f.Close()
}

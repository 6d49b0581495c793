package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// cached has torrentfs fill its cache, ends the swarm, mounts again and reads everything from the disk, where nothing of
// it is in the page cache. The plain file beside which that stands is the cache's own, which of a complete torrent is an
// ordinary file; it is read before and after, and the better of the two counts.
func cached(ctx context.Context, b *bench, c *Case, r reader, _ uint64) (Sample, error) {
	return b.withSwarm(ctx, c, func(s *swarm, t *torrent, work string) (Sample, error) {
		m, err := r.start(ctx, s, work)
		if err != nil {
			return Sample{}, err
		}
		stored := filepath.Join(work, "data", "torrentfs", fmt.Sprintf("%x.data", t.hash))
		filled, err := sequential(m, c.limit(r))
		m.stop()
		if err == nil && filled.Bytes < t.size {
			err = fmt.Errorf("only %d bytes were read within %v", filled.Bytes, c.limit(r))
		}
		if err != nil {
			return Sample{}, err
		}
		s.seeders.stop()

		before, err := plain(stored)
		if err != nil {
			return Sample{}, err
		}
		if err := uncache(stored); err != nil {
			return Sample{}, err
		}
		if m, err = r.start(ctx, s, work); err != nil {
			return Sample{}, err
		}
		defer m.stop()
		defer context.AfterFunc(ctx, m.kill)()
		sample, err := sequential(m, c.limit(r))
		sample.Up, sample.Peak = m.up.Sub(m.began).Seconds(), peakMemory(m.cmd.Process.Pid)
		m.stop()
		if err != nil {
			return sample, fmt.Errorf("%w\n%s", err, lastLines(m.log.String()))
		}
		after, err := plain(stored)
		sample.Plain = max(before, after)
		sample.Overhead = 1 // its seeders have ended, and nothing was to be had from them
		return sample, err
	})
}

// plain reads a file from the disk as cat does and gives the rate in bytes a second.
func plain(path string) (float64, error) {
	if err := uncache(path); err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	began := time.Now()
	n, err := readOn(f, 0, 1<<62, began.Add(time.Minute), make([]byte, chunk), nil)
	return float64(n) / time.Since(began).Seconds(), err
}

// uncache has the kernel forget what it knows of a file.
func uncache(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

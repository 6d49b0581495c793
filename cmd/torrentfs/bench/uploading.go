package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed leech.py
var leechScript string

// uploading seeks in the half of the file that is not there yet, by turns while two libtorrents download the other half from
// the mount as fast as they can, and while nobody does.
func uploading(seeksEach, turns int) measure {
	return func(ctx context.Context, b *bench, c *Case, r reader, round uint64) (Sample, error) {
		return b.withSwarm(ctx, c, func(s *swarm, t *torrent, work string) (Sample, error) {
			if err := b.fillHalf(ctx, c, r, t, work); err != nil {
				return Sample{}, err
			}
			port, err := freePort()
			if err != nil {
				return Sample{}, err
			}
			m, err := r.with("--listen=127.0.0.1:"+port).start(ctx, s, work)
			if err != nil {
				return Sample{}, err
			}
			defer m.stop()
			defer context.AfterFunc(ctx, m.kill)()
			late := time.AfterFunc(c.Limit, m.kill)
			defer late.Stop()
			l, err := startLeechers(ctx, s, t, "127.0.0.1:"+port, filepath.Join(work, "leeched"))
			if err != nil {
				return Sample{}, err
			}
			defer l.stop()
			sample, err := seekByTurns(ctx, m, t, l, seeksEach, turns, round)
			sample.Peak = peakMemory(m.cmd.Process.Pid)
			return sample, err
		})
	}
}

// with is the reader with one more flag.
func (r reader) with(flag string) reader {
	mount := r.mount
	r.mount = func(torrent, data, dir string) *exec.Cmd {
		cmd := mount(torrent, data, dir)
		cmd.Args = append([]string{cmd.Args[0], cmd.Args[1], flag}, cmd.Args[2:]...)
		return cmd
	}
	return r
}

// fillHalf has the reader keep the first half of the file, which it gets from a swarm of its own.
func (b *bench) fillHalf(ctx context.Context, c *Case, r reader, t *torrent, work string) error {
	dir := filepath.Join(work, "fill")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	s, err := newSwarm(ctx, dir, t, []Peers{{N: 4}})
	if err != nil {
		return err
	}
	defer s.close()
	m, err := r.start(ctx, s, work)
	if err != nil {
		return err
	}
	defer m.stop()
	f, err := os.Open(m.file)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := readOn(f, 0, t.size/2, time.Now().Add(c.Limit), make([]byte, chunk), nil)
	if err == nil && n < t.size/2 {
		err = fmt.Errorf("only %d bytes were read within %v", n, c.Limit)
	}
	return err
}

// seekByTurns reads 64 KiB at random places of the second half, never twice in one piece: each turn so many while the
// leechers rest and so many while they download.
func seekByTurns(ctx context.Context, m *mounted, t *torrent, l *leechers, each, turns int, round uint64) (Sample, error) {
	const between, size = 100 * time.Millisecond, 64 << 10
	var s Sample
	f, err := os.Open(m.file)
	if err != nil {
		return s, err
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(round, 43))
	half := int(t.size / 2 / t.piece)
	places := random.Perm(half - 2) // the first piece was read ahead
	if len(places) < 2*turns*each {
		return s, fmt.Errorf("the file has too few pieces for %d seeks", 2*turns*each)
	}
	buf := make([]byte, size)
	seek := func() (float64, error) {
		at := t.size/2 + int64(places[0]+1)*t.piece + random.Int64N(t.piece-size)
		places = places[1:]
		began := time.Now()
		if _, err := f.ReadAt(buf, at); err != nil {
			return 0, err
		}
		took := time.Since(began).Seconds()
		time.Sleep(between)
		return took, check(buf, at)
	}
	var uploaded, busy float64
	for range turns {
		for range each {
			took, err := seek()
			if err != nil {
				return s, err
			}
			s.Alone = append(s.Alone, took)
		}
		if err := l.begin(ctx); err != nil {
			return s, err
		}
		before, err := l.ask(ctx, "got")
		if err != nil {
			return s, err
		}
		began := time.Now()
		for range each {
			took, err := seek()
			if err != nil {
				return s, err
			}
			s.Seeks = append(s.Seeks, took)
		}
		busy += time.Since(began).Seconds()
		after, err := l.ask(ctx, "off")
		if err != nil {
			return s, err
		}
		uploaded += float64(after - before)
		time.Sleep(time.Second) // their connections end
	}
	s.Upload = uploaded / busy
	return s, nil
}

// leechers is a process with two libtorrent sessions that download from one peer what it has, over and over.
type leechers struct{ *script }

func startLeechers(ctx context.Context, s *swarm, t *torrent, addr, dir string) (*leechers, error) {
	var none int64
	l, err := startScript(ctx, leechScript,
		map[string]any{"torrent": s.torrent, "data": dir, "peer": addr, "bytes": t.size / 2, "leechers": 2}, &none)
	if err != nil {
		return nil, fmt.Errorf("the leechers: %w", err)
	}
	return &leechers{l}, nil
}

// begin has them download and returns once they do.
func (l *leechers) begin(ctx context.Context) error {
	had, err := l.ask(ctx, "on")
	for began := time.Now(); err == nil; {
		var got int64
		if got, err = l.ask(ctx, "got"); got > had+16*mib {
			return nil
		}
		if time.Since(began) > 15*time.Second {
			return errors.New("the leechers get nothing")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func (l *leechers) ask(ctx context.Context, question string) (got int64, err error) {
	return got, l.script.ask(ctx, question, &got)
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"torrentfs/fetch/fetchtest"
)

// A Case is one row of the benchmark: a swarm, what is read from it, and who reads.
type Case struct {
	Name     string        `json:"name"`
	About    string        `json:"about"`
	Size     int64         `json:"size"`  // bytes
	Piece    int64         `json:"piece"` // bytes
	Peers    []Peers       `json:"peers"`
	Ideal    int64         `json:"ideal,omitempty"` // bytes a second: what the links, or those that count, carry
	Readers  []string      `json:"-"`
	Limit    time.Duration `json:"-"`                  // after which reading ends and what was read counts
	OnDisk   bool          `json:"on_disk,omitempty"`  // readers keep what they keep on the content's disk, not in memory
	Together string        `json:"together,omitempty"` // with the cases before and after that have the same here
	measure  measure
}

// measure runs one reader through a case once.
type measure func(ctx context.Context, b *bench, c *Case, r reader, round uint64) (Sample, error)

// slow is how long a reader may take that has no chance of being through in time.
const slow = 15 * time.Second

// limit is the reader's time for one measurement.
func (c *Case) limit(r reader) time.Duration {
	if r.name == "btfs" {
		return min(c.Limit, slow)
	}
	return c.Limit
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	kB  = 1000
	mB  = 1000 * kB
	ms  = time.Millisecond
)

// playRate is the simulated player's, in bytes a second.
const playRate = 1250 * kB

var cases = []Case{
	{
		Name: "lan", About: "4 seeders, unshaped, 1 MiB pieces: the whole file in order, then again",
		Size: 1 * gib, Piece: mib, Peers: []Peers{{N: 4}},
		Readers: []string{"drain", "torrentfs", "libtorrent", "aria2c", "btfs"}, Limit: 20 * time.Second, measure: whole,
	},
	{
		Name: "keeping", About: "the same swarm: the whole file in order, with and without a cache on a disk",
		Size: 1 * gib, Piece: mib, Peers: []Peers{{N: 4}}, OnDisk: true,
		Readers: []string{"torrentfs", "memory only"}, Limit: 20 * time.Second, measure: whole,
	},
	{
		Name: "cached", About: "no peers: the whole file in order from the cache on a disk, the page cache empty, 1 MiB pieces",
		Size: 1 * gib, Piece: mib, Peers: []Peers{{N: 4}}, OnDisk: true,
		Readers: []string{"torrentfs"}, Limit: 20 * time.Second, measure: cached,
	},
	{
		Name: "cached-large", About: "the same with 8 MiB pieces",
		Size: 1 * gib, Piece: 8 * mib, Peers: []Peers{{N: 4}}, OnDisk: true,
		Readers: []string{"torrentfs"}, Limit: 20 * time.Second, measure: cached,
	},
	{
		Name: "cached-small", About: "the same with 64 KiB pieces",
		Size: 1 * gib, Piece: 64 * kib, Peers: []Peers{{N: 4}}, OnDisk: true,
		Readers: []string{"torrentfs"}, Limit: 20 * time.Second, measure: cached,
	},
	{
		Name: "four", About: "the same swarm: four programs at once at four places of the file",
		Size: 1 * gib, Piece: mib, Peers: []Peers{{N: 4}},
		Readers: []string{"torrentfs"}, Limit: 20 * time.Second, measure: fourAtOnce,
	},
	{
		Name: "wan", About: "4 seeders at 80 ms RTT, 8 MB/s each, 1 MiB pieces: the whole file in order",
		Size: 320 * mib, Piece: mib, Peers: []Peers{{4, 80 * ms, 8 * mB}}, Ideal: 32 * mB,
		Readers: []string{"torrentfs", "libtorrent", "aria2c"}, Limit: 14 * time.Second, measure: whole,
	},
	{
		Name: "wan-seek", About: "the same swarm: 64 KiB at random places while a read-ahead runs",
		Size: 1 * gib, Piece: mib, Peers: []Peers{{4, 80 * ms, 8 * mB}},
		Readers: []string{"torrentfs", "btfs"}, Limit: 15 * time.Second, measure: seeking(15),
	},
	{
		Name: "far", About: "1 seeder at 200 ms RTT, 40 MB/s, 1 MiB pieces: the whole file in order",
		Size: 512 * mib, Piece: mib, Peers: []Peers{{1, 200 * ms, 40 * mB}}, Ideal: 40 * mB,
		Readers: []string{"torrentfs", "libtorrent"}, Limit: 20 * time.Second, measure: whole,
	},
	{
		Name: "upload-seek", About: "the same swarm, half of the file in the cache: 64 KiB at random places of the rest, by turns while two libtorrents download what the mount has",
		Size: 1 * gib, Piece: mib, Peers: []Peers{{4, 80 * ms, 8 * mB}},
		Readers: []string{"torrentfs"}, Limit: time.Minute, measure: uploading(20, 3),
	},
	{
		Name: "big-seek", About: "8 seeders at 40 ms RTT, 2 MB/s each, 8 MiB pieces (0.52 s a piece at best): 64 KiB at random places while a read-ahead runs",
		Size: 1 * gib, Piece: 8 * mib, Peers: []Peers{{8, 40 * ms, 2 * mB}},
		Readers: []string{"torrentfs", "btfs"}, Limit: 25 * time.Second, measure: seeking(12),
	},
	{
		Name: "mixed", About: "2 seeders at 20 ms RTT, 8 MB/s each, among 30 at 150 ms, 50 kB/s each, 4 MiB pieces: the whole file in order",
		Size: 160 * mib, Piece: 4 * mib, Peers: []Peers{{2, 20 * ms, 8 * mB}, {30, 150 * ms, 50 * kB}}, Ideal: 16 * mB,
		Readers: []string{"torrentfs", "libtorrent"}, Limit: 14 * time.Second, measure: whole,
	},
	{
		Name: "mixed-seek", About: "the same swarm: 64 KiB at random places while a read-ahead runs",
		Size: 1 * gib, Piece: 4 * mib, Peers: []Peers{{2, 20 * ms, 8 * mB}, {30, 150 * ms, 50 * kB}},
		Readers: []string{"torrentfs"}, Limit: 20 * time.Second, Together: "mixed", measure: seeking(12),
	},
	{
		Name: "fast-seek", About: "the same without the slow seeders",
		Size: 1 * gib, Piece: 4 * mib, Peers: []Peers{{2, 20 * ms, 8 * mB}},
		Readers: []string{"torrentfs"}, Limit: 20 * time.Second, Together: "mixed", measure: seeking(12),
	},
	{
		Name: "play", About: "10 seeders at 120 ms RTT, 0.3 MB/s each, 2 MiB pieces: a player at 1.25 MB/s",
		Size: 64 * mib, Piece: 2 * mib, Peers: []Peers{{10, 120 * ms, 300 * kB}}, Ideal: playRate,
		Readers: []string{"torrentfs", "btfs"}, Limit: 12 * time.Second, Together: "play", measure: playing(nil),
	},
	{
		Name: "play-die", About: "the same; after 3 s the processes of three of the ten end",
		Size: 64 * mib, Piece: 2 * mib, Peers: []Peers{{10, 120 * ms, 300 * kB}}, Ideal: playRate,
		Readers: []string{"torrentfs"}, Limit: 12 * time.Second, Together: "play", measure: playing((*fetchtest.Proxy).Die),
	},
	{
		Name: "play-silent", About: "the same; after 3 s three of the ten fall silent without a word",
		Size: 64 * mib, Piece: 2 * mib, Peers: []Peers{{10, 120 * ms, 300 * kB}}, Ideal: playRate,
		Readers: []string{"torrentfs"}, Limit: 12 * time.Second, Together: "play", measure: playing((*fetchtest.Proxy).Silence),
	},
}

// whole has the reader read the whole file in order; a mount then gives it again from the page cache.
func whole(ctx context.Context, b *bench, c *Case, r reader, _ uint64) (Sample, error) {
	if r.mount == nil {
		return b.withSwarm(ctx, c, func(s *swarm, t *torrent, work string) (Sample, error) {
			return r.download(ctx, b, s, t, work, c.limit(r))
		})
	}
	return b.withMount(ctx, c, r, func(m *mounted, s *swarm, t *torrent) (Sample, error) {
		sample, err := sequential(m, c.limit(r))
		if err != nil || c.Ideal > 0 {
			return sample, err
		}
		if sample.Bytes == t.size { // before anything else is read
			if sent, err := s.seeders.sent(ctx); err == nil {
				sample.Overhead = float64(sent) / float64(t.size)
			}
		}
		return sample, b.again(m, &sample)
	})
}

// fourAtOnce compares four readers with one just before them.
func fourAtOnce(ctx context.Context, b *bench, c *Case, r reader, _ uint64) (Sample, error) {
	one, err := b.withMount(ctx, c, r, func(m *mounted, _ *swarm, _ *torrent) (Sample, error) { return sequential(m, c.limit(r)) })
	if err != nil {
		return one, err
	}
	four, err := b.withMount(ctx, c, r, func(m *mounted, _ *swarm, t *torrent) (Sample, error) { return several(m, t, 4, c.limit(r)) })
	four.One = one.Rate
	return four, err
}

func seeking(n int) measure {
	return func(ctx context.Context, b *bench, c *Case, r reader, round uint64) (Sample, error) {
		return b.withMount(ctx, c, r, func(m *mounted, _ *swarm, t *torrent) (Sample, error) {
			return seeks(m, t, n, round, c.Limit)
		})
	}
}

// playing plays; after three seconds something happens to three of the peers.
func playing(happens func(*fetchtest.Proxy)) measure {
	return func(ctx context.Context, b *bench, c *Case, r reader, _ uint64) (Sample, error) {
		return b.withMount(ctx, c, r, func(m *mounted, s *swarm, t *torrent) (Sample, error) {
			if happens != nil {
				blow := time.AfterFunc(3*time.Second, func() {
					for _, p := range s.proxies[:3] {
						happens(p)
					}
				})
				defer blow.Stop()
			}
			return play(m, playRate, c.Limit)
		})
	}
}

// scaled is the case with its file shrunk (or grown) by f, in whole pieces.
func (c Case) scaled(f float64) Case {
	c.Size = max(int64(float64(c.Size)*f)/c.Piece, 32) * c.Piece
	return c
}

// choose gives the cases of those names; a name ending in * stands for all that begin so. None chooses all.
func choose(names []string) ([]Case, error) {
	if len(names) == 0 {
		return slices.Clone(cases), nil
	}
	var chosen []Case
	for _, name := range names {
		found := false
		for _, c := range cases {
			if ok, _ := filepath.Match(name, c.Name); ok {
				chosen, found = append(chosen, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no case %q; -list shows them", name)
		}
	}
	return chosen, nil
}

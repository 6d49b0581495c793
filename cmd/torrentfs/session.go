package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/dustin/go-humanize"

	"torrentfs/cache"
	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
	"torrentfs/fs"
)

const (
	maxInFlight = 64 << 20 // bytes of incomplete pieces of one torrent

	refresh = 500 * time.Millisecond // of the status line
	// patience is how long reads may wait with nothing coming before a log line says so.
	patience = 15 * time.Second
	// closing is how long a clean end may take before it is cut short.
	closing = 20 * time.Second
	// lastChance is how long the forced end may take before the process leaves without it.
	lastChance = 2 * time.Second
)

// session is a mount that runs: torrents, the peers that they come from, the cache that keeps their pieces, and
// the tree that shows them.
type session struct {
	log      *slog.Logger
	tree     *fs.Tree
	cache    *cache.Cache
	client   *fetch.Client
	flags    mountFlags
	torrents []*fetch.Torrent
}

// startSession mounts the torrents on dir. The mount is usable once it returns.
func startSession(dir string, torrents []*metainfo.Torrent, flags mountFlags, log *slog.Logger) (*session, error) {
	dir, err := absolute(dir)
	if err != nil {
		return nil, err
	}
	s := &session{log: log, flags: flags}
	if err := s.start(dir, torrents); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), lastChance)
		defer cancel()
		return nil, errors.Join(err, s.close(ctx))
	}
	logMounted(log, dir, torrents)
	return s, nil
}

func (s *session) start(dir string, torrents []*metainfo.Torrent) (err error) {
	memory := int64(s.flags.memory)
	limitHeap(memory)
	if s.cache, err = cache.New(cache.Config{Memory: memory, Logger: s.log}); err != nil {
		return err
	}
	if s.client, err = fetch.New(fetch.Config{
		Listen:     string(s.flags.listen),
		MaxPeers:   int(s.flags.maxPeers),
		Upload:     !s.flags.noUpload,
		NoTrackers: s.flags.noTrackers,
		NoPEX:      s.flags.noPEX,
		InFlight:   min(maxInFlight, memory/2/int64(len(torrents))),
		Version:    release(),
		Logger:     s.log,
	}); err != nil {
		return err
	}
	// Before any torrent is added: a mountpoint that won't do is nothing that trackers need hear of.
	if s.tree, err = fs.Mount(dir, fs.Options{
		ReadTimeout:   time.Duration(s.flags.readTimeout),
		ReadAhead:     min(int64(s.flags.readAhead), memory/2), // or the reader's own read-ahead evicts itself
		AllowOther:    s.flags.allowOther,
		AllowNonEmpty: s.flags.allowNonEmpty,
		Logger:        s.log,
	}); err != nil {
		return err
	}
	for _, t := range torrents {
		if err := s.add(t); err != nil {
			return fmt.Errorf("%s: %w", printable(t.Name), err)
		}
	}
	return nil
}

// heapSlack is what the heap may hold beside pieces, in bytes: connections' buffers, replies to the kernel, tables.
const heapSlack = 32 << 20

// limitHeap has the garbage of the kernel's replies collected before it doubles the process, which is what the collector
// would let it do by default. GOMEMLIMIT overrides it.
func limitHeap(memory int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory + heapSlack)
	}
}

// add shows one more torrent in the mount.
func (s *session) add(t *metainfo.Torrent) error {
	store, err := s.cache.Torrent(cache.Spec{
		InfoHash:    t.InfoHash,
		Name:        t.Name,
		PieceLength: t.PieceLength,
		Length:      t.Length,
		Hashes:      t.Pieces,
	})
	if err != nil {
		return err
	}
	torrent, err := s.client.Add(t, store, fetch.AddOptions{Peers: s.flags.peers})
	if err != nil {
		return err
	}
	s.torrents = append(s.torrents, torrent)
	return s.tree.Add(t, torrent)
}

// serve shows how the mount is doing until somebody unmounts it or a signal comes, and ends it then. The error is
// nil after a clean end.
func (s *session) serve(ends endings, screen *screen) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	var stall stall
	for {
		select {
		case now := <-tick.C:
			snap := s.snapshot()
			screen.setLine(snap.render)
			if stall.observe(now, snap, patience) {
				s.log.Warn("reads wait and nothing comes",
					"pieces", len(snap.waiting), "peers", snap.connected, "peers_known", snap.known)
			}
			continue
		case <-s.tree.Done():
		case <-ends.soft.Done():
			screen.setLine(nil)
			s.log.Info("unmounting; a second signal forces it")
		}
		break
	}
	screen.setLine(nil)
	snap := s.snapshot()
	if err := errors.Join(s.tree.Err(), s.close(ends.hard)); err != nil {
		return err
	}
	s.log.Info("unmounted",
		"downloaded", humanize.IBytes(uint64(snap.downloaded)), "uploaded", humanize.IBytes(uint64(snap.uploaded)))
	return nil
}

// close ends everything that start has started. When ctx ends, it waits for nothing any more: a busy mount is
// detached and connections are dropped.
func (s *session) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var errs []error
		if s.tree != nil { // first: it ends the reads that the others would wait for
			errs = append(errs, s.tree.Unmount(ctx))
		}
		if s.client != nil {
			errs = append(errs, s.client.Close())
		}
		if s.cache != nil {
			errs = append(errs, s.cache.Close())
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(lastChance):
		return errors.New("stopped before everything had ended")
	}
}

// snapshot sums up how the torrents are doing.
func (s *session) snapshot() snapshot {
	snap := snapshot{torrents: len(s.torrents)}
	for _, t := range s.torrents {
		stats := t.Stats()
		snap.connected += stats.Connected
		snap.known += stats.Peers
		snap.down += stats.DownRate
		snap.up += stats.UpRate
		snap.downloaded += stats.Downloaded
		snap.uploaded += stats.Uploaded
		snap.waiting = append(snap.waiting, stats.Waiting...)
	}
	memory := s.cache.Stats()
	snap.cached = memory.Memory - memory.InFlight - memory.Spare
	return snap
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
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
	// Written once, by start.
	log    *slog.Logger
	flags  mountFlags
	dir    string // the mountpoint
	store  storeDir
	tree   *fs.Tree
	cache  *cache.Cache
	client *fetch.Client
	finder finder

	searching sync.WaitGroup
	stop      context.CancelFunc // ends the searches

	mu       sync.Mutex // guards what follows
	torrents []member
	searches []*search // that have not ended well
}

// member is a torrent that the mount shows.
type member struct {
	meta *metainfo.Torrent
	*fetch.Torrent
}

// startSession mounts on dir those of the sources that are known; for the others, search is to be called. The mount is
// usable once it returns.
func startSession(dir string, sources []source, flags mountFlags, store storeDir, log *slog.Logger) (*session, error) {
	dir, err := absolute(dir)
	if err != nil {
		return nil, err
	}
	s := &session{log: log, flags: flags, dir: dir, store: store}
	if err := s.start(sources); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), lastChance)
		defer cancel()
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *session) start(sources []source) (err error) {
	memory := int64(s.flags.memory)
	limitHeap(memory)
	if s.cache, err = cache.New(s.cacheConfig()); err != nil {
		return err
	}
	// Opening the cache's files takes a moment, which is not to pass while the mount is up and still empty.
	for _, src := range sources {
		if src.torrent == nil {
			continue
		}
		if _, err := s.cache.Torrent(specOf(src.torrent)); err != nil {
			return fmt.Errorf("%s: %w", src.label(), err)
		}
	}
	config := s.flags.config(s.store, s.log)
	s.flags.share(&config)
	config.Upload = !s.flags.noUpload
	config.DownloadLimit = int64(s.flags.downloadLimit)
	config.InFlight = min(maxInFlight, memory/2/int64(len(sources)))
	readAhead := min(int64(s.flags.readAhead), memory/2) // or a reader's own read-ahead evicts itself
	config.ReadAhead = readAhead / int64(len(sources))
	if s.client, err = fetch.New(config); err != nil {
		return err
	}
	s.finder = finder{client: s.client, known: s.store.torrents(), flags: s.flags.networkFlags, log: s.log}
	// Before any torrent is added: a mountpoint that won't do is nothing that trackers need hear of.
	if s.tree, err = fs.Mount(s.dir, fs.Options{
		ReadTimeout:   time.Duration(s.flags.readTimeout),
		ReadAhead:     readAhead,
		AllowOther:    s.flags.allowOther,
		AllowNonEmpty: s.flags.allowNonEmpty,
		Logger:        s.log,
	}); err != nil {
		return err
	}
	for _, src := range sources {
		if src.torrent == nil {
			continue
		}
		if err := s.add(src); err != nil {
			return err
		}
		s.finder.remember(src.torrent, "")
	}
	return nil
}

// cacheConfig says what the cache may hold and where. What is remembered of torrents counts among what the disk holds.
func (s *session) cacheConfig() cache.Config {
	c := cache.Config{Memory: int64(s.flags.memory), Logger: s.log}
	limit := int64(s.flags.cacheSize)
	remembered := s.store.torrents().prune(min(libraryLimit, max(limit/16, 1<<20)), s.store.present)
	if s.store != "" && limit > 0 {
		c.Dir, c.DiskSize = string(s.store.pieces()), max(limit-remembered, 1)
	}
	return c
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
func (s *session) add(src source) error {
	if err := s.tryAdd(src); err != nil {
		return fmt.Errorf("%s: %w", src.label(), err)
	}
	return nil
}

func (s *session) tryAdd(src source) error {
	t := src.torrent
	var shared atomic.Pointer[fetch.Torrent] // there once it was added
	spec := specOf(t)
	spec.Evicted = func(piece int) {
		if torrent := shared.Load(); torrent != nil {
			torrent.Lost(piece)
		}
	}
	store, err := s.cache.Torrent(spec)
	if err != nil {
		return err
	}
	if s.flags.keep || s.flags.letGo {
		err := s.roomToKeep(t)
		if err == nil {
			err = store.Keep(s.flags.keep)
		}
		if err != nil {
			return errors.Join(err, store.Close())
		}
	}
	torrent, err := s.client.Add(t, store, fetch.AddOptions{
		Peers: slices.Concat(s.flags.peers, src.magnet.Peers), Keep: s.flags.keep,
	})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	shared.Store(torrent)
	shown, ok := src.shown()
	if !ok {
		s.log.Warn("the link selects files that the torrent does not have: showing all", "torrent", t.Name)
	}
	if err := s.tree.Add(shown, torrent); err != nil {
		return errors.Join(err, torrent.Close(), store.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.torrents = append(s.torrents, member{t, torrent})
	return nil
}

// roomToKeep refuses to keep a torrent that does not fit into the cache beside the others that are kept.
func (s *session) roomToKeep(t *metainfo.Torrent) error {
	if !s.flags.keep {
		return nil
	}
	entries, err := s.store.pieces().List()
	if err != nil {
		return err
	}
	var others int64
	for _, e := range entries {
		if e.Kept && e.InfoHash != t.InfoHash {
			others += e.Length
		}
	}
	switch limit := int64(s.flags.cacheSize); {
	case t.Length > limit:
		return fmt.Errorf("it has %s: raise --cache-size to keep it", byteCount(t.Length))
	case t.Length+others > limit:
		return fmt.Errorf("it has %s, and other torrents that are kept have %s: raise --cache-size to keep it too",
			byteCount(t.Length), byteCount(others))
	}
	return nil
}

// has says whether a torrent is in the mount.
func (s *session) has(hash metainfo.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.torrents, func(t member) bool { return t.meta.InfoHash == hash })
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
	return s.end(ends)
}

// end closes the session after a mount that went well, and says so.
func (s *session) end(ends endings) error {
	snap := s.snapshot()
	if err := errors.Join(s.tree.Err(), s.close(ends.hard)); err != nil {
		return err
	}
	s.log.Info("unmounted",
		"downloaded", humanize.IBytes(uint64(snap.downloaded)), "uploaded", humanize.IBytes(uint64(snap.uploaded)))
	return nil
}

// close ends everything that start and search have started. When ctx ends, it waits for nothing any more: a busy mount
// is detached and connections are dropped.
func (s *session) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var errs []error
		if s.stop != nil {
			s.stop()
		}
		if s.tree != nil { // first: it ends the reads that the others would wait for
			errs = append(errs, s.tree.Unmount(ctx))
		}
		s.searching.Wait()
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
	s.mu.Lock()
	snap := snapshot{torrents: len(s.torrents), searches: len(s.searches)}
	var all []fetch.Stats
	for _, t := range s.torrents {
		all = append(all, t.Stats())
	}
	s.mu.Unlock()
	for _, stats := range all {
		snap.connected += stats.Connected
		snap.known += stats.Peers
		snap.down += stats.DownRate
		snap.up += stats.UpRate
		snap.downloaded += stats.Downloaded
		snap.uploaded += stats.Uploaded
		snap.waiting = append(snap.waiting, stats.Waiting...)
	}
	held := s.cache.Stats()
	snap.cached = held.Memory - held.InFlight - held.Spare
	snap.disk = held.Disk
	return snap
}

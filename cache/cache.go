// Package cache keeps verified pieces of torrents, counted in bytes, in two tiers: those used lately in memory, and
// those used less lately on disk. It owns every piece buffer of the process. It never downloads and never talks to a
// peer.
//
// # Memory
//
// Config.Memory bounds the buffers being filled, the pieces cached and the buffers kept for re-use, all together. A
// piece is immutable from Add on, and its buffer stays as it is for as long as anybody has it pinned. What goes first
// is told in memory.go.
//
// # Disk
//
// Each torrent has one sparse file in torrent order, so that a complete one is an ordinary file, and a small index with
// the time of each piece's last use. A worker writes pieces behind the readers' backs. Config.DiskSize and a share of
// free space bound what all torrents of the directory take; the least recently used pieces of them all are evicted by
// punching holes.
//
// Nothing on disk is trusted: a piece is hashed every time it is loaded into memory, and once before peers are given of it;
// from then on each block is checked that they take (package proof). Hence no write has to be synced or
// ordered before another, a crash costs a download at most, and processes can share a directory, and even a torrent,
// without asking each other: they write the same bytes to the same places. Locks only keep files from being removed
// or set up under a process that has them open, and die with it.
//
// A disk that is full, failing, read-only or gone is warned of once and tried again now and then; meanwhile memory goes
// on alone.
package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"torrentfs/cache/proof"
)

// DefaultMemory is the memory budget in bytes when Config leaves it zero.
const DefaultMemory = 256 << 20

// maxProofs bounds, in bytes, what is remembered in order to serve blocks from the disk; 16 MiB do for 16 GiB of pieces.
const maxProofs = 16 << 20

// Config says how much a cache may hold and where.
type Config struct {
	Memory   int64        // bytes of piece buffers, in use and cached together; 0 means DefaultMemory
	Dir      string       // directory of the disk store; "" keeps pieces in memory only
	DiskSize int64        // bytes the store may take on disk; 0 keeps pieces in memory only
	Logger   *slog.Logger // nil discards
}

// Cache holds the pieces of any number of torrents under one budget. Its methods may be called from any
// goroutine.
type Cache struct {
	mem    *memory
	disk   *disk       // nil without
	proofs *proof.Book // of pieces on disk that peers asked for

	mu      sync.Mutex          // guards what follows
	shelves map[[20]byte]*shelf // with at least one view
	lastID  uint32
	closed  bool
}

// New returns an empty cache. It fails only on a Config that makes no sense.
func New(cfg Config) (*Cache, error) {
	if cfg.Memory < 0 || cfg.DiskSize < 0 {
		return nil, fmt.Errorf("cache: negative size in %d bytes of memory, %d of disk", cfg.Memory, cfg.DiskSize)
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cache{mem: newMemory(cfg.Memory), proofs: proof.New(min(maxProofs, cfg.Memory/16)), shelves: make(map[[20]byte]*shelf)}
	if cfg.Dir != "" && cfg.DiskSize > 0 {
		c.disk = newDisk(Dir(cfg.Dir), cfg.DiskSize, c.mem, cfg.Logger)
	}
	return c, nil
}

// Close closes every view still open and writes to disk what waits for that, as far as it goes within seconds. The
// error says that it did not. Pieces handed out stay readable until they are released. Closing twice does nothing.
func (c *Cache) Close() error {
	c.mu.Lock()
	shelves, again := c.shelves, c.closed
	c.shelves, c.closed = nil, true
	c.mu.Unlock()
	if again {
		return nil
	}
	var errs error
	for _, s := range shelves {
		errs = errors.Join(errs, s.close())
	}
	if c.disk != nil {
		errs = errors.Join(errs, c.disk.close())
	}
	return errs
}

// Torrent opens a view on one torrent's pieces. Views on the same torrent share them.
func (c *Cache) Torrent(spec Spec) (*Torrent, error) {
	t, err := c.view(spec)
	if err == nil && c.disk != nil {
		t.s.once.Do(func() { c.disk.attach(t.s) })
	}
	return t, err
}

func (c *Cache) view(spec Spec) (*Torrent, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("cache: closed")
	}
	s := c.shelves[spec.InfoHash]
	switch {
	case s == nil:
		c.lastID++
		s = &shelf{c: c, spec: spec, id: c.lastID}
		c.shelves[spec.InfoHash] = s
	case !s.spec.same(spec):
		return nil, fmt.Errorf("cache: torrent %x is already open with other pieces", spec.InfoHash)
	}
	s.views++
	t := &Torrent{s: s}
	if spec.Evicted != nil {
		t.tell = &listener{spec.Evicted}
		c.mem.listen(s, t.tell)
	}
	return t, nil
}

// Stats is a snapshot of what a cache holds and did. Sizes are bytes.
type Stats struct {
	Memory      int64 // buffers in all: in flight, cached and waiting for re-use
	MemoryLimit int64
	InFlight    int64 // given out by Alloc and not back yet
	Pinned      int64 // cached pieces somebody still reads
	Spare       int64 // buffers waiting for re-use
	Overruns    int64 // times Alloc had to exceed the limit because everything else was in use

	Hits   int64 // pieces found in memory
	Misses int64 // pieces not found there

	Disk        int64  // bytes the cache directory takes, of all torrents and processes
	DiskLimit   int64  // 0 without a disk store
	DiskProblem string // why the disk store is not being written at the moment; "" when all is well
	DiskHits    int64  // pieces found on disk
	Written     int64  // bytes of pieces written to disk
	Unwritten   int64  // bytes of pieces waiting to be written
	Unsaved     int64  // bytes of pieces that left memory before the disk had taken them
	Wrong       int64  // bytes of pieces on disk that were damaged, and dropped
}

// Stats returns the cache's figures.
func (c *Cache) Stats() Stats {
	s := c.mem.stats()
	if d := c.disk; d != nil {
		s.Disk, s.DiskLimit = d.used.Load(), d.limit
		s.DiskHits, s.Written, s.Wrong = d.loads.Load(), d.written.Load(), d.wrong.Load()
		if p := d.problem.Load(); p != nil {
			s.DiskProblem = *p
		}
	}
	return s
}

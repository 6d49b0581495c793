// Package seed serves the pieces of a torrent from its files where they lie on disk.
//
// A Store is what a swarm uploads from when the content is there already: for `torrentfs demo`, and for seeding a
// folder in place. It owns the way from a piece to the byte ranges of the files, and what it knows of which pieces
// are right. It never writes to the files, never downloads, and never hands out a byte that it did not hash.
package seed

import (
	"context"
	"crypto/sha1"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"torrentfs/fetch/metainfo"
)

// recentBytes bounds the pieces kept in memory after they were loaded, so that the blocks of one piece, asked for
// one by one and by several peers, cost one read and one hash. At least one piece is kept.
const recentBytes = 16 << 20

// Store is a swarm.Store over complete files. Its methods may be called concurrently. It holds no file open, so it
// needs no closing.
type Store struct {
	// Write once.
	torrent *metainfo.Torrent
	paths   []string // on disk, by index in torrent.Files; "" for padding

	has  []atomic.Bool // by piece: it was right when last looked at
	good atomic.Int64  // how many of has are true

	mu     sync.Mutex
	recent []*loaded // the pieces loaded last, oldest first
}

// loaded is a piece in memory, or on its way there.
type loaded struct {
	piece int
	done  chan struct{} // closed once data is set for good
	data  []byte        // nil: the piece can't be read or is not right
}

// Open returns a store over the content of t at root, which is either the content itself (the file of a
// single-file torrent, the folder of a multi-file one) or the folder that it lies in. It fails when a file is
// missing or not of the right length. No piece counts as there before Verify or Load has hashed it.
func Open(t *metainfo.Torrent, root string) (*Store, error) {
	paths, err := locate(t, root)
	if err != nil {
		return nil, err
	}
	return &Store{torrent: t, paths: paths, has: make([]atomic.Bool, t.NumPieces())}, nil
}

// locate returns where the files of t are, below root or root itself.
func locate(t *metainfo.Torrent, root string) ([]string, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	inside := make([]string, len(t.Files))
	itself := make([]string, len(t.Files))
	for i, f := range t.Files {
		if f.Padding {
			continue
		}
		inside[i] = filepath.Join(root, filepath.FromSlash(f.Path))
		itself[i] = root
		if t.MultiFile {
			below, err := filepath.Rel(t.Name, filepath.FromSlash(f.Path))
			if err != nil {
				return nil, err
			}
			itself[i] = filepath.Join(root, below)
		}
	}
	errItself := check(t, itself)
	if errItself == nil {
		return itself, nil
	}
	errInside := check(t, inside)
	if errInside == nil {
		return inside, nil
	}
	if _, err := os.Stat(filepath.Join(root, t.Name)); err == nil {
		return nil, errInside
	}
	return nil, errItself
}

// check reports the first file that is not there with the right length.
func check(t *metainfo.Torrent, paths []string) error {
	for i, f := range t.Files {
		if f.Padding {
			continue
		}
		info, err := os.Stat(paths[i])
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", paths[i])
		}
		if info.Size() != f.Length {
			return fmt.Errorf("%s has %d bytes, not the %d of the torrent", paths[i], info.Size(), f.Length)
		}
	}
	return nil
}

// Verify hashes every piece, on all processors, and returns how many are right; those are the pieces that Has
// claims from then on. progress, which may be nil, is told of the bytes hashed so far and in all; it is called from
// one goroutine at a time. The error is that of ctx.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (good int, err error) {
	var (
		next    atomic.Int64
		mu      sync.Mutex
		done    int64
		workers errgroup.Group
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() error {
			c := checker{store: s, hash: sha1.New(), buf: make([]byte, min(checkStep, s.torrent.Length))}
			defer c.close()
			for {
				piece := int(next.Add(1)) - 1
				if piece >= len(s.has) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				s.set(piece, c.right(piece))
				mu.Lock()
				done += s.torrent.PieceSize(piece)
				if progress != nil {
					progress(done, s.torrent.Length)
				}
				mu.Unlock()
			}
		})
	}
	err = workers.Wait()
	return s.Good(), err
}

// Good returns how many pieces Has claims.
func (s *Store) Good() int { return int(s.good.Load()) }

// Has says whether the piece was right when it was last hashed. It never blocks.
func (s *Store) Has(piece int) bool { return s.has[piece].Load() }

// Get returns a piece that was loaded lately. It never blocks.
func (s *Store) Get(piece int) (data []byte, release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.find(piece); l != nil {
		select {
		case <-l.done:
			return l.data, func() {}, l.data != nil
		default:
		}
	}
	return nil, nil, false
}

// Load reads a piece from the files and hashes it. A piece that can't be read or is wrong is no longer claimed by
// Has. The data must not be changed; it needs no releasing, but release may be called.
func (s *Store) Load(piece int) (data []byte, release func(), ok bool) {
	s.mu.Lock()
	l := s.find(piece)
	if l != nil {
		s.mu.Unlock()
		<-l.done
		return l.data, func() {}, l.data != nil
	}
	l = &loaded{piece: piece, done: make(chan struct{})}
	s.recent = append(s.recent, l)
	if keep := max(1, recentBytes/int(s.torrent.PieceLength)); len(s.recent) > keep {
		s.recent = slices.Delete(s.recent, 0, len(s.recent)-keep)
	}
	s.mu.Unlock()

	buf := make([]byte, s.torrent.PieceSize(piece))
	right := s.read(piece, buf)
	if right {
		l.data = buf
	}
	close(l.done)
	s.set(piece, right)
	if !right {
		s.forget(l) // the file may be mended later
	}
	return l.data, func() {}, right
}

// Alloc returns a buffer of the piece's size. A seeder has no use for it: it downloads nothing.
func (s *Store) Alloc(piece int) []byte { return make([]byte, s.torrent.PieceSize(piece)) }

// Free takes back a buffer of Alloc.
func (*Store) Free(int, []byte) {}

// Add drops a piece: the files are never written to.
func (*Store) Add(int, []byte) (release func()) { return func() {} }

// find returns the piece in s.recent, or nil. s.mu is held.
func (s *Store) find(piece int) *loaded {
	for _, l := range s.recent {
		if l.piece == piece {
			return l
		}
	}
	return nil
}

func (s *Store) forget(gone *loaded) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = slices.DeleteFunc(s.recent, func(l *loaded) bool { return l == gone })
}

// set records whether a piece is right.
func (s *Store) set(piece int, right bool) {
	if was := s.has[piece].Swap(right); was != right {
		if right {
			s.good.Add(1)
		} else {
			s.good.Add(-1)
		}
	}
}

// parts calls do for each run of bytes of a file that the piece is made of, in order, until it returns false, and reports
// whether the piece was gone through to its end.
func (s *Store) parts(piece int, do func(file int, begin, n int64) bool) bool {
	files := s.torrent.Files
	off := int64(piece) * s.torrent.PieceLength
	// Files lie one behind the other, so the first that ends beyond off holds it.
	i := sort.Search(len(files), func(i int) bool { return files[i].Offset+files[i].Length > off })
	for left := s.torrent.PieceSize(piece); left > 0; i++ {
		if i == len(files) {
			return false
		}
		begin := off - files[i].Offset
		n := min(left, files[i].Length-begin)
		if n > 0 && !do(i, begin, n) {
			return false
		}
		left -= n
		off += n
	}
	return true
}

// read fills buf with the piece and says whether it is right. Padding is zeros and on no disk.
func (s *Store) read(piece int, buf []byte) bool {
	rest := buf
	return s.parts(piece, func(file int, begin, n int64) bool {
		run := rest[:n]
		rest = rest[n:]
		if s.torrent.Files[file].Padding {
			clear(run)
			return true
		}
		return readAt(s.paths[file], run, begin)
	}) && sha1.Sum(buf) == s.torrent.Pieces[piece]
}

// readAt fills p from the file at path. Files are opened for each run, so that a torrent of many files can't use up
// the descriptors; next to the hash of a piece that costs nothing.
func readAt(path string, p []byte, off int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = io.ReadFull(io.NewSectionReader(f, off, int64(len(p))), p)
	return err == nil
}

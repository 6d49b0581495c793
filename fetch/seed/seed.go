// Package seed serves the pieces of a torrent from its files where they lie on disk.
//
// A Store is what a swarm uploads from when the content is there already: for `torrentfs demo`, and for seeding a
// folder in place. It owns the way from a piece to the byte ranges of the files, and what it knows of which pieces
// are right. It never writes to the files, never downloads, and never hands out a byte that it did not hash.
package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"torrentfs/cache/proof"
	"torrentfs/fetch/metainfo"
)

const (
	// maxProofs bounds, in bytes, what is remembered in order to check single blocks; 16 MiB do for 16 GiB of pieces.
	maxProofs = 16 << 20
	// pause is for how long a piece that was wrong is not looked at again, whoever asks for it: each look costs reading all
	// of it. Recheck rests for as long, or for restShare of the time that its last round took.
	pause     = time.Minute
	restShare = 9
)

// Store is a swarm.Store over complete files. Its methods may be called concurrently. It needs no closing: a while
// after it was used last, it holds no file open.
type Store struct {
	// Write once.
	torrent *metainfo.Torrent
	paths   []string // on disk, by index in torrent.Files; "" for padding

	has  []atomic.Bool // by piece: it was right when last looked at
	good atomic.Int64  // how many of has are true

	proofs *proof.Book
	idle   idle

	mu       sync.Mutex    // guards what follows
	wrong    map[int]fault // by piece
	watchers []func(piece int)
}

// fault is what was wrong with a piece when it was last looked at.
type fault struct {
	at  time.Time
	err error // proof.ErrWrong, or that of reading
	// state is that of the piece's files before Recheck looked at it; zero if it has not yet.
	state uint64
}

// Open returns a store over the content of t at root, which is either the content itself (the file of a
// single-file torrent, the folder of a multi-file one) or the folder that it lies in. It fails when a file is
// missing or not of the right length. No piece counts as there before Verify or Load has hashed it.
func Open(t *metainfo.Torrent, root string) (*Store, error) {
	paths, err := locate(t, root)
	if err != nil {
		return nil, err
	}
	return &Store{
		torrent: t, paths: paths, has: make([]atomic.Bool, t.NumPieces()), proofs: proof.New(maxProofs), wrong: make(map[int]fault),
	}, nil
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
		inside[i] = place(f, root, "")
		itself[i] = root
		if t.MultiFile {
			itself[i] = place(f, root, t.Name)
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

// place returns where below root a file is of which the path below a folder of the torrent counts: by the name that it has
// in the torrent if that is there, or else by the one that clients give it.
func place(f metainfo.File, root, folder string) string {
	below := func(path string) string {
		return filepath.Join(root, filepath.FromSlash(strings.TrimPrefix(path, folder)))
	}
	if f.RawPath != "" {
		if raw := below(f.RawPath); fits(f, raw) == nil {
			return raw
		}
	}
	return below(f.Path)
}

// check reports the first file that is not there with the right length.
func check(t *metainfo.Torrent, paths []string) error {
	for i, f := range t.Files {
		if f.Padding {
			continue
		}
		if err := fits(f, paths[i]); err != nil {
			return err
		}
	}
	return nil
}

// fits reports why what is at path can't be the file.
func fits(f metainfo.File, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() != f.Length {
		return fmt.Errorf("%s has %d bytes, not the %d of the torrent", path, info.Size(), f.Length)
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
			r := reader{store: s}
			defer r.close()
			for {
				piece := int(next.Add(1)) - 1
				if piece >= len(s.has) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				s.set(piece, s.proofs.Verify(r.check(piece)))
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

// Watch has lost called with each piece that Has claims no more. It must not block.
func (s *Store) Watch(lost func(piece int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, lost)
}

// AppendBlock appends length bytes of a piece, from begin on, to dst. It returns dst as it was, and false, when the piece
// can't be read or is wrong, which is then no longer claimed by Has, and not looked at again for a minute.
func (s *Store) AppendBlock(dst []byte, piece int, begin, length uint32) (_ []byte, ok bool) {
	if int64(begin)+int64(length) > s.torrent.PieceSize(piece) || s.pausing(piece) {
		return dst, false
	}
	// A file that was opened a while ago may have been replaced, or be out of reach though it could be opened again.
	if r := s.idle.take(s.fileAt(int64(piece)*s.torrent.PieceLength + int64(begin))); r != nil {
		if out, err := s.appendFrom(r, dst, piece, begin, length); err == nil {
			s.set(piece, nil)
			return out, true
		}
	}
	out, err := s.appendFrom(&reader{store: s}, dst, piece, begin, length)
	s.set(piece, err)
	return out, err == nil
}

// appendFrom is AppendBlock by one reader, which it keeps for others if all went well.
func (s *Store) appendFrom(r *reader, dst []byte, piece int, begin, length uint32) ([]byte, error) {
	out, err := s.proofs.Append(dst, r.check(piece), int64(begin), int64(length))
	if err != nil {
		r.close()
	} else {
		s.idle.put(r)
	}
	return out, err
}

// Get has nothing: no piece is kept in memory.
func (*Store) Get(int) (data []byte, release func(), ok bool) { return nil, nil, false }

// Load reads a piece from the files and hashes it. A piece that can't be read or is wrong is no longer claimed by
// Has. The data need no releasing, but release may be called.
func (s *Store) Load(piece int) (data []byte, release func(), ok bool) {
	r := reader{store: s}
	defer r.close()
	data, err := s.proofs.Append(make([]byte, 0, s.torrent.PieceSize(piece)), r.check(piece), 0, s.torrent.PieceSize(piece))
	s.set(piece, err)
	return data, func() {}, err == nil
}

// Alloc returns a buffer of the piece's size. A seeder has no use for it: it downloads nothing.
func (s *Store) Alloc(piece int) []byte { return make([]byte, s.torrent.PieceSize(piece)) }

// Free takes back a buffer of Alloc.
func (*Store) Free(int, []byte) {}

// Add drops a piece: the files are never written to.
func (*Store) Add(int, []byte) (release func()) { return func() {} }

// pausing says whether a piece was wrong a short while ago.
func (s *Store) pausing(piece int) bool {
	if s.Has(piece) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, wrong := s.wrong[piece]
	return wrong && time.Since(f.at) < pause
}

// set records that a piece is right, or why it is not.
func (s *Store) set(piece int, err error) {
	right := err == nil
	if right && s.Has(piece) { // as nearly always
		return
	}
	s.mu.Lock()
	was := s.has[piece].Swap(right)
	var tell []func(int)
	switch {
	case !right:
		s.wrong[piece] = fault{at: time.Now(), err: err, state: s.wrong[piece].state}
		if was {
			s.good.Add(-1)
			tell = s.watchers
		}
	case !was:
		delete(s.wrong, piece)
		s.good.Add(1)
	}
	s.mu.Unlock()
	for _, lost := range tell {
		lost(piece)
	}
}

// Recheck looks once a minute at the pieces that were wrong, so that those that were mended are claimed again, until ctx ends.
// A piece is not read again as long as its files are what they were; unless they could not be read, which costs little.
func (s *Store) Recheck(ctx context.Context) {
	rest := pause
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
		began := time.Now()
		s.recheck(ctx)
		rest = max(pause, restShare*time.Since(began))
	}
}

// recheck is a round of Recheck.
func (s *Store) recheck(ctx context.Context) {
	s.mu.Lock()
	pieces := slices.Sorted(maps.Keys(s.wrong))
	s.mu.Unlock()
	for _, piece := range pieces {
		state := s.state(piece) // before it is read: what comes later is a change
		s.mu.Lock()
		f, wrong := s.wrong[piece]
		skip := !wrong || f.state == state && errors.Is(f.err, proof.ErrWrong)
		if !skip {
			f.state = state
			s.wrong[piece] = f
		}
		s.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return
		case !skip:
			r := reader{store: s} // a new one, of the file that is there now
			s.set(piece, s.proofs.Verify(r.check(piece)))
			r.close()
		}
	}
}

// stateSeed is the seed of state, so that nobody can make files that it takes for each other.
var stateSeed = maphash.MakeSeed()

// state returns what changes with the files of a piece, as far as that can be told without reading them. It is never zero.
func (s *Store) state(piece int) uint64 {
	var files []any
	s.parts(int64(piece)*s.torrent.PieceLength, s.torrent.PieceSize(piece), func(file int, _, _ int64) bool {
		var st unix.Stat_t
		if s.torrent.Files[file].Padding || unix.Stat(s.paths[file], &st) != nil {
			return true
		}
		files = append(files, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim)
		return true
	})
	return maphash.String(stateSeed, fmt.Sprint(files...)) | 1
}

// Fault says what is wrong with the first piece that is not right, naming the file; nil if all are. A piece that was not
// looked at yet has no fault.
func (s *Store) Fault() error {
	s.mu.Lock()
	first, f := -1, fault{}
	for piece, each := range s.wrong {
		if first < 0 || piece < first {
			first, f = piece, each
		}
	}
	s.mu.Unlock()
	if first < 0 {
		return nil
	}
	if !errors.Is(f.err, proof.ErrWrong) {
		return f.err
	}
	var names []string
	var err error
	s.parts(int64(first)*s.torrent.PieceLength, s.torrent.PieceSize(first), func(file int, _, _ int64) bool {
		if !s.torrent.Files[file].Padding {
			err = cmp.Or(err, fits(s.torrent.Files[file], s.paths[file]))
			names = append(names, s.paths[file])
		}
		return true
	})
	switch n := len(names); {
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("piece %d, which is padding, is not of zeros in the torrent", first)
	case n == 1:
		return fmt.Errorf("%s differs from the torrent", names[0])
	case n == 2:
		return fmt.Errorf("%s or %s differs from the torrent", names[0], names[1])
	default:
		return fmt.Errorf("%s or one of the %d files after it differs from the torrent", names[0], n-1)
	}
}

// fileAt returns the file that holds the byte at off. Files lie one behind the other, so it is the first that ends beyond.
func (s *Store) fileAt(off int64) int {
	files := s.torrent.Files
	return sort.Search(len(files), func(i int) bool { return files[i].Offset+files[i].Length > off })
}

// parts calls do for each run of bytes of a file that n bytes of the torrent from off on are made of, in order, until it
// returns false.
func (s *Store) parts(off, n int64, do func(file int, begin, n int64) bool) {
	files := s.torrent.Files
	for i := s.fileAt(off); n > 0 && i < len(files); i++ {
		begin := off - files[i].Offset
		run := min(n, files[i].Length-begin)
		if run > 0 && !do(i, begin, run) {
			return
		}
		n -= run
		off += run
	}
}

package seed

import (
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"torrentfs/cache/proof"
)

// reader reads pieces from the files, one after the other. It holds the file that it read last open, and no more: a torrent
// of many files can't use up the descriptors.
type reader struct {
	store *Store
	piece int
	open  *os.File
	file  int // the index of the open file
}

// check turns to a piece and gives it as the book of proofs sees it.
func (r *reader) check(piece int) proof.Piece {
	r.piece = piece
	t := r.store.torrent
	return proof.Piece{Key: uint64(piece), Size: t.PieceSize(piece), Hash: t.Pieces[piece], Bytes: r, From: r.open}
}

// ReadAt implements io.ReaderAt over the bytes of the piece. Padding is zeros and on no disk.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	r.store.parts(int64(r.piece)*r.store.torrent.PieceLength+off, int64(len(p)), func(file int, begin, length int64) bool {
		part := p[n:][:length]
		if r.store.torrent.Files[file].Padding {
			clear(part)
			n += len(part)
			return true
		}
		if err = r.turnTo(file); err != nil {
			return false
		}
		var read int
		read, err = r.open.ReadAt(part, begin)
		n += read
		return read == len(part)
	})
	if n == len(p) {
		return n, nil
	}
	if err == nil {
		err = io.EOF // the torrent's
	}
	return n, err
}

func (r *reader) turnTo(file int) error {
	if r.open != nil && r.file == file {
		return nil
	}
	r.close()
	f, err := os.Open(r.store.paths[file])
	if err != nil {
		return err
	}
	r.open, r.file = f, file
	return nil
}

func (r *reader) close() {
	if r.open != nil {
		r.open.Close()
		r.open = nil
	}
}

const (
	maxIdle = 8                // files that stay open after a block was read
	idleFor = 10 * time.Second // and for how long, at least, if nobody asks for more
)

// idle are readers that nobody uses, the one given back last at the end. Peers ask for block after block, and to open a file
// costs more than to read one.
type idle struct {
	mu      sync.Mutex
	readers []*reader
	used    bool // since the timer was set
	ticking bool
}

// take returns a reader that has a file open, or nil.
func (i *idle) take(file int) *reader {
	i.mu.Lock()
	defer i.mu.Unlock()
	for at, r := range slices.Backward(i.readers) {
		if r.file == file {
			i.readers = slices.Delete(i.readers, at, at+1)
			return r
		}
	}
	return nil
}

// put keeps a reader for some time.
func (i *idle) put(r *reader) {
	if r.open == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.readers) == maxIdle {
		i.readers[0].close()
		i.readers = slices.Delete(i.readers, 0, 1)
	}
	i.readers = append(i.readers, r)
	i.used = true
	if !i.ticking {
		i.ticking = true
		time.AfterFunc(idleFor, i.tick)
	}
}

// tick closes the files if none was used for a while.
func (i *idle) tick() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.used {
		i.used = false
		time.AfterFunc(idleFor, i.tick)
		return
	}
	for _, r := range i.readers {
		r.close()
	}
	i.readers, i.ticking = nil, false
}

// Package proof checks single blocks of a piece against what they were when the whole piece had the right SHA-1.
//
// A hash of BitTorrent's covers a piece, and peers ask for blocks of 16 KiB: to read and hash the piece for each of them,
// or to keep it in memory until they have all, costs as much as the piece is long, for each peer. A Book hashes a piece
// once, through a small buffer, and keeps a short tag of each of its blocks; then a block can be read and checked by
// itself. It owns the tags. It never keeps a byte of a piece, and never opens a file.
package proof

import (
	"container/list"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
)

const (
	// BlockSize is how many bytes of a piece have one tag: what peers ask for at once.
	BlockSize = 16 << 10
	// step is how much is read between hashing, in bytes: little enough to be hashed while it is in the processor's cache.
	step = 16 * BlockSize
	// overhead is about what a piece takes beside its tags, in bytes.
	overhead = 256
	// tries is how often a block is read that is not what it was while its piece is right whenever it is hashed.
	tries = 3
)

// ErrWrong is returned for a piece that is not the torrent's, or is cut short.
var ErrWrong = errors.New("wrong bytes")

// tagSize is the length in bytes of a tag: an AES-GMAC of a block under a key that nobody outside this process knows. It
// is there for bytes on disk that change after they were verified, by a failing disk, another program or a person: whatever
// the change, the chance that the tag stays the same is below one in 2^117. It is several times as fast as SHA-1.
const tagSize = 16

// Book holds the tags of pieces, of any number of torrents. Its methods are safe for concurrent use, and need no more
// memory than its limit and a buffer for each processor.
type Book struct {
	// Written once.
	limit int64
	mac   cipher.AEAD
	nonce []byte      // always the same, which is right for tags that nobody sees
	bufs  chan []byte // one for each piece that may be hashed at a time; nil until it is needed

	mu      sync.Mutex // guards what follows; never held over I/O
	pages   map[uint64]*list.Element
	order   list.List // of *page, the one that was used longest ago first
	size    int64     // bytes that they take
	hashing map[uint64]*hashing
}

// page is a piece that was right.
type page struct {
	key  uint64
	tags []byte // of the blocks in order; never changed
}

func (p *page) size() int64 { return overhead + int64(len(p.tags)) }

// hashing is a piece being hashed.
type hashing struct {
	from any           // the Piece's
	done chan struct{} // closed once err is set for good
	err  error
}

// Piece says what a piece is and where its bytes are.
type Piece struct {
	Key   uint64 // that of no other piece in the book
	Size  int64
	Hash  [20]byte // its SHA-1
	Bytes io.ReaderAt
	From  any // what Bytes reads, comparable: who reads the same need not look whether a piece is wrong that somebody found so
}

// New returns an empty book whose tags take at most limit bytes, or what those of one piece take. 16 bytes are for 16 KiB;
// beyond that, the pieces used longest ago are forgotten, and hashed once more when they are asked for.
func New(limit int64) *Book {
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only for another length of key
	}
	mac, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only for another cipher
	}
	b := &Book{
		limit: limit, mac: mac, nonce: make([]byte, mac.NonceSize()), bufs: make(chan []byte, runtime.GOMAXPROCS(0)),
		pages: make(map[uint64]*list.Element), hashing: make(map[uint64]*hashing),
	}
	for range cap(b.bufs) {
		b.bufs <- nil
	}
	return b
}

// Append appends length bytes of a piece, from begin on, to dst, after they were checked: by their tags, or else with the
// whole piece. The range must be within the piece. The error is ErrWrong or one of reading; dst is then as it was.
func (b *Book) Append(dst []byte, p Piece, begin, length int64) ([]byte, error) {
	if begin < 0 || length < 0 || begin > p.Size-length {
		panic(fmt.Sprintf("proof: bytes %d+%d of a piece of %d", begin, length, p.Size))
	}
	for tried := 0; tried < tries; {
		if tags := b.find(p.Key); tags != nil {
			if out, ok := b.appendBlocks(dst, p, tags, begin, length); ok {
				return out, nil
			}
			tried++
		}
		// Not known, or not what it was. What was right once can be right again, so the tags are kept.
		out, done, err := b.hash(dst, p, begin, length)
		if done || err != nil {
			return out, err
		}
	}
	return dst, ErrWrong
}

// Verify hashes a piece and notes what its blocks are. The error is ErrWrong or one of reading.
func (b *Book) Verify(p Piece) error {
	_, _, err := b.hash(nil, p, 0, 0)
	return err
}

// find returns the tags of a piece, or nil.
func (b *Book) find(key uint64) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.pages[key]
	if at == nil {
		return nil
	}
	b.order.MoveToBack(at)
	return at.Value.(*page).tags
}

// appendBlocks reads the blocks that hold the range, and appends that to dst if they have their tags.
func (b *Book) appendBlocks(dst []byte, p Piece, tags []byte, begin, length int64) (_ []byte, ok bool) {
	first := begin / BlockSize
	from := first * BlockSize
	to := min((begin+length+BlockSize-1)/BlockSize*BlockSize, p.Size)
	n := len(dst)
	out := slices.Grow(dst, int(to-from))[:n+int(to-from)]
	if readAt(p.Bytes, out[n:], from) != nil {
		return dst, false
	}
	tags = tags[first*tagSize:]
	for at := n; at < len(out); at += BlockSize {
		if _, err := b.mac.Open(nil, b.nonce, tags[:tagSize], out[at:min(at+BlockSize, len(out))]); err != nil {
			return dst, false
		}
		tags = tags[tagSize:]
	}
	copy(out[n:], out[n+int(begin-from):][:length])
	return out[:n+int(length)], true
}

// hash hashes a piece, unless somebody does so already, whose result it then waits for; that a piece is wrong it believes only
// who reads the same. If it did so itself and the piece is right, it appends a range of what it hashed to dst, and done is
// true.
func (b *Book) hash(dst []byte, p Piece, begin, length int64) (_ []byte, done bool, err error) {
	b.mu.Lock()
	for h := b.hashing[p.Key]; h != nil; h = b.hashing[p.Key] {
		b.mu.Unlock()
		if <-h.done; h.err == nil || h.from == p.From {
			return dst, false, h.err
		}
		b.mu.Lock()
	}
	h := &hashing{from: p.From, done: make(chan struct{})}
	b.hashing[p.Key] = h
	b.mu.Unlock()

	out, tags, err := b.read(dst, p, begin, length)
	h.err = err
	b.mu.Lock()
	delete(b.hashing, p.Key)
	if err == nil {
		b.note(p.Key, tags)
	}
	b.mu.Unlock()
	close(h.done)
	return out, err == nil, err
}

// read is the part of hash that reads the piece.
func (b *Book) read(dst []byte, p Piece, begin, length int64) (out, tags []byte, err error) {
	buf := <-b.bufs
	defer func() { b.bufs <- buf }()
	if buf == nil {
		buf = make([]byte, step)
	}
	h := sha1.New()
	out = dst
	tags = make([]byte, 0, (p.Size+BlockSize-1)/BlockSize*tagSize)
	for at := int64(0); at < p.Size; at += step {
		part := buf[:min(step, p.Size-at)]
		if err := readAt(p.Bytes, part, at); err != nil {
			return dst, nil, err
		}
		h.Write(part)
		end := at + int64(len(part))
		if from, to := max(begin, at), min(begin+length, end); from < to {
			out = append(out, part[from-at:to-at]...)
		}
		for ; len(part) > 0; part = part[min(BlockSize, len(part)):] {
			tags = b.mac.Seal(tags, b.nonce, nil, part[:min(BlockSize, len(part))])
		}
	}
	if [20]byte(h.Sum(nil)) != p.Hash {
		return dst, nil, ErrWrong
	}
	return out, tags, nil
}

// note adds a piece that was right. The caller holds mu.
func (b *Book) note(key uint64, tags []byte) {
	if b.pages[key] != nil {
		return // with the same tags: they are of bytes of one hash
	}
	added := &page{key: key, tags: tags}
	b.pages[key] = b.order.PushBack(added)
	b.size += added.size()
	for b.size > b.limit && b.order.Len() > 1 {
		gone := b.order.Remove(b.order.Front()).(*page)
		delete(b.pages, gone.key)
		b.size -= gone.size()
	}
}

// readAt fills p. The end of a file that was cut short is the same as wrong bytes.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return ErrWrong
	}
	return err
}

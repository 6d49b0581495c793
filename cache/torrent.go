package cache

import (
	"fmt"
	"slices"
)

// Spec describes one torrent to the cache.
type Spec struct {
	InfoHash    [20]byte
	Name        string     // for people, in listings and messages
	PieceLength int64      // bytes
	Length      int64      // bytes in all
	Hashes      [][20]byte // SHA-1 of every piece; not copied, must not change
	Info        []byte     // raw info dictionary, kept on disk for Dir.Info; optional, must not change

	// Evicted, if set, is told of each piece that has left memory and disk. It runs on whichever goroutine
	// made the piece go, an Alloc's among them, so it must neither block nor call the cache; and the piece may
	// be back by the time it runs, so ask Has before telling others.
	Evicted func(piece int)
}

func (s *Spec) check() error {
	switch {
	case s.PieceLength <= 0 || s.Length < 0:
		return fmt.Errorf("cache: torrent %x: piece length %d, length %d", s.InfoHash, s.PieceLength, s.Length)
	case s.PieceLength > maxPieceLength:
		return fmt.Errorf("cache: torrent %x: pieces of %d bytes are too large", s.InfoHash, s.PieceLength)
	}
	n := s.Length / s.PieceLength
	if s.Length%s.PieceLength != 0 {
		n++
	}
	if n != int64(len(s.Hashes)) || n >= maxPieces {
		return fmt.Errorf("cache: torrent %x: %d hashes for %d pieces", s.InfoHash, len(s.Hashes), n)
	}
	return nil
}

// same says whether two specs describe the same pieces.
func (s *Spec) same(o Spec) bool {
	return s.PieceLength == o.PieceLength && s.Length == o.Length && slices.Equal(s.Hashes, o.Hashes)
}

// pieceSize returns the bytes of a piece that exists; the last one may be short.
func (s *Spec) pieceSize(n int) int64 {
	return min(s.PieceLength, s.Length-int64(n)*s.PieceLength)
}

// Torrent is a view on one torrent's pieces. Its methods may be called from any goroutine. A piece number
// out of range is never present; Alloc, Free and Add panic on one.
type Torrent struct {
	s      *shelf
	tell   *listener // nil when nobody listens
	closed bool      // guarded by s.c.mu
}

// Close gives the view back. With a torrent's last view, its pieces that wait to be written to disk are written, as
// far as it goes within seconds, which is what an error is about; and its pieces leave memory. Those handed out stay
// readable until they are released. Closing twice does nothing.
func (t *Torrent) Close() error {
	c := t.s.c
	c.mu.Lock()
	if t.closed {
		c.mu.Unlock()
		return nil
	}
	t.closed = true
	t.s.views--
	last := t.s.views == 0 && !c.closed
	if last {
		delete(c.shelves, t.s.spec.InfoHash)
	}
	c.mu.Unlock()
	c.mem.forget(t.s, t.tell)
	if last {
		return t.s.close()
	}
	return nil
}

// Keep says whether the torrent's pieces are to stay on disk whatever else wants the room, until Keep(false) or
// Dir.Remove. That outlives the mount and binds every process. It fails when the torrent can never fit.
func (t *Torrent) Keep(on bool) error {
	return t.s.setKeep(on)
}

// Persists says whether there is a disk to keep pieces on.
func (t *Torrent) Persists() bool { return t.s.c.disk != nil }

// KeepsUp says whether a piece added now is likely to be on disk before memory needs its room: the disk takes pieces of
// this torrent, and is not far behind. Without a disk it never does. It never blocks.
func (t *Torrent) KeepsUp() bool {
	v := t.s.vol.Load()
	return v != nil && !v.readOnly && t.s.c.mem.backlog() < t.s.c.mem.limit/backlogShare
}

// Get returns a piece that is in memory, pinned: its bytes stay as they are until release is called.
// Releasing twice does nothing. It never blocks.
func (t *Torrent) Get(piece int) (data []byte, release func(), ok bool) {
	return t.s.c.mem.get(t.s, piece, true)
}

// Load is Get that may also read the disk and hash what it read. It can take as long as the disk does.
func (t *Torrent) Load(piece int) (data []byte, release func(), ok bool) {
	return t.s.load(piece, true)
}

// Has says whether the piece is in memory, or the disk store claims to have it. It never blocks.
func (t *Torrent) Has(piece int) bool {
	return t.s.valid(piece) && (t.s.onDisk(piece) || t.s.c.mem.has(t.s, piece))
}

// Alloc returns a buffer of the piece's size, charged to the memory budget until Free or Add takes it. Its
// content is arbitrary. To make room, the least useful pieces are evicted; when all there is is in use, the
// budget is exceeded and Stats says so.
func (t *Torrent) Alloc(piece int) []byte {
	return t.s.c.mem.alloc(int(t.s.size(piece)))
}

// Free takes back a buffer of Alloc that nobody writes to any more.
func (t *Torrent) Free(piece int, buf []byte) {
	t.s.c.mem.free(buf[:t.s.size(piece)])
}

// Add takes a buffer of Alloc whose content the caller has verified. From here on it is immutable; the caller
// may read it until it calls release. When the piece is cached already, that copy stays and buf lives just
// until it is released.
func (t *Torrent) Add(piece int, buf []byte) (release func()) {
	return t.s.c.mem.add(t.s, piece, buf[:t.s.size(piece)], false)
}

// AppendBlock appends length bytes of a piece, from begin on, to dst, for a peer. It returns dst as it was, and false, when
// the piece is not here, or ends before. That changes nothing in memory: what peers take says nothing about what readers
// will want again, and what is on disk stays there. It can take as long as the disk does.
func (t *Torrent) AppendBlock(dst []byte, piece int, begin, length uint32) (_ []byte, ok bool) {
	return t.s.appendBlock(dst, piece, int64(begin), int64(length))
}

package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync/atomic"
)

// An index file says which pieces a data file holds:
//
//	0     magic, 16 bytes
//	16    version, uint32
//	20    flags, uint32; not covered by the checksum, so that they change by one write
//	24    info-hash, 20 bytes
//	44    piece length, int64
//	52    length, int64
//	60    length of the name, uint16, and the name
//	1020  CRC-32C of bytes [0, 20) and [24, 1020)
//	1024  one stamp for each piece, uint32
//
// All numbers are little-endian. A stamp is the Unix time in seconds when the piece was last used; 0 says that it
// is absent, and unfinished that somebody was about to write it. Each is changed by a write of its own, so several
// processes may share a file.
//
// Nothing here is trusted further than to know where to look: a piece is hashed when it is loaded. So no write is
// ever synced or ordered, and a crash at any point costs a download at most.
const (
	indexMagic   = "torrentfs cache\n"
	indexVersion = 1
	headerSize   = 1024
	maxName      = 512 // bytes of a name that are kept

	maxPieceLength = 1 << 30
	maxPieces      = 1 << 24 // a torrent may have; bounds what a foreign file can make us allocate to 64 MiB

	flagKeep = 1

	absent     = 0
	unfinished = 1
)

var errForeign = errors.New("not an index of this version for this torrent")

// header is the fixed part of an index.
type header struct {
	infoHash    [20]byte
	name        string
	pieceLength int64
	length      int64
	keep        bool
}

func (s *Spec) header() header {
	name := s.Name
	if len(name) > maxName {
		name = name[:maxName]
	}
	return header{infoHash: s.InfoHash, name: name, pieceLength: s.PieceLength, length: s.Length}
}

// pieces returns how many pieces there are.
func (h *header) pieces() int {
	n := h.length / h.pieceLength
	if h.length%h.pieceLength != 0 {
		n++
	}
	return int(n)
}

// size returns the bytes of piece n.
func (h *header) size(n int) int64 {
	return min(h.pieceLength, h.length-int64(n)*h.pieceLength)
}

// fits says whether the pieces are those of o; the names may differ.
func (h *header) fits(o header) bool {
	return h.infoHash == o.infoHash && h.pieceLength == o.pieceLength && h.length == o.length
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, indexMagic)
	binary.LittleEndian.PutUint32(b[16:], indexVersion)
	if h.keep {
		binary.LittleEndian.PutUint32(b[20:], flagKeep)
	}
	copy(b[24:], h.infoHash[:])
	binary.LittleEndian.PutUint64(b[44:], uint64(h.pieceLength))
	binary.LittleEndian.PutUint64(b[52:], uint64(h.length))
	binary.LittleEndian.PutUint16(b[60:], uint16(len(h.name)))
	copy(b[62:62+maxName], h.name)
	binary.LittleEndian.PutUint32(b[1020:], checksum(b))
	return b
}

func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(b[:20], table), table, b[24:1020])
}

func decodeHeader(b []byte) (header, error) {
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(indexMagic)) ||
		binary.LittleEndian.Uint32(b[16:]) != indexVersion || binary.LittleEndian.Uint32(b[1020:]) != checksum(b) {
		return header{}, errForeign
	}
	h := header{
		infoHash:    [20]byte(b[24:44]),
		pieceLength: int64(binary.LittleEndian.Uint64(b[44:])),
		length:      int64(binary.LittleEndian.Uint64(b[52:])),
		keep:        binary.LittleEndian.Uint32(b[20:])&flagKeep != 0,
	}
	n := int(binary.LittleEndian.Uint16(b[60:]))
	if n > maxName || h.pieceLength <= 0 || h.pieceLength > maxPieceLength || h.length < 0 || h.length/h.pieceLength >= maxPieces {
		return header{}, errForeign
	}
	h.name = string(b[62 : 62+n])
	return h, nil
}

func readHeader(f *os.File) (header, error) {
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return decodeHeader(b)
}

// eachStamp calls visit with the stamp of every piece of an index, in order, and returns how many there were: fewer
// than pieces when the file is truncated. The others are absent.
func eachStamp(f *os.File, pieces int, visit func(n int, stamp uint32)) (n int, err error) {
	b := make([]byte, 64<<10)
	for n < pieces {
		got, err := f.ReadAt(b[:min(len(b), 4*(pieces-n))], headerSize+4*int64(n))
		for s := b[:got&^3]; len(s) > 0; s = s[4:] {
			visit(n, binary.LittleEndian.Uint32(s))
			n++
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("reading the index: %w", err)
		}
	}
	return n, nil
}

func readStamp(f *os.File, n int) (uint32, error) {
	var b [4]byte
	if _, err := f.ReadAt(b[:], headerSize+4*int64(n)); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

// writeStamps writes the same stamp for count pieces from n on.
func writeStamps(f *os.File, n, count int, stamp uint32) error {
	b := make([]byte, 0, 4*count)
	for range count {
		b = binary.LittleEndian.AppendUint32(b, stamp)
	}
	_, err := f.WriteAt(b, headerSize+4*int64(n))
	return err
}

// victims finds the pieces of one torrent that were used least recently. A piece costs four bytes, its stamp, and
// no more: the oldest are found some thousands at a time by one look over all stamps, so the look's cost for
// each piece evicted does not depend on how many there are.
type victims struct {
	queue []uint64 // stamp<<32 | piece, the oldest first
}

// A look collects victimBatch pieces or a victimShare'th of all, whichever is more.
const (
	victimBatch = 4096
	victimShare = 32
)

// peek returns the piece used least recently, and its stamp.
func (v *victims) peek(stamps []atomic.Uint32) (n int, stamp uint32, ok bool) {
	for range 2 {
		for ; len(v.queue) > 0; v.queue = v.queue[1:] {
			n, stamp = int(uint32(v.queue[0])), uint32(v.queue[0]>>32)
			if stamps[n].Load() == stamp { // otherwise used, or gone, since
				return n, stamp, true
			}
		}
		v.fill(stamps)
	}
	return 0, 0, false
}

func (v *victims) pop() { v.queue = v.queue[1:] }

// fill collects the oldest pieces there are, in a heap with the youngest of them on top.
func (v *victims) fill(stamps []atomic.Uint32) {
	h := make([]uint64, 0, min(max(victimBatch, len(stamps)/victimShare), len(stamps)))
	for n := range stamps {
		stamp := stamps[n].Load()
		if stamp == absent {
			continue
		}
		switch k := uint64(stamp)<<32 | uint64(n); {
		case len(h) < cap(h):
			if h = append(h, k); len(h) == cap(h) {
				for i := len(h)/2 - 1; i >= 0; i-- {
					siftDown(h, i)
				}
			}
		case k < h[0]:
			h[0] = k
			siftDown(h, 0)
		}
	}
	slices.Sort(h)
	v.queue = h
}

func siftDown(h []uint64, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1] > h[child] {
			child++
		}
		if h[i] >= h[child] {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

package cache

import (
	"errors"
	"io"

	"torrentfs/cache/proof"
)

// This file gives blocks to peers.

// serveAhead is how many bytes of a piece the kernel is to read from the disk when a peer begins to take them. Each takes
// blocks of another piece, which the kernel's own reading ahead takes for random reads.
const serveAhead = 1 << 20

// appendBlock appends a range of a piece to dst: from memory, or else from the disk, where no more of the piece than the
// blocks that hold the range is read once it was hashed. It never loads a piece into memory: what several peers take at a
// time would fill that and be lost to each other, and to readers.
func (s *shelf) appendBlock(dst []byte, n int, begin, length int64) (_ []byte, ok bool) {
	if !s.valid(n) || begin+length > s.size(n) {
		return dst, false
	}
	for {
		if data, release, ok := s.c.mem.get(s, n, false); ok {
			dst = append(dst, data[begin:begin+length]...)
			release()
			return dst, true
		}
		v := s.vol.Load()
		if v == nil || !v.has(n) {
			return dst, false
		}
		if begin%serveAhead == 0 { // peers mostly take a piece in order
			willNeed(v.data, int64(n)*v.pieceLength+begin, min(serveAhead, s.size(n)-begin))
		}
		out, err := s.c.proofs.Append(dst, s.onVolume(v, n), begin, length)
		if err == nil {
			return out, true
		}
		if errors.Is(err, proof.ErrWrong) {
			err = nil
		}
		s.distrust(v, n, err)
		if s.vol.Load() == v {
			return dst, false
		}
		// The files were opened anew, as it happens when somebody deleted them or a disk came back.
	}
}

// onVolume is a piece as the book of proofs sees it.
func (s *shelf) onVolume(v *volume, n int) proof.Piece {
	size := s.size(n)
	return proof.Piece{
		Key: key(s, n), Size: size, Hash: s.spec.Hashes[n], Bytes: io.NewSectionReader(v.data, int64(n)*v.pieceLength, size),
		From: v,
	}
}

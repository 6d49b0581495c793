package metainfo

import "iter"

// Span is a run of bytes within one piece. Begin and Length are in bytes.
type Span struct {
	Piece         int
	Begin, Length int64
}

// NumPieces is the number of pieces.
func (t *Torrent) NumPieces() int { return len(t.Pieces) }

// PieceSize is the size of a piece in bytes: PieceLength, but for the last piece, which may be shorter. It is
// zero where there is no such piece.
func (t *Torrent) PieceSize(piece int) int64 {
	if piece < 0 || piece >= len(t.Pieces) {
		return 0
	}
	return min(t.PieceLength, t.Length-int64(piece)*t.PieceLength)
}

// Spans yields, in order, the pieces' parts that make up the n bytes of the torrent from off on. What lies
// outside the torrent is left out. A file's bytes are Spans(f.Offset, f.Length).
func (t *Torrent) Spans(off, n int64) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		if off < 0 { // n + off is safe: the signs differ, or n is negative and there is nothing to yield
			off, n = 0, max(n, 0)+off
		}
		for n = min(n, t.Length-off); n > 0; {
			s := Span{Piece: int(off / t.PieceLength), Begin: off % t.PieceLength}
			s.Length = min(n, t.PieceSize(s.Piece)-s.Begin)
			if !yield(s) {
				return
			}
			off += s.Length
			n -= s.Length
		}
	}
}

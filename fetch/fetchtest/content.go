package fetchtest

import (
	"crypto/sha1"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"torrentfs/fetch/metainfo"
)

// Content is a torrent and the bytes that it describes.
type Content struct {
	*metainfo.Torrent
	Bytes []byte
}

// NewContent makes a single-file torrent of length pseudo-random bytes, the same each time.
func NewContent(length, pieceLength int64) *Content { return newContent(length, pieceLength, "") }

// NewPrivateContent is NewContent of a private torrent (BEP 27).
func NewPrivateContent(length, pieceLength int64) *Content {
	return newContent(length, pieceLength, "7:privatei1e")
}

func newContent(length, pieceLength int64, more string) *Content {
	c := &Content{Bytes: make([]byte, length)}
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{byte(pieceLength)}), c.Bytes) // it never ends and never fails
	var hashes []byte
	for piece := range slices.Chunk(c.Bytes, int(pieceLength)) {
		sum := sha1.Sum(piece)
		hashes = append(hashes, sum[:]...)
	}
	info := fmt.Sprintf("d6:lengthi%de4:name11:content.bin12:piece lengthi%de6:pieces%d:%s%se",
		length, pieceLength, len(hashes), hashes, more)
	t, err := metainfo.ParseInfo([]byte(info))
	if err != nil {
		panic(err) // a test asked for lengths that no torrent has
	}
	c.Torrent = t
	return c
}

// Piece is the bytes of a piece.
func (c *Content) Piece(index int) []byte {
	return c.Bytes[int64(index)*c.PieceLength:][:c.PieceSize(index)]
}

// block is the bytes that a request asks for; ok is false when it lies outside its piece.
func (c *Content) block(index, begin, length uint32) (block []byte, ok bool) {
	if int64(index) >= int64(c.NumPieces()) || int64(begin)+int64(length) > c.PieceSize(int(index)) {
		return nil, false
	}
	return c.Piece(int(index))[begin:][:length], true
}

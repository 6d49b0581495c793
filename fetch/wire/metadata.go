package wire

import (
	"fmt"

	"torrentfs/fetch/metainfo"
)

// MetadataPieceSize is the length in bytes of the pieces that an info dictionary is exchanged in (BEP 9); only the last is
// shorter.
const MetadataPieceSize = 16 << 10

// The types of metadata messages (BEP 9).
const (
	MetadataRequest = 0
	MetadataData    = 1
	MetadataReject  = 2
)

// Metadata is a message of the metadata exchange, the payload of an extended message.
type Metadata struct {
	Type  int
	Piece int
	Size  int64  // Data: bytes of the whole info dictionary
	Data  []byte // Data: the piece
}

type metadataDict struct {
	Type  int64 `bencode:"msg_type"`
	Piece int64 `bencode:"piece"`
	Size  int64 `bencode:"total_size"`
}

// ParseMetadata reads a metadata message. Data refers to b. A type that is not known is no error (BEP 9 wants it ignored).
func ParseMetadata(b []byte) (Metadata, error) {
	d := metadataDict{Type: -1, Piece: -1}
	rest, err := metainfo.DecodePrefix(b, &d)
	if err != nil {
		return Metadata{}, fmt.Errorf("%w: metadata: %w", ErrMalformed, err)
	}
	if d.Type < 0 || d.Piece < 0 || d.Piece > 1<<31 || d.Size < 0 {
		return Metadata{}, fmt.Errorf("%w: metadata message of type %d for piece %d of %d bytes", ErrMalformed, d.Type, d.Piece, d.Size)
	}
	m := Metadata{Type: int(d.Type), Piece: int(d.Piece)}
	if m.Type == MetadataData {
		m.Size, m.Data = d.Size, rest
	}
	return m, nil
}

// Append appends the message's payload to b.
func (m Metadata) Append(b []byte) []byte {
	b = append(b, 'd')
	b = appendString(b, "msg_type")
	b = appendInt(b, int64(m.Type))
	b = appendString(b, "piece")
	b = appendInt(b, int64(m.Piece))
	if m.Type == MetadataData {
		b = appendString(b, "total_size")
		b = appendInt(b, m.Size)
	}
	return append(append(b, 'e'), m.Data...)
}

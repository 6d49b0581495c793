package wire

import (
	"encoding/binary"
	"fmt"
)

// MaxClaims is how many pieces one message of claims may name.
const MaxClaims = 1024

// Claims is a message of our own extension tf_claims, the payload of an extended message: the pieces that its sender is
// fetching just now from peers that have everything, and that no other peer has yet. So peers that want the same need not
// ask the same of a seeder each. On the wire it is a byte, 1 if All, then each piece as a 32-bit integer.
type Claims struct {
	All    bool // these are all its claims, in place of those said before; otherwise they are new ones beside them
	Pieces []uint32
}

// ParseClaims reads a message of claims.
func ParseClaims(b []byte) (Claims, error) {
	if len(b) == 0 || b[0] > 1 || len(b)%4 != 1 || len(b) > 1+4*MaxClaims {
		return Claims{}, fmt.Errorf("%w: claims of %d bytes", ErrMalformed, len(b))
	}
	c := Claims{All: b[0] == 1}
	for b = b[1:]; len(b) > 0; b = b[4:] {
		c.Pieces = append(c.Pieces, binary.BigEndian.Uint32(b))
	}
	return c, nil
}

// Append appends the message's payload to b.
func (c Claims) Append(b []byte) []byte {
	all := byte(0)
	if c.All {
		all = 1
	}
	b = append(b, all)
	for _, piece := range c.Pieces {
		b = binary.BigEndian.AppendUint32(b, piece)
	}
	return b
}

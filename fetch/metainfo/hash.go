package metainfo

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"
)

// Hash is a version 1 info-hash: the SHA-1 of the raw bytes of the info dictionary (BEP 3).
type Hash [20]byte

// String is the hash as 40 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

var base32Digits = base32.StdEncoding.WithPadding(base32.NoPadding)

// ParseHash reads an info-hash written as 40 hexadecimal or 32 base32 digits, in either case (BEP 9).
func ParseHash(s string) (Hash, error) {
	var h Hash
	var n int
	var err error
	switch len(s) {
	case hex.EncodedLen(len(h)):
		n, err = hex.Decode(h[:], []byte(s))
	case base32Digits.EncodedLen(len(h)):
		n, err = base32Digits.Decode(h[:], []byte(strings.ToUpper(s)))
	default:
		return Hash{}, fmt.Errorf("info-hash has %d characters, want 40 hexadecimal or 32 base32 digits", len(s))
	}
	if err != nil || n < len(h) { // line breaks are not digits, but no error either
		return Hash{}, fmt.Errorf("info-hash %q is neither hexadecimal nor base32", s)
	}
	return h, nil
}

package wire

// HasBit reports whether a piece is set in a bitfield (BEP 3).
func HasBit(bits []byte, piece int) bool { return bits[piece/8]&(0x80>>(piece%8)) != 0 }

// SetBit sets a piece in a bitfield, or clears it.
func SetBit(bits []byte, piece int, yes bool) {
	if yes {
		bits[piece/8] |= 0x80 >> (piece % 8)
	} else {
		bits[piece/8] &^= 0x80 >> (piece % 8)
	}
}

// Full reports whether a bitfield has all n pieces.
func Full(bits []byte, n int) bool {
	for i := range n / 8 {
		if bits[i] != 0xff {
			return false
		}
	}
	return n%8 == 0 || bits[n/8] == 0xff<<(8-n%8)
}

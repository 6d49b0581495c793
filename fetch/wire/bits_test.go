package wire

import "testing"

func TestBits(t *testing.T) {
	for n := 1; n <= 17; n++ {
		bits := make([]byte, (n+7)/8)
		for i := range n {
			if HasBit(bits, i) || Full(bits, n) {
				t.Fatalf("piece %d of %d is there already: %08b", i, n, bits)
			}
			SetBit(bits, i, true)
			if !HasBit(bits, i) {
				t.Fatalf("piece %d of %d is not there: %08b", i, n, bits)
			}
		}
		if !Full(bits, n) {
			t.Errorf("%08b is not full with %d pieces", bits, n)
		}
		SetBit(bits, n/2, false)
		if HasBit(bits, n/2) || Full(bits, n) {
			t.Errorf("%08b is full without piece %d of %d", bits, n/2, n)
		}
	}
}

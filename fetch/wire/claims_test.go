package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func TestClaims(t *testing.T) {
	for _, want := range []Claims{{}, {All: true}, {Pieces: []uint32{1, 1 << 31}}, {All: true, Pieces: make([]uint32, MaxClaims)}} {
		got, err := ParseClaims(want.Append(nil))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v %d became %v %d, %v", want.All, len(want.Pieces), got.All, len(got.Pieces), err)
		}
	}
	for _, bad := range [][]byte{nil, {2}, {0, 1}, {1, 0, 0, 0}, make([]byte, 1+4*(MaxClaims+1))} {
		if c, err := ParseClaims(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v, %v", len(bad), c, err)
		}
	}
}

// FuzzClaims: no panic, a bounded number of pieces, and what is taken prints to the same.
func FuzzClaims(f *testing.F) {
	f.Add(Claims{All: true, Pieces: []uint32{7, 9}}.Append(nil))
	f.Add(Claims{}.Append(nil))
	for _, bad := range [][]byte{nil, {2}, {0, 1}, {1, 0, 0, 0}, make([]byte, 1+4*(MaxClaims+1))} {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClaims(b)
		if err == nil && (len(c.Pieces) > MaxClaims || !bytes.Equal(c.Append(nil), b)) {
			t.Fatalf("%d pieces", len(c.Pieces))
		}
	})
}

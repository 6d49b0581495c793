package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestMetadata(t *testing.T) {
	for _, want := range []Metadata{
		{Type: MetadataRequest, Piece: 3},
		{Type: MetadataData, Piece: 1, Size: 20000, Data: []byte("d4:name1:xe")},
		{Type: MetadataReject, Piece: 9},
	} {
		got, err := ParseMetadata(want.Append(nil))
		if err != nil || !reflect.DeepEqual(got, want) && !(len(want.Data) == 0 && got.Type == want.Type && got.Piece == want.Piece) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	for _, bad := range []string{"", "le", "de", "d8:msg_typei0ee", "d8:msg_typei0e5:piecei-1ee", "d8:msg_typei1e5:piecei0e10:total_sizei-1ee"} {
		if m, err := ParseMetadata([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %+v, %v", bad, m, err)
		}
	}
}

func TestExchange(t *testing.T) {
	want := Exchange{
		Added:   []netip.AddrPort{netip.MustParseAddrPort("10.1.2.3:6881"), netip.MustParseAddrPort("[2001:db8::1]:51413")},
		Dropped: []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:1"), netip.MustParseAddrPort("[2001:db8::2]:2")},
	}
	got, err := ParseExchange(want.Append(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	flood := Exchange{Added: make([]netip.AddrPort, 1000)}
	for i := range flood.Added {
		flood.Added[i] = want.Added[0]
	}
	if got, err := ParseExchange(flood.Append(nil)); err != nil || len(got.Added) != MaxPEX {
		t.Fatalf("%d addresses taken, %v", len(got.Added), err)
	}
	if got, err := ParseExchange([]byte("d5:added7:1234567e")); err != nil || len(got.Added) != 1 {
		t.Fatalf("a list with a byte too many: %+v, %v", got, err)
	}
	if _, err := ParseExchange([]byte(strings.Repeat("l", 1000))); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
}

// FuzzMetadata: no panic, and what is taken prints and parses to the same.
func FuzzMetadata(f *testing.F) {
	f.Add(Metadata{Type: MetadataData, Piece: 1, Size: 5, Data: []byte("x")}.Append(nil))
	f.Add(Metadata{Type: MetadataRequest}.Append(nil))
	f.Add(Metadata{Type: MetadataReject, Piece: 1 << 31}.Append(nil))
	for _, s := range []string{"", "le", "d8:msg_typei3e5:piecei0eerest", "d8:msg_typei0e5:piecei2147483649ee", "d8:msg_typei1e5:piecei0e10:total_sizei-1ee"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		modest(t, len(b), func() { _, _ = ParseMetadata(b) })
		m, err := ParseMetadata(b)
		if err != nil {
			return
		}
		again, err := ParseMetadata(m.Append(nil))
		if err != nil || again.Type != m.Type || again.Piece != m.Piece || again.Size != m.Size || !bytes.Equal(again.Data, m.Data) {
			t.Fatalf("%+v became %+v (%v)", m, again, err)
		}
	})
}

// FuzzExchange: no panic, a bounded number of addresses, and they survive printing and parsing.
func FuzzExchange(f *testing.F) {
	f.Add(Exchange{Added: []netip.AddrPort{netip.MustParseAddrPort("10.1.2.3:6881")}}.Append(nil))
	f.Add([]byte("d6:added618:aaaaaaaaaaaaaaaaaae"))
	f.Add([]byte("d5:added7:aaaaaaa7:added.f1:x7:dropped5:abcde8:dropped618:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xffaaaaaae"))
	f.Add([]byte("d5:added600:" + strings.Repeat("a", 600) + "e"))
	f.Add([]byte("le"))
	f.Fuzz(func(t *testing.T, b []byte) {
		modest(t, len(b), func() { _, _ = ParseExchange(b) })
		e, err := ParseExchange(b)
		if err != nil {
			return
		}
		if len(e.Added) > 2*MaxPEX || len(e.Dropped) > 2*MaxPEX {
			t.Fatalf("%d added, %d dropped", len(e.Added), len(e.Dropped))
		}
		for _, a := range append(e.Added, e.Dropped...) {
			if a.Addr().Is4In6() {
				t.Errorf("%v hides an IPv4 address", a)
			}
		}
		// Printed by family, so that an IPv4 address that came among those of IPv6 moves; beyond MaxPEX of a family they
		// are left out.
		again, err := ParseExchange(e.Append(nil))
		if err != nil || !same(again.Added, e.Added) || !same(again.Dropped, e.Dropped) {
			t.Fatalf("%+v became %+v (%v)", e, again, err)
		}
	})
}

// same says whether two lists hold the same addresses of each family, as far as a message has room for them.
func same(a, b []netip.AddrPort) bool {
	for _, six := range []bool{false, true} {
		family := func(list []netip.AddrPort) (kept []netip.AddrPort) {
			for _, a := range list {
				if a.Addr().Is6() == six && len(kept) < MaxPEX {
					kept = append(kept, a)
				}
			}
			return kept
		}
		if !slices.Equal(family(a), family(b)) {
			return false
		}
	}
	return true
}

// FuzzDontHave: four bytes are an index, anything else is nothing.
func FuzzDontHave(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		index, ok := ParseDontHave(b)
		if ok != (len(b) == 4) || ok && !bytes.Equal(binary.BigEndian.AppendUint32(nil, index), b) {
			t.Fatalf("%x is %d, %v", b, index, ok)
		}
	})
}

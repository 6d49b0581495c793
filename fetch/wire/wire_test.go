package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"torrentfs/fetch/fetchtest/heap"
)

var messages = []Message{
	{ID: KeepAlive},
	{ID: Choke}, {ID: Unchoke}, {ID: Interested}, {ID: NotInterested},
	{ID: Have, Index: 7},
	{ID: Bitfield, Data: []byte{0xff, 0x80}},
	{ID: Request, Index: 1, Begin: 2, Length: 3},
	{ID: Piece, Index: 1, Begin: 2, Length: 4, Data: []byte("data")},
	{ID: Cancel, Index: 1, Begin: 2, Length: 3},
	{ID: Port, Index: 6881},
	{ID: Suggest, Index: 9}, {ID: HaveAll}, {ID: HaveNone},
	{ID: Reject, Index: 1, Begin: 2, Length: 3},
	{ID: AllowedFast, Index: 1 << 31},
	{ID: Extended, Ext: 3, Data: []byte("payload")},
}

func TestMessagesSurviveTheWire(t *testing.T) {
	var b []byte
	for _, m := range messages {
		b = m.Append(b)
	}
	for name, src := range map[string]io.Reader{
		"at once":         bytes.NewReader(b),
		"byte by byte":    iotest.OneByteReader(bytes.NewReader(b)),
		"data with error": iotest.DataErrReader(bytes.NewReader(b)),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(src, 1<<20)
			for _, want := range messages {
				got, err := r.Next()
				if err != nil {
					t.Fatalf("%v: %v", want.ID, err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("got %+v, want %+v", got, want)
				}
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Fatalf("at the end: %v, want EOF", err)
			}
		})
	}
}

func TestPieceHeaderIsThatOfAPiece(t *testing.T) {
	want := Message{ID: Piece, Index: 5, Begin: 16384, Data: []byte("block")}.Append(nil)
	got := append(AppendPieceHeader(nil, 5, 16384, 5), "block"...)
	if !bytes.Equal(got, want) || len(AppendPieceHeader(nil, 0, 0, 0)) != PieceHeaderSize {
		t.Fatalf("got %x, want %x", got, want)
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	for name, b := range malformed {
		t.Run(name, func(t *testing.T) {
			if m, err := NewReader(bytes.NewReader(b), 1<<20).Next(); !errors.Is(err, ErrMalformed) {
				t.Fatalf("got %+v, %v; want ErrMalformed", m, err)
			}
		})
	}
}

func frame(n uint32, body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), body...)
}

// malformed are messages that break the framing.
var malformed = map[string][]byte{
	"a length over the limit":    frame(1<<20+1, 20),
	"the longest length":         frame(0xffffffff),
	"choke with a body":          frame(2, byte(Choke), 0),
	"have too short":             frame(4, byte(Have), 0, 0, 0),
	"have too long":              frame(6, byte(Have), 0, 0, 0, 0, 0),
	"request too short":          frame(12, append([]byte{byte(Request)}, make([]byte, 11)...)...),
	"piece without a header":     frame(8, append([]byte{byte(Piece)}, make([]byte, 7)...)...),
	"extended without a number":  frame(1, byte(Extended)),
	"port of one byte":           frame(2, byte(Port), 1),
	"reject of the wrong length": frame(1, byte(Reject)),
}

func TestCutMessagesAreUnexpectedEnds(t *testing.T) {
	whole := Message{ID: Piece, Index: 1, Data: make([]byte, 100)}.Append(nil)
	for n := 1; n < len(whole); n++ {
		if _, err := NewReader(bytes.NewReader(whole[:n]), 1<<20).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestUnknownMessagesPassUnharmed(t *testing.T) {
	r := NewReader(bytes.NewReader([]byte{0, 0, 0, 3, 99, 1, 2, 0, 0, 0, 1, byte(Choke)}), 1<<20)
	if m, err := r.Next(); err != nil || m.ID != 99 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if m, err := r.Next(); err != nil || m.ID != Choke {
		t.Fatalf("got %+v, %v", m, err)
	}
}

// A claim of a long message must not size an allocation before its bytes are there, beyond the limit that its owner set,
// and a peer that sends little must cost little.
func TestBufferGrowsOnlyWithWhatComes(t *testing.T) {
	var b []byte
	for range 100 {
		b = Message{ID: Have, Index: 1}.Append(b)
	}
	r := NewReader(iotest.OneByteReader(bytes.NewReader(b)), 1<<20)
	for range 100 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.buf) > smallest {
		t.Fatalf("the buffer has grown to %d bytes", len(r.buf))
	}
}

func TestBufferedSaysWhetherNextWouldWait(t *testing.T) {
	b := Message{ID: Choke}.Append(Message{ID: Unchoke}.Append(nil))
	r := NewReader(bytes.NewReader(append(b, 0, 0)), 1<<20)
	if r.Buffered() {
		t.Fatal("nothing is read yet")
	}
	for i, want := range []bool{true, false} {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if r.Buffered() != want {
			t.Fatalf("after message %d: %v", i, !want)
		}
	}
}

func TestHandshake(t *testing.T) {
	want := Handshake{Features: Features{Fast: true, Extended: true}, InfoHash: [20]byte{1}, PeerID: [20]byte{2}}
	b := want.Append(nil)
	if len(b) != HandshakeSize {
		t.Fatalf("%d bytes", len(b))
	}
	got, err := ReadHandshake(iotest.OneByteReader(bytes.NewReader(append(b, 0xff))))
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"GET / HTTP/1.1\r\n" + strings.Repeat("x", 100), "\x13BitTorrent protocoL" + strings.Repeat("x", 48)} {
		if _, err := ReadHandshake(strings.NewReader(bad)); !errors.Is(err, ErrNotBitTorrent) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	for n := range len(b) {
		if _, err := ReadHandshake(bytes.NewReader(b[:n])); err == nil {
			t.Errorf("a handshake of %d bytes was taken", n)
		}
	}
}

func TestExtendedHandshake(t *testing.T) {
	want := ExtendedHandshake{
		Messages: map[string]uint8{ExtMetadata: 1, ExtPEX: 2, ExtDontHave: 3},
		Port:     6881, Version: "torrentfs 0.1", ReqQ: 500, MetadataSize: 12345, UploadOnly: true,
	}
	got, err := ParseExtendedHandshake(want.Append(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	// Other clients send more than we know, and numbers of every kind.
	got, err = ParseExtendedHandshake([]byte("d1:ei0e1:md11:lt_donthavei7e11:ut_metadatai256e6:ut_pexi0ee1:pi70000e4:reqqi-5e6:yourip4:abcde"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (ExtendedHandshake{Messages: map[string]uint8{ExtDontHave: 7}}); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if _, err := ParseExtendedHandshake([]byte("le")); !errors.Is(err, ErrMalformed) {
		t.Fatalf("a list: %v", err)
	}
}

// FuzzReader: whatever comes, no panic, no message longer than the limit, and what parses prints the same again.
func FuzzReader(f *testing.F) {
	for _, m := range messages {
		f.Add(m.Append(nil))
	}
	for _, b := range malformed {
		f.Add(b)
	}
	block := Message{ID: Piece, Data: make([]byte, BlockSize)}.Append(nil)
	f.Add(block[:100])                          // cut off
	f.Add(append([]byte{0, 0, 0, 1}, block...)) // out of step
	f.Add(bytes.Repeat(block, 4))               // for which the buffer grows
	f.Add(Message{ID: Bitfield, Data: make([]byte, 60<<10)}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 64 << 10
		// One buffer that doubles up to the largest, and one for a message that only its length prefix promises.
		if n := heap.Allocated(func() { readAll(NewReader(bytes.NewReader(b), limit)) }); n > 2*largest+limit+16<<10 {
			t.Errorf("%d bytes allocated for %d", n, len(b))
		}
		r := NewReader(bytes.NewReader(b), limit)
		at := 0
		for {
			m, err := r.Next()
			if err != nil {
				return
			}
			if len(m.Data) > limit {
				t.Fatalf("%d bytes of data", len(m.Data))
			}
			n := 4 + int(binary.BigEndian.Uint32(b[at:]))
			if _, known := names[m.ID]; known && !(m.ID == KeepAlive && n > 4) && !bytes.Equal(m.Append(nil), b[at:at+n]) {
				t.Fatalf("%+v prints as %x, was %x", m, m.Append(nil), b[at:at+n])
			}
			at += n
		}
	})
}

// readAll reads messages to the end.
func readAll(r *Reader) {
	for {
		if _, err := r.Next(); err != nil {
			return
		}
	}
}

// FuzzHandshake: what is taken says what its bytes say, and nothing behind it is read.
func FuzzHandshake(f *testing.F) {
	f.Add(Handshake{InfoHash: [20]byte{1}, PeerID: [20]byte{2}}.Append(nil))
	f.Add(append(Handshake{Features: Features{true, true, true}, InfoHash: [20]byte{1}}.Append(nil), "more"...))
	f.Add([]byte("\x13BitTorrent protocoL" + strings.Repeat("x", 48)))
	f.Add([]byte("\x13BitTorrent protocol"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := ReadHandshake(r)
		if read := len(b) - r.Len(); read > HandshakeSize {
			t.Fatalf("%d bytes were read", read)
		}
		if err != nil {
			return
		}
		printed := h.Append(nil)
		for i := range printed {
			if reserved := i >= 20 && i < 28; printed[i] != b[i] && !reserved || printed[i]&^b[i] != 0 {
				t.Fatalf("byte %d of %x is printed as %x", i, b[:HandshakeSize], printed)
			}
		}
		if again, err := ReadHandshake(bytes.NewReader(printed)); err != nil || again != h {
			t.Fatalf("%+v became %+v (%v)", h, again, err)
		}
	})
}

// modest checks that a parser took no more memory than a message of n bytes may cost.
func modest(t *testing.T, n int, parse func()) {
	t.Helper()
	if took := heap.Allocated(parse); took > 64<<10+64*uint64(n) {
		t.Errorf("%d bytes allocated for %d", took, n)
	}
}

// FuzzExtendedHandshake: no panic, and what is taken survives printing and parsing.
func FuzzExtendedHandshake(f *testing.F) {
	f.Add([]byte("d1:md6:ut_pexi1ee1:pi6881e4:reqqi250e1:v3:abce"))
	f.Add([]byte("d1:mi1ee"))
	f.Add([]byte("de"))
	f.Add([]byte("le"))
	f.Add([]byte("d1:md11:lt_donthavei7e11:ut_metadatai256e6:ut_pexi-1ee13:metadata_sizei31235e1:pi70000e4:reqqi-5e11:upload_onlyi1ee"))
	f.Add([]byte("d13:metadata_sizei-1e4:reqqi9223372036854775807e1:v100:" + strings.Repeat("v", 100) + "e"))
	f.Fuzz(func(t *testing.T, b []byte) {
		modest(t, len(b), func() { _, _ = ParseExtendedHandshake(b) })
		h, err := ParseExtendedHandshake(b)
		if err != nil {
			return
		}
		again, err := ParseExtendedHandshake(h.Append(nil))
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%+v became %+v (%v)", h, again, err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	frame := Message{ID: Piece, Data: make([]byte, BlockSize)}.Append(nil)
	stream := bytes.Repeat(frame, 64)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	src := bytes.NewReader(stream)
	r := NewReader(src, 1<<20)
	for b.Loop() {
		src.Reset(stream)
		for range 64 {
			if _, err := r.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

package peer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"torrentfs/fetch/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pieces = 20

// far is the other end of a connection under test: a peer that a test plays by hand.
type far struct {
	t  *testing.T
	nc net.Conn
	rd *wire.Reader
}

// pair shakes hands between a Conn under test and a hand-played peer of the given features.
func pair(t *testing.T, link *Torrent, features wire.Features) (*Conn, *far) {
	t.Helper()
	near, other := tcpPair(t)
	shaken := make(chan error, 1)
	go func() {
		h, err := wire.ReadHandshake(other)
		if err == nil {
			_, err = other.Write(wire.Handshake{Features: features, InfoHash: h.InfoHash, PeerID: [20]byte{'f'}}.Append(nil))
		}
		shaken <- err
	}()
	c, err := Initiate(t.Context(), near, link)
	if err := errors.Join(err, <-shaken); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	return c, &far{t: t, nc: other, rd: wire.NewReader(other, 1<<20)}
}

func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() {
		nc, _ := l.Accept()
		got <- nc
	}()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return a, <-got
}

// send writes messages to the Conn under test.
func (f *far) send(ms ...wire.Message) {
	f.t.Helper()
	var b []byte
	for _, m := range ms {
		b = m.Append(b)
	}
	if _, err := f.nc.Write(b); err != nil {
		f.t.Fatal(err)
	}
}

// expect reads the next message and checks its kind.
func (f *far) expect(id wire.ID) wire.Message {
	f.t.Helper()
	_ = f.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	m, err := f.rd.Next()
	if err != nil || m.ID != id {
		f.t.Fatalf("got %v, %v; want %v", m.ID, err, id)
	}
	return m
}

// swarmSide collects what a Conn tells.
type swarmSide struct {
	events chan *Batch
	done   chan struct{}
	wg     sync.WaitGroup
}

func newSide(t *testing.T) (*swarmSide, *Torrent) {
	s := &swarmSide{events: make(chan *Batch, 1000), done: make(chan struct{})}
	t.Cleanup(func() {
		close(s.done)
		s.wg.Wait()
	})
	return s, &Torrent{InfoHash: [20]byte{1}, PeerID: [20]byte{'n'}, Pieces: pieces, PieceLength: 1 << 20, Length: pieces << 20, Events: s.events, Done: s.done}
}

// next waits for the next item or the connection's end.
func (s *swarmSide) next(t *testing.T) (Item, error) {
	t.Helper()
	select {
	case b := <-s.events:
		if b.Err != nil {
			return Item{}, b.Err
		}
		if len(b.Items) > 1 {
			rest := *b
			rest.Items = b.Items[1:]
			defer func() { s.pushFront(&rest) }()
		}
		return b.Items[0], nil
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happens")
		return Item{}, nil
	}
}

func (s *swarmSide) pushFront(b *Batch) {
	var later []*Batch
	for len(s.events) > 0 {
		later = append(later, <-s.events)
	}
	s.events <- b
	for _, l := range later {
		s.events <- l
	}
}

// memory is a sink that keeps what comes.
type memory struct {
	mu     sync.Mutex
	blocks map[uint32][]byte
	shut   bool
}

func (m *memory) Put(begin uint32, block []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut || m.blocks[begin] != nil {
		return false
	}
	if m.blocks == nil {
		m.blocks = make(map[uint32][]byte)
	}
	m.blocks[begin] = bytes.Clone(block)
	return true
}

var all = wire.Features{Fast: true, Extended: true}

func TestStartSaysWhatWeHave(t *testing.T) {
	whole := []byte{0xff, 0xff, 0xf0}
	for _, c := range []struct {
		name     string
		have     []byte
		features wire.Features
		want     []wire.ID
	}{
		{"nothing", nil, all, []wire.ID{wire.HaveNone, wire.Extended}},
		{"nothing, plain peer", nil, wire.Features{}, nil},
		{"all", whole, all, []wire.ID{wire.HaveAll, wire.Extended}},
		{"all, plain peer", whole, wire.Features{}, []wire.ID{wire.Bitfield}},
		{"some", []byte{1, 2, 0}, all, []wire.ID{wire.Bitfield, wire.Extended}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, link := newSide(t)
			conn, f := pair(t, link, c.features)
			conn.Start(c.have, &s.wg)
			defer conn.Close()
			conn.Send(wire.Message{ID: wire.Interested})
			for _, id := range c.want {
				f.expect(id)
			}
			f.expect(wire.Interested)
		})
	}
}

func TestBlocksGoToTheirSinks(t *testing.T) {
	s, link := newSide(t)
	c, f := pair(t, link, all)
	c.Start(nil, &s.wg)
	defer c.Close()
	f.expect(wire.HaveNone)
	f.expect(wire.Extended)
	sink := new(memory)
	c.Request(3, 0, 5, sink)
	c.Request(3, 16384, 5, sink)
	if m := f.expect(wire.Request); m.Index != 3 || m.Length != 5 {
		t.Fatalf("%+v", m)
	}
	f.expect(wire.Request)
	c.Cancel(3, 16384)
	f.expect(wire.Cancel)
	f.send(wire.Message{ID: wire.Piece, Index: 3, Begin: 0, Data: []byte("right")},
		wire.Message{ID: wire.Piece, Index: 3, Begin: 16384, Data: []byte("after")}, // cancelled, and welcome all the same
		wire.Message{ID: wire.Piece, Index: 4, Begin: 0, Data: []byte("never")})     // never asked for
	for i, stored := range []bool{true, true, false} {
		it, err := s.next(t)
		if err != nil || it.ID != wire.Piece || (it.Stored == Sink(sink)) != stored || it.Length != 5 {
			t.Fatalf("item %d: %+v, %v", i, it, err)
		}
	}
	if string(sink.blocks[0]) != "right" || string(sink.blocks[16384]) != "after" || len(sink.blocks) != 2 {
		t.Fatalf("%v", sink.blocks)
	}
}

func TestViolationsEndTheConnection(t *testing.T) {
	big := make([]byte, 16384)
	for _, c := range []struct {
		name     string
		features wire.Features
		send     []wire.Message
		want     string
	}{
		{"have out of range", all, []wire.Message{{ID: wire.Have, Index: pieces}}, "piece 20 out of 20"},
		{"request out of range", all, []wire.Message{{ID: wire.Request, Index: 1 << 31, Length: 1}}, "out of 20"},
		{"allowed fast out of range", all, []wire.Message{{ID: wire.AllowedFast, Index: 77}}, "out of 20"},
		{"request of nothing", all, []wire.Message{{ID: wire.Request}}, "request of 0 bytes"},
		{"request of too much", all, []wire.Message{{ID: wire.Request, Length: 1 << 20}}, "request of 1048576 bytes"},
		{"short bitfield", all, []wire.Message{{ID: wire.Bitfield, Data: []byte{1}}}, "bitfield of 1 bytes"},
		{"long bitfield", all, []wire.Message{{ID: wire.Bitfield, Data: make([]byte, 4)}}, "bitfield of 4 bytes"},
		{"spare bits", all, []wire.Message{{ID: wire.Bitfield, Data: []byte{0, 0, 1}}}, "spare bits"},
		{"a flood of bitfields", all, repeat(wire.Message{ID: wire.Bitfield, Data: []byte{0, 0, 0}}, chatterBurst+chatterRate), "flood"},
		{"second have none", all, []wire.Message{{ID: wire.HaveAll}, {ID: wire.HaveNone}}, "late have none"},
		{"have all unasked", wire.Features{}, []wire.Message{{ID: wire.HaveAll}}, "without the fast extension"},
		{"reject unasked", wire.Features{}, []wire.Message{{ID: wire.Reject}}, "without the fast extension"},
		{"extended unasked", wire.Features{}, []wire.Message{{ID: wire.Extended, Data: []byte("de")}}, "without the extension protocol"},
		{"block of another length", all, []wire.Message{{ID: wire.Piece, Index: 7, Data: []byte("long")}}, "block of 4 bytes instead of 3"},
		{"a flood of blocks", all, repeat(wire.Message{ID: wire.Piece, Index: 9, Data: big}, 513), "nobody asked for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, link := newSide(t)
			conn, f := pair(t, link, c.features)
			conn.Request(7, 0, 3, new(memory))
			conn.Start(nil, &s.wg)
			defer conn.Close()
			go func() {
				for _, m := range c.send {
					if _, err := f.nc.Write(m.Append(nil)); err != nil {
						return
					}
				}
			}()
			for {
				_, err := s.next(t)
				if err == nil {
					continue
				}
				if !strings.Contains(err.Error(), c.want) {
					t.Fatalf("ended with %q, want %q", err, c.want)
				}
				return
			}
		})
	}
}

func repeat(m wire.Message, n int) (all []wire.Message) {
	for range n {
		all = append(all, m)
	}
	return all
}

// one is a source of one piece.
type one struct {
	piece int
	data  []byte
}

func (o *one) AppendBlock(dst []byte, piece int, begin, length uint32) ([]byte, bool) {
	if piece != o.piece {
		return dst, false
	}
	return append(dst, o.data[begin:begin+length]...), true
}

func TestServesTheUnchoked(t *testing.T) {
	s, link := newSide(t)
	link.Source = &one{piece: 2, data: []byte("0123456789")}
	link.PieceLength, link.Length = 10, 10*pieces
	c, f := pair(t, link, all)
	c.Start([]byte{0x20, 0, 0}, &s.wg)
	f.expect(wire.Bitfield)
	f.expect(wire.Extended)

	f.send(wire.Message{ID: wire.Request, Index: 2, Begin: 3, Length: 4})
	if m := f.expect(wire.Reject); m.Begin != 3 || m.Length != 4 { // still choked
		t.Fatalf("%+v", m)
	}
	c.Unchoke(true)
	f.expect(wire.Unchoke)
	f.send(wire.Message{ID: wire.Request, Index: 2, Begin: 3, Length: 4})
	if m := f.expect(wire.Piece); string(m.Data) != "3456" || m.Index != 2 || m.Begin != 3 {
		t.Fatalf("%+v", m)
	}
	f.send(wire.Message{ID: wire.Request, Index: 2, Begin: 8, Length: 4}) // beyond its end
	f.expect(wire.Reject)
	f.send(wire.Message{ID: wire.Request, Index: 5, Begin: 0, Length: 4}) // not ours
	f.expect(wire.Reject)
	c.Unchoke(false)
	f.expect(wire.Choke)
	c.Close()
	for {
		if _, err := s.next(t); err != nil {
			break
		}
	}
	if c.Uploaded() != 4 {
		t.Fatalf("%d bytes uploaded", c.Uploaded())
	}
}

func TestCancelledRequestIsRejected(t *testing.T) {
	link := &Torrent{Pieces: pieces, PieceLength: 10, Length: 10 * pieces, Source: &one{}}
	c := newConn(nil, link, wire.Handshake{Features: all})
	c.unchoked = true
	r := wire.Message{ID: wire.Request, Index: 1, Begin: 0, Length: 9}
	if !c.enqueue(r) {
		t.Fatal("refused")
	}
	c.dequeue(wire.Message{ID: wire.Cancel, Index: 1, Begin: 0, Length: 9})
	r.ID = wire.Reject
	if len(c.serve) != 0 || !bytes.Equal(c.out, r.Append(nil)) {
		t.Fatalf("%d requests queued, out %x", len(c.serve), c.out)
	}
}

func TestHandshakeRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply wire.Handshake
		want  error
	}{
		{"another torrent", wire.Handshake{InfoHash: [20]byte{9}}, ErrWrongTorrent},
		{"ourselves", wire.Handshake{InfoHash: [20]byte{1}, PeerID: [20]byte{'n'}}, ErrSelf},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, other := tcpPair(t)
			defer other.Close()
			_, link := newSide(t)
			go func() { _, _ = other.Write(c.reply.Append(nil)) }()
			if _, err := Initiate(t.Context(), near, link); !errors.Is(err, c.want) {
				t.Fatalf("%v", err)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		near, other := tcpPair(t)
		defer other.Close()
		_, link := newSide(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Initiate(ctx, near, link); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("unknown torrent", func(t *testing.T) {
		near, other := tcpPair(t)
		defer other.Close()
		go func() { _, _ = other.Write(wire.Handshake{InfoHash: [20]byte{9}}.Append(nil)) }()
		if _, err := Receive(t.Context(), near, func([20]byte) *Torrent { return nil }); !errors.Is(err, ErrWrongTorrent) {
			t.Fatalf("%v", err)
		}
	})
}

// Keep-alives go out by themselves, and a peer that says nothing for minutes is let go.
func TestIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		events, done := make(chan *Batch, 100), make(chan struct{})
		link := &Torrent{Pieces: pieces, Events: events, Done: done}
		c := newConn(near, link, wire.Handshake{})
		var wg sync.WaitGroup
		c.Start(nil, &wg)
		rd := wire.NewReader(other, 1000)
		for range 2 {
			if m, err := rd.Next(); err != nil || m.ID != wire.KeepAlive {
				t.Fatalf("%v, %v", m.ID, err)
			}
		}
		b := <-events
		if b.Err == nil {
			t.Fatal("the silent peer was kept")
		}
		close(done)
		_ = other.Close()
		wg.Wait()
	})
}

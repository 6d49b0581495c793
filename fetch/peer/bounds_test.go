package peer

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"torrentfs/fetch/wire"
)

// unstarted is a connection whose writer never runs, as if the peer read nothing.
func unstarted(t *testing.T, features wire.Features) *Conn {
	near, far := net.Pipe()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return newConn(near, &Torrent{Pieces: pieces, PieceLength: 1 << 20, Length: pieces << 20, Source: &one{}, Info: make([]byte, 40000)}, wire.Handshake{Features: features})
}

func (c *Conn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Whatever a peer that reads nothing makes us say, what waits for it is bounded, and then it is closed.
func TestWhatWaitsForAPeerIsBounded(t *testing.T) {
	for name, provoke := range map[string]func(c *Conn, i int){
		"requests":            func(c *Conn, i int) { c.enqueue(wire.Message{ID: wire.Request, Index: 1, Begin: uint32(i), Length: 9}) },
		"interest and none":   func(c *Conn, i int) { c.Unchoke(i%2 == 0) },
		"metadata out of it":  func(c *Conn, _ int) { c.SendMetadata(1, 1<<30) },
		"metadata repeatedly": func(c *Conn, _ int) { c.SendMetadata(1, 0) },
		"haves of our own":    func(c *Conn, i int) { c.Send(wire.Message{ID: wire.Have, Index: uint32(i)}) },
		"requests and cancels": func(c *Conn, i int) {
			m := wire.Message{ID: wire.Request, Index: 1, Begin: uint32(i), Length: 9}
			c.enqueue(m)
			c.dequeue(m)
		},
	} {
		c := unstarted(t, all)
		c.unchoked = true
		n := 0
		for ; n < 1e6 && !c.ended(); n++ {
			provoke(c, n)
		}
		if !errors.Is(c.err(), errDeaf) || len(c.out) > maxOut+1000 || len(c.serve) > ReqQ {
			t.Errorf("%s: after %d: %v, %d bytes, %d queued", name, n, c.err(), len(c.out), len(c.serve))
		}
	}
}

// Requests given up are forgotten in the end: a peer that honours a cancel often says nothing about it.
func TestGivenUpRequestsAreForgotten(t *testing.T) {
	c := unstarted(t, all)
	for i := range uint32(10_000) {
		c.Request(i%pieces, i/pieces<<14, 16384, new(memory))
		c.Cancel(i%pieces, i/pieces<<14)
		c.out = c.out[:0]
	}
	if len(c.pending) > maxGiven || len(c.given) > maxGiven {
		t.Fatalf("%d pending, %d given up", len(c.pending), len(c.given))
	}
	c.Request(1, 0, 16384, new(memory))
	for i := range uint32(2 * maxGiven) { // renewed requests outlive the giving up of others
		c.Request(2, i<<14, 16384, new(memory))
		c.Cancel(2, i<<14)
		c.out = c.out[:0]
	}
	if r, ok := c.pending[key(1, 0)]; !ok || r.cancelled {
		t.Fatal("a request that was not given up is forgotten")
	}
}

// A peer with the fast extension that chokes and never rejects does not make us remember more and more.
func TestChokesWithoutRejects(t *testing.T) {
	c := unstarted(t, all)
	for i := range uint32(100) {
		for j := range uint32(100) {
			c.Request(i%pieces, (100*i+j)<<14, 16384, new(memory))
		}
		c.choked()
		c.out = c.out[:0]
	}
	if len(c.pending) > maxGiven {
		t.Fatalf("%d pending", len(c.pending))
	}
}

// flooded runs a connection in made-up time whose peer sends messages at a rate until it is closed or a minute has passed.
// It reports for how long it lasted and how it ended.
func flooded(t *testing.T, m wire.Message, each time.Duration) (lasted time.Duration, err error) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		events, done := make(chan *Batch), make(chan struct{})
		link := &Torrent{Pieces: pieces, Events: events, Done: done}
		c := newConn(near, link, wire.Handshake{Features: all})
		var wg sync.WaitGroup
		c.Start(nil, &wg)
		wg.Go(func() {
			for b := range events {
				if b.Err != nil {
					err = b.Err
					return
				}
				b.Recycle()
			}
		})
		wg.Go(func() {
			rd := wire.NewReader(far, 1<<20)
			for {
				if _, err := rd.Next(); err != nil {
					return
				}
			}
		})
		start := time.Now()
		b := m.Append(nil)
		for time.Since(start) < time.Minute {
			if _, err := far.Write(b); err != nil {
				break
			}
			time.Sleep(each)
		}
		lasted = time.Since(start)
		c.Close()
		wg.Wait()
		close(done)
		_ = far.Close()
	})
	return lasted, err
}

func TestFloodsEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		m    wire.Message
	}{
		{"keep-alives", wire.Message{ID: wire.KeepAlive}},
		{"chokes", wire.Message{ID: wire.Choke}},
		{"haves", wire.Message{ID: wire.Have}},
		{"requests", wire.Message{ID: wire.Request, Length: 5}},
		{"cancels", wire.Message{ID: wire.Cancel, Length: 5}},
		{"rejects", wire.Message{ID: wire.Reject, Length: 5}},
		{"suggestions", wire.Message{ID: wire.Suggest}},
		{"unknown", wire.Message{ID: 77}},
		{"ports", wire.Message{ID: wire.Port}},
		{"empty blocks", wire.Message{ID: wire.Piece}},
		{"blocks", wire.Message{ID: wire.Piece, Data: make([]byte, 16384)}},
		{"extended", wire.Message{ID: wire.Extended, Ext: 9, Data: make([]byte, 60000)}},
	} {
		if lasted, err := flooded(t, c.m, 20*time.Microsecond); lasted > time.Second || errors.Is(err, ErrClosed) {
			t.Errorf("%s: ended after %v with %v", c.name, lasted, err)
		}
	}
	// What is a flood at 50,000 a second is nothing at 50.
	for _, id := range []wire.ID{wire.KeepAlive, wire.Have, wire.Request, wire.Interested} {
		if lasted, err := flooded(t, wire.Message{ID: id, Length: 5}, 20*time.Millisecond); lasted < time.Minute {
			t.Errorf("%v at a moderate pace: ended after %v with %v", id, lasted, err)
		}
	}
}

// blanks is a source that has every piece but the second, and fails the test when it is asked for what is in no piece.
type blanks struct{ t *testing.T }

func (b blanks) AppendBlock(dst []byte, piece int, begin, length uint32) ([]byte, bool) {
	if uint64(begin)+uint64(length) > blanksPiece {
		b.t.Errorf("asked for %d+%d of piece %d", begin, length, piece)
	}
	if piece == 1 {
		return dst, false
	}
	return append(dst, make([]byte, length)...), true
}

const blanksPiece = 20_001

// A peer that is served may ask for blocks as fast as they come, and has to count what costs us more than it.
func TestFloodsOfRequests(t *testing.T) {
	for _, tc := range []struct {
		name  string
		m     wire.Message
		flood bool
	}{
		{"blocks", wire.Message{Length: 16 << 10}, false},
		{"ends of pieces", wire.Message{Begin: blanksPiece - 1, Length: 1}, false},
		{"short blocks", wire.Message{Length: 4 << 10}, false},
		{"bytes", wire.Message{Begin: 5, Length: 1}, true},
		{"past the end", wire.Message{Begin: blanksPiece - 1, Length: 2}, true},
		{"far past the end", wire.Message{Begin: 1<<32 - 1, Length: 128 << 10}, true},
		{"what is not there", wire.Message{Index: 1, Length: 16 << 10}, true},
	} {
		s, link := newSide(t)
		link.PieceLength, link.Length, link.Source = blanksPiece, blanksPiece*pieces, blanks{t}
		c, f := pair(t, link, all)
		c.Start(nil, &s.wg)
		c.Unchoke(true)
		tc.m.ID = wire.Request
		var err error
		for range 3 * chatterBurst / 100 {
			if _, err = f.nc.Write(bytes.Repeat(tc.m.Append(nil), 100)); err != nil {
				break
			}
			for answers := 0; answers < 100 && err == nil; {
				var m wire.Message
				if m, err = f.rd.Next(); err == nil && (m.ID == wire.Piece || m.ID == wire.Reject) {
					answers++
				}
			}
			if err != nil {
				break
			}
		}
		if (err != nil) != tc.flood {
			t.Errorf("%s: ended with %v", tc.name, err)
		}
		c.Close()
	}
}

// A peer rejects what we cancel, each request once, and a reader that seeks makes for many of those.
func TestRejectsOfCancelledRequestsAreNoFlood(t *testing.T) {
	s, link := newSide(t)
	c, f := pair(t, link, all)
	c.Start(nil, &s.wg)
	defer c.Close()
	go func() {
		for {
			m, err := f.rd.Next()
			if err != nil {
				return
			}
			if m.ID == wire.Cancel {
				m.ID = wire.Reject
				if _, err := f.nc.Write(m.Append(nil)); err != nil {
					return
				}
			}
		}
	}()
	for round := range uint32(20) {
		for i := range uint32(1000) {
			c.Request(1, (round*1000+i)<<14, 16384, new(memory))
			c.Cancel(1, (round*1000+i)<<14)
		}
		for got := 0; got < 1000; got++ {
			if it, err := s.next(t); err != nil || it.ID != wire.Reject {
				t.Fatalf("round %d: %+v, %v", round, it, err)
			}
		}
	}
}

// Metadata goes out as often as somebody who lost it once needs it.
func TestMetadataIsServedTwice(t *testing.T) {
	s, link := newSide(t)
	link.Info = make([]byte, 40000)
	c, f := pair(t, link, all)
	c.Start(nil, &s.wg)
	defer c.Close()
	f.expect(wire.HaveNone)
	f.expect(wire.Extended)
	for i := range 8 {
		c.SendMetadata(7, i%4)
		m := f.expect(wire.Extended)
		got, err := wire.ParseMetadata(m.Data)
		want := wire.MetadataData
		if i%4 == 3 || i == 7 { // there are three pieces
			want = wire.MetadataReject
		}
		if err != nil || m.Ext != 7 || got.Type != want || got.Piece != i%4 {
			t.Fatalf("answer %d: %+v, %v", i, got, err)
		}
	}
	c.SendMetadata(7, 0)
	if got, err := wire.ParseMetadata(f.expect(wire.Extended).Data); err != nil || got.Type != wire.MetadataReject {
		t.Fatalf("%+v, %v", got, err)
	}
}

// Blocks are served a few at a time, whatever their size, so that nothing of ours waits long behind them.
func TestServesInBatchesOfBytes(t *testing.T) {
	c := unstarted(t, all)
	for range 20 {
		c.serve = append(c.serve, wire.Message{ID: wire.Request, Length: 16 << 10})
	}
	for range 3 {
		c.serve = append(c.serve, wire.Message{ID: wire.Request, Length: maxServed})
	}
	var got []int
	q := queue{batch: minBatch}
	for len(c.serve) > 0 {
		todo, _ := c.take(nil, &q)
		got = append(got, len(todo))
		q.sent(0)
	}
	if want := []int{1, 2, 4, 8, 5, 1, 1, 1}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if q.sent(2 * slowWrite); q.batch != minBatch {
		t.Errorf("a peer that takes long gets %d bytes at a time", q.batch)
	}
}

package swarm

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/peer"
	"torrentfs/fetch/wire"
)

// twice lists the blocks that came more than once from any of the peers.
func (r *rig) twice() (blocks [][2]uint32) {
	for k, n := range r.served() {
		if n > 1 {
			blocks = append(blocks, k)
		}
	}
	return blocks
}

func TestReadsJoinWhatIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(8*mebibyte, 512<<10)
		r := newRig(t, content, setup{})
		p := r.join(fast, honest)
		var wg sync.WaitGroup
		r.Ahead(1, 0, 4*mebibyte, 0)
		for i := range 40 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				r.read(int64(i%8)*mebibyte/2, 3*mebibyte)
			})
		}
		wg.Wait()
		if again := r.twice(); len(again) > 0 || p.Blocks() == 0 {
			t.Errorf("%d of %d blocks came more than once", len(again), p.Blocks())
		}
	})
}

func TestSeekCancelsWhatNobodyWants(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(64*mebibyte, 256<<10)
		r := newRig(t, content, setup{})
		p := r.join(slow, honest)
		r.Ahead(1, 0, 8*mebibyte, 0)
		r.read(0, 256<<10)
		r.Ahead(1, 32*mebibyte, 8*mebibyte, 0)
		r.settle()
		at := time.Now()
		r.read(32*mebibyte, 1)
		took := time.Since(at)
		// A piece takes a second on this line; what was in flight for the old place must not be waited for.
		if p.Cancels() == 0 || took > 2*time.Second {
			t.Errorf("%d requests cancelled, the read after the seek took %v", p.Cancels(), took)
		}
		r.on(func(l *loop) {
			for i := range l.demand.targets {
				if int64(i)*content.PieceLength < 32*mebibyte {
					t.Errorf("piece %d is still wanted", i)
				}
			}
		})
	})
}

func TestBlocksOfADepartedReaderAreKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(8*mebibyte, 4*mebibyte)
		r := newRig(t, content, setup{})
		p := r.join(fetchtest.Link{Delay: 10 * time.Millisecond, Rate: mebibyte}, honest)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := r.ReadAt(ctx, make([]byte, 1), 0); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
			time.Sleep(time.Second)
		}
		before := p.Blocks()
		r.read(0, 1)
		if before < 64 || p.Blocks() > 256+48 { // what was in flight when a reader left may come in vain
			t.Errorf("%d blocks before, %d in all of a piece of 256", before, p.Blocks())
		}
	})
}

// A reader who comes back finds his piece's blocks, even when there is no room for another piece.
func TestReaderReturnsToAFullBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(32*mebibyte, 4*mebibyte)
		r := newRig(t, content, setup{inFlight: 1})
		p := r.join(fetchtest.Link{Delay: 10 * time.Millisecond, Rate: 2 * mebibyte}, honest)
		var wg sync.WaitGroup
		defer wg.Wait()
		for i := range 2 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_ = r.ReadAt(ctx, make([]byte, 1), int64(i)*4*mebibyte)
			})
		}
		wg.Wait()
		r.read(0, 1)
		if n := p.Blocks(); n > 2*256+100 {
			t.Errorf("%d blocks came: what was there was thrown away", n)
		}
	})
}

func TestWindowsKeepToTheBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(32*mebibyte, mebibyte/2)
		r := newRig(t, content, setup{inFlight: 2 * mebibyte, cache: 8 * mebibyte})
		r.join(fast, honest)
		time.Sleep(time.Second) // it has said what it has
		for c := range uint64(8) {
			r.Ahead(c, int64(c)*4*mebibyte, 4*mebibyte, 1<<20)
		}
		r.settle()
		r.on(func(l *loop) {
			built := 0
			for _, x := range l.demand.targets {
				if x.build != nil {
					built++
				}
			}
			if built != 4 || len(l.demand.targets) != 64 {
				t.Errorf("%d of %d wanted pieces are under construction", built, len(l.demand.targets))
			}
		})
		time.Sleep(30 * time.Second) // it all comes, a few pieces at a time
		if st := r.Stats(); st.Wanted != 0 || st.Verified != content.Length {
			t.Errorf("%+v", st)
		}
	})
}

func TestBlockedReaderDisplacesReadAhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(64*mebibyte, 2*mebibyte)
		r := newRig(t, content, setup{inFlight: 4 * mebibyte})
		r.join(fetchtest.Link{Delay: 10 * time.Millisecond, Rate: mebibyte}, honest)
		r.Ahead(1, 0, 32*mebibyte, 0)
		time.Sleep(500 * time.Millisecond)
		at := time.Now()
		r.read(60*mebibyte, 1)
		if took := time.Since(at); took > 4*time.Second { // a piece takes two
			t.Errorf("the read took %v", took)
		}
	})
}

// Whatever happens to the peer that delivers a piece, others go on from where it was.
func TestOthersGoOnFromWhereAPeerFailed(t *testing.T) {
	for name, fail := range map[string]func(s *fetchtest.Session, req wire.Message) error{
		"choke":      func(s *fetchtest.Session, _ wire.Message) error { return s.Unchoke(false) },
		"disconnect": func(s *fetchtest.Session, _ wire.Message) error { return s.Conn.Close() },
		"silence":    func(s *fetchtest.Session, _ wire.Message) error { return s.Pause(time.Hour) },
		"reject": func(s *fetchtest.Session, req wire.Message) error {
			req.ID = wire.Reject
			return s.Send(req)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				content := fetchtest.NewContent(16*mebibyte, 4*mebibyte)
				r := newRig(t, content, setup{})
				var n atomic.Int64
				failing := r.join(fast, fetchtest.Conduct{Answer: func(s *fetchtest.Session, req wire.Message) error {
					if n.Add(1) > 100 {
						return fail(s, req)
					}
					return s.Answer(req)
				}})
				done := make(chan error)
				go func() { done <- r.tryRead(0, content.Length) }()
				time.Sleep(3 * time.Second)
				if failing.Blocks() != 100 {
					t.Fatalf("%d blocks came", failing.Blocks())
				}
				other := r.join(fast, honest)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if n := other.Blocks(); n > 1024-100+8 {
					t.Errorf("%d blocks came from the other peer: the first one's were thrown away", n)
				}
			})
		})
	}
}

func TestAnotherSeederTakesOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(32*mebibyte, mebibyte)
		r := newRig(t, content, setup{cache: 8 * mebibyte})
		first := r.join(fast, honest)
		go func() {
			time.Sleep(time.Second)
			first.Close()
			time.Sleep(20 * time.Second)
			r.join(fast, honest)
		}()
		r.readAll(4 * mebibyte)
	})
}

// The same address serves again after it was gone for a while.
func TestSeederComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(16*mebibyte, mebibyte)
		r := newRig(t, content, setup{cache: 8 * mebibyte})
		p := r.join(fetchtest.Link{Rate: mebibyte}, honest)
		go func() {
			for range 4 {
				time.Sleep(4 * time.Second)
				p.Drop()
			}
		}()
		r.readAll(4 * mebibyte)
		if p.Shaken() != 5 {
			t.Errorf("%d connections", p.Shaken())
		}
	})
}

func TestCloseEndsBlockedReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(64*mebibyte, 256<<10)
		r := newRig(t, content, setup{inFlight: 4 * mebibyte})
		r.join(fast, fetchtest.Mute)
		r.join(slow, honest)
		r.Ahead(1, 0, 32*mebibyte, 0)
		errs := make(chan error, 200)
		for range cap(errs) {
			go func() {
				p := make([]byte, mebibyte)
				errs <- r.ReadAt(context.Background(), p, rand.Int64N(content.Length-int64(len(p))))
			}()
		}
		time.Sleep(time.Second)
		at := time.Now()
		r.Close()
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Fatalf("%v", err)
			}
		}
		if took := time.Since(at); took != 0 {
			t.Errorf("it took %v", took)
		}
		if err := r.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
			t.Errorf("a read after the end: %v", err)
		}
		r.Ahead(1, 0, 1, 0)
		r.AddPeers("test", []netip.AddrPort{r.address()})
		if st := r.Stats(); st.Connected != 0 {
			t.Errorf("%+v", st)
		}
		r.Close()
	})
}

func TestHugePiecesInATinyBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(48*mebibyte+1, 16*mebibyte)
		r := newRig(t, content, setup{inFlight: 1, cache: 16 * mebibyte})
		for range 2 {
			r.join(fast, honest)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { r.read(min(int64(i)*16*mebibyte, content.Length-1), 1) })
		}
		wg.Wait()
		r.readAll(40 * mebibyte)
	})
}

// A cache of a single piece, and reads across many.
func TestProgressWhileTheStoreEvicts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(8*mebibyte, 64<<10)
		r := newRig(t, content, setup{inFlight: 128 << 10, cache: 64 << 10})
		r.join(fast, honest)
		r.join(fast, honest)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { r.read(int64(i)*mebibyte, mebibyte) })
		}
		wg.Wait()
		r.readAll(mebibyte)
	})
}

// Reads of what nobody has wait, but they don't keep others from what somebody has.
func TestReadsOfWhatNobodyHasHoldUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(16*mebibyte, mebibyte)
		r := newRig(t, content, setup{inFlight: 2 * mebibyte})
		p := r.peer(fast, honest)
		p.Lacks(0, 1, 2, 3, 4, 5)
		r.AddPeers("test", []netip.AddrPort{p.Addr()})
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() { r.piece(i) })
		}
		time.Sleep(time.Second)
		at := time.Now()
		for i := 6; i < 16; i++ {
			r.piece(i)
		}
		if took := time.Since(at); took > 20*time.Second {
			t.Errorf("the other reads took %v", took)
		}
		for i := range 6 {
			p.Gain(i)
		}
		wg.Wait()
	})
}

// Read-ahead of what nobody has doesn't keep other read-ahead waiting.
func TestReadAheadOfWhatNobodyHas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(16*mebibyte, mebibyte)
		r := newRig(t, content, setup{inFlight: 2 * mebibyte})
		p := r.peer(fast, honest)
		p.Lacks(1, 2, 3)
		r.AddPeers("test", []netip.AddrPort{p.Addr()})
		r.Ahead(1, 0, content.Length, 0)
		time.Sleep(time.Minute)
		if st := r.Stats(); st.Verified < 13*mebibyte {
			t.Errorf("%+v", st)
		}
	})
}

func TestReadsOutOfRange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte+5, 64<<10)
		r := newRig(t, content, setup{})
		for _, c := range []struct{ off, n int64 }{{-1, 1}, {mebibyte + 5, 1}, {mebibyte, 6}, {1<<63 - 1, 2}, {-1 << 63, 1}} {
			if err := r.ReadAt(t.Context(), make([]byte, c.n), c.off); err == nil || errors.Is(err, ErrClosed) {
				t.Errorf("%d bytes at %d: %v", c.n, c.off, err)
			}
		}
		for _, off := range []int64{0, 5, mebibyte + 5} {
			if err := r.ReadAt(t.Context(), nil, off); err != nil {
				t.Errorf("no bytes at %d: %v", off, err)
			}
		}
		r.Ahead(1, -5, 1<<62, 0)
		r.Ahead(2, 1<<62, 1<<62, 0)
		r.Ahead(3, content.Length, 1, 0)
		r.Stats()
	})
}

// listening is a peer that keeps what it is told in extended messages.
type listening struct {
	mu    sync.Mutex
	hello []wire.ExtendedHandshake
	got   map[uint8][][]byte
}

func (l *listening) conduct() fetchtest.Conduct {
	return fetchtest.Conduct{
		Greet: func(s *fetchtest.Session) error {
			return s.Send(s.Having(), s.Hello(wire.ExtendedHandshake{Messages: map[string]uint8{wire.ExtMetadata: 11, wire.ExtPEX: 12}}))
		},
		Heed: func(_ *fetchtest.Session, m wire.Message) (bool, error) {
			if m.ID != wire.Extended {
				return false, nil
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if m.Ext == 0 {
				h, err := wire.ParseExtendedHandshake(m.Data)
				l.hello = append(l.hello, h)
				return true, err
			}
			if l.got == nil {
				l.got = make(map[uint8][][]byte)
			}
			l.got[m.Ext] = append(l.got[m.Ext], bytes.Clone(m.Data))
			return true, nil
		},
	}
}

// greeted is what the swarm's extension handshake said.
func (l *listening) greeted() wire.ExtendedHandshake {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hello[0]
}

func (l *listening) told(ext uint8) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got[ext]
}

func TestPeerExchange(t *testing.T) {
	for _, private := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			content := fetchtest.NewContent(mebibyte, 64<<10)
			if private {
				content = fetchtest.NewPrivateContent(mebibyte, 64<<10)
			}
			r := newRig(t, content, setup{pex: true})
			var ear listening
			p := r.join(fast, ear.conduct())
			known := r.join(fast, honest)
			hidden := r.peer(fast, honest) // only named by a peer
			var said atomic.Bool
			r.join(fast, fetchtest.Conduct{Beside: func(s *fetchtest.Session) error {
				said.Store(true)
				e := wire.Exchange{Added: []netip.AddrPort{hidden.Addr()}}
				return s.Send(wire.Message{ID: wire.Extended, Ext: wire.OurPEX, Data: e.Append(nil)})
			}})
			time.Sleep(2 * time.Minute)
			if !said.Load() || hidden.Sessions() == 1 == private {
				t.Errorf("private %v: told %v, the peer that was named has %d connections", private, said.Load(), hidden.Sessions())
			}
			if n := ear.greeted().Messages[wire.ExtPEX]; n != 0 == private {
				t.Errorf("private %v: the exchange is offered as %d", private, n)
			}
			var heard []netip.AddrPort
			for _, b := range ear.told(12) {
				e, err := wire.ParseExchange(b)
				if err != nil {
					t.Fatal(err)
				}
				heard = append(heard, e.Added...)
			}
			var has bool
			for _, a := range heard {
				if a == p.Addr() {
					t.Errorf("private %v: a peer is told of itself", private)
				}
				has = has || a == known.Addr()
			}
			if private && len(heard) > 0 || !private && !has {
				t.Errorf("private %v: told of %v", private, heard)
			}
		})
	}
}

// One that tells of peers more often than it may is not listened to in between; and nobody is told of more than fits into
// one message.
func TestPeerExchangeIsSeldom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fetchtest.NewContent(mebibyte, 64<<10), setup{pex: true})
		var named []*fetchtest.Peer
		for range 3 {
			named = append(named, r.peer(fast, honest))
		}
		r.join(fast, fetchtest.Conduct{Beside: func(s *fetchtest.Session) error {
			for _, p := range named { // the second one too soon
				e := wire.Exchange{Added: []netip.AddrPort{p.Addr()}}
				if err := s.Send(wire.Message{ID: wire.Extended, Ext: wire.OurPEX, Data: e.Append(nil)}); err != nil {
					return err
				}
				time.Sleep(wire.PEXPause * 2 / 3)
			}
			return nil
		}})
		time.Sleep(2 * time.Minute)
		for i, p := range named {
			if (p.Sessions() > 0) != (i != 1) {
				t.Errorf("peer %d has %d connections", i, p.Sessions())
			}
		}
	})
	var many []netip.AddrPort
	for i := range 3 * wire.MaxPEX {
		many = append(many, netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, 9, byte(i)}), 9))
	}
	var x exchange
	for range 3 {
		if e := x.news(many, many[0]); len(e.Added) == 0 || len(e.Added) > wire.MaxPEX || len(e.Dropped) > 0 {
			t.Errorf("told of %d, and of %d that have left", len(e.Added), len(e.Dropped))
		}
	}
	if e := x.news(nil, many[0]); len(e.Added) > 0 || len(e.Dropped) != wire.MaxPEX {
		t.Errorf("told of %d, and of %d that have left", len(e.Added), len(e.Dropped))
	}
}

func TestMetadataIsServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(64*mebibyte, 16<<10) // an info dictionary of 80 KiB
		r := newRig(t, content, setup{})
		var ear listening
		conduct := ear.conduct()
		pieces := (len(content.Info) + wire.MetadataPieceSize - 1) / wire.MetadataPieceSize
		conduct.Beside = func(s *fetchtest.Session) error {
			time.Sleep(time.Second) // both have said hello
			for i := range pieces {
				m := wire.Metadata{Type: wire.MetadataRequest, Piece: i}
				if err := s.Send(wire.Message{ID: wire.Extended, Ext: ear.greeted().Messages[wire.ExtMetadata], Data: m.Append(nil)}); err != nil {
					return err
				}
			}
			return nil
		}
		r.join(fast, conduct)
		time.Sleep(10 * time.Second)
		info := make([]byte, len(content.Info))
		for _, b := range ear.told(11) {
			m, err := wire.ParseMetadata(b)
			if err != nil || m.Type != wire.MetadataData || m.Size != int64(len(info)) {
				t.Fatalf("%+v, %v", m, err)
			}
			copy(info[m.Piece*wire.MetadataPieceSize:], m.Data)
		}
		if !bytes.Equal(info, content.Info) || ear.greeted().MetadataSize != int64(len(info)) {
			t.Errorf("%d messages, and not the info dictionary", len(ear.told(11)))
		}
	})
}

// Over real sockets, and with the race detector: 64 readers at random, in a cache that holds a fraction.
func TestRandomReaders(t *testing.T) {
	content := fetchtest.NewContent(8*mebibyte+333, 64<<10)
	r := newRig(t, content, setup{real: true, cache: 2 * mebibyte, inFlight: mebibyte, upload: true})
	for range 4 {
		r.join(fetchtest.Link{}, honest)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 12 {
				n := 1 + rng.Int64N(150_000)
				off := rng.Int64N(content.Length - n)
				if rng.IntN(3) == 0 {
					r.Ahead(uint64(i), off, 2*n, 0)
				}
				if err := r.tryRead(off, n); err != nil {
					t.Error(err)
					return
				}
			}
			r.Ahead(uint64(i), 0, 0, 0)
		})
	}
	wg.Wait()
}

// The loop takes in what has come while it was at work, and must not date it back to when it began: a block would seem to
// have taken less time than it did, and its peer many times as fast as it is.
func TestDrainedBatchesAreNotDatedBack(t *testing.T) {
	l, done := bareLoop(t, fetchtest.NewContent(mebibyte, 64<<10))
	defer done()
	m := l.guest(t, netip.MustParseAddrPort("10.1.2.3:4"))
	l.start = time.Now().Add(-time.Hour)
	l.now = time.Minute // when the loop began its work
	l.events <- &peer.Batch{Conn: m.conn, At: l.start.Add(30 * time.Minute), Items: []peer.Item{{ID: wire.Unchoke}}}
	l.drain()
	if m.heard < 30*time.Minute {
		t.Errorf("what came at 30m0s is dated %v", m.heard)
	}
}

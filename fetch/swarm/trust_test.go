package swarm

import (
	"crypto/sha1"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/wire"
)

// lieOnce answers its first request with a wrong byte and is honest from then on.
func lieOnce() fetchtest.Conduct {
	var lied atomic.Bool
	return fetchtest.Corrupt(func(wire.Message) bool { return lied.CompareAndSwap(false, true) })
}

func TestOneLieAmongManyIsFound(t *testing.T) {
	for _, pieceLength := range []int64{64 << 10, 512 << 10, 4 * mebibyte} {
		bubble(t, func(t *testing.T) {
			content := fetchtest.NewContent(16*mebibyte, pieceLength)
			r := newRig(t, content, setup{})
			liar := r.join(fast, lieOnce())
			for range 5 {
				r.join(fast, honest)
			}
			r.readAll(8 * mebibyte)
			st := r.Stats()
			if liar.Lies() != 1 || !r.banned(liar) || st.Banned != 1 || st.Failed != 1 {
				t.Errorf("pieces of %d: %d lies, banned %v: %+v", pieceLength, liar.Lies(), r.banned(liar), st)
			}
		})
	}
}

// One who lies late is up against peers that have proved themselves: only what it sent itself is fetched again.
func TestRepairCostsLittleOnceOthersAreProven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(32*mebibyte, mebibyte)
		r := newRig(t, content, setup{})
		for range 4 {
			r.join(fast, honest)
		}
		r.read(0, 16*mebibyte)
		liar := r.join(fast, lieOnce())
		r.settle()
		time.Sleep(time.Second) // so that it has been unchoked
		r.read(16*mebibyte, 16*mebibyte)
		st := r.Stats()
		if liar.Lies() != 1 || !r.banned(liar) || st.Failed != 1 {
			t.Fatalf("%d lies, banned %v: %+v", liar.Lies(), r.banned(liar), st)
		}
		if sent := int64(liar.Blocks()) * wire.BlockSize; st.Wasted > sent+256<<10 {
			t.Errorf("%d bytes were wasted, though the liar had sent %d", st.Wasted, sent)
		}
	})
}

// With nobody else to ask, the sole peer's own piece convicts it.
func TestSolePeerThatLies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(4*mebibyte, 256<<10)
		r := newRig(t, content, setup{})
		liar := r.join(fast, fetchtest.Corrupt(func(wire.Message) bool { return true }))
		done := make(chan error)
		go func() { done <- r.tryRead(0, content.Length) }()
		time.Sleep(5 * time.Second)
		r.settle()
		if !r.banned(liar) || liar.Sessions() != 0 {
			t.Fatal("not banned")
		}
		r.join(fast, honest)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// Two liars who send the same wrong bytes vouch for each other; that delays the verdict and doesn't change it.
func TestLiarsWhoAgree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(16*mebibyte, 512<<10)
		r := newRig(t, content, setup{})
		var liars []*fetchtest.Peer
		for range 6 {
			r.join(fast, honest)
			liars = append(liars, r.join(fast, fetchtest.Corrupt(func(req wire.Message) bool { return req.Begin == 3*wire.BlockSize })))
		}
		r.readAll(8 * mebibyte)
		for i, p := range liars {
			if p.Lies() > 0 != r.banned(p) {
				t.Errorf("liar %d told %d lies, banned %v", i, p.Lies(), r.banned(p))
			}
		}
		if st := r.Stats(); st.Banned == 0 || st.Banned > len(liars) {
			t.Errorf("%+v", st)
		}
	})
}

// Whoever delivers the repair may leave, fall silent or be slow.
func TestRepairSurvivesItsPeer(t *testing.T) {
	for name, fail := range map[string]func(s *fetchtest.Session) error{
		"leaves":  func(s *fetchtest.Session) error { return s.Conn.Close() },
		"silence": func(s *fetchtest.Session) error { return s.Pause(time.Hour) },
		"chokes":  func(s *fetchtest.Session) error { return s.Unchoke(false) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				content := fetchtest.NewContent(8*mebibyte, 2*mebibyte)
				r := newRig(t, content, setup{})
				var repairing atomic.Bool
				var unsteady fetchtest.Conduct
				unsteady.Answer = func(s *fetchtest.Session, req wire.Message) error {
					if repairing.Load() && req.Begin > mebibyte {
						return fail(s)
					}
					return s.Answer(req)
				}
				liar := r.join(fast, lieOnce())
				first, second := r.join(fast, unsteady), r.join(fast, unsteady)
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					for r.Stats().Failed == 0 {
						time.Sleep(time.Millisecond)
					}
					repairing.Store(true)
					time.Sleep(10 * time.Second)
					repairing.Store(false)
					r.join(fast, honest)
				})
				r.read(0, content.Length)
				if !r.banned(liar) || r.banned(first) || r.banned(second) {
					t.Errorf("banned: liar %v, others %v %v", r.banned(liar), r.banned(first), r.banned(second))
				}
			})
		})
	}
}

// The account of an inquiry that ends without a verdict leaves nobody under suspicion, and evidence is bounded.
func TestInquiriesAreBounded(t *testing.T) {
	tr := newTrust()
	a, b := new(member), new(member)
	const blocks = 1024
	e := evidence{from: slices.Repeat([]*member{a, b}, blocks/2), sums: make([][sha1.Size]byte, blocks)}
	for i := range 1000 {
		tr.note(i, e)
	}
	if tr.blocks > maxEvidence || len(tr.inquiries) != maxEvidence/blocks || a.record.suspicion != len(tr.inquiries) {
		t.Fatalf("%d blocks in %d inquiries, suspicion %d", tr.blocks, len(tr.inquiries), a.record.suspicion)
	}
	for len(tr.order) > 0 {
		tr.drop(tr.order[0])
	}
	if tr.blocks != 0 || a.record.suspicion != 0 || b.record.suspicion != 0 {
		t.Fatalf("%d blocks left, suspicion %d and %d", tr.blocks, a.record.suspicion, b.record.suspicion)
	}
}

func TestOpinions(t *testing.T) {
	x, y := [sha1.Size]byte{1}, [sha1.Size]byte{2}
	vouched, disputed, outvoted, none := opinion{vouched: 1}, opinion{disputed: 1}, opinion{outvoted: 1}, opinion{}
	type part struct {
		who int
		sum [sha1.Size]byte
	}
	for _, c := range []struct {
		name    string
		copies  []part
		want    [5]opinion
		settled bool
	}{
		{"one copy", []part{{0, x}}, [5]opinion{}, false},
		{"the same peer twice", []part{{0, x}, {0, x}}, [5]opinion{}, false},
		{"two who agree", []part{{0, x}, {1, x}}, [5]opinion{vouched, vouched}, true},
		{"two who differ", []part{{0, x}, {1, y}}, [5]opinion{disputed, disputed}, false},
		{"one who differs from itself", []part{{0, x}, {0, y}}, [5]opinion{{disputed: 2}}, false},
		{"two of three", []part{{0, x}, {1, y}, {2, x}}, [5]opinion{vouched, outvoted, vouched}, true},
		{"two of three, and the last is the third", []part{{0, x}, {1, x}, {2, y}}, [5]opinion{vouched, vouched, outvoted}, false},
		{"two and two", []part{{0, x}, {1, y}, {2, x}, {3, y}}, [5]opinion{disputed, disputed, disputed, disputed}, false},
		{"two and three", []part{{0, x}, {1, y}, {2, x}, {3, y}, {4, y}}, [5]opinion{outvoted, vouched, outvoted, vouched, vouched}, true},
		{"two, one of them again", []part{{0, x}, {1, x}, {0, y}}, [5]opinion{{vouched: 1, outvoted: 1}, vouched}, false},
	} {
		tr := newTrust()
		var who [5]member
		for _, p := range c.copies {
			tr.note(7, evidence{from: []*member{&who[p.who]}, sums: [][sha1.Size]byte{p.sum}})
		}
		for i := range who {
			if got := who[i].record.opinion; got != c.want[i] {
				t.Errorf("%s: of peer %d it is said %+v, not %+v", c.name, i, got, c.want[i])
			}
		}
		if _, n := tr.inquiries[7].unsettled(1); (n == 0) != c.settled {
			t.Errorf("%s: settled %v", c.name, n == 0)
		}
		tr.drop(7)
		for i := range who {
			if got := who[i].record.opinion; got != none {
				t.Errorf("%s: of peer %d it is said %+v, though the inquiry is over", c.name, i, got)
			}
		}
	}
}

// A block that was put into a build which has been given up since counts for nothing: taken for one of the piece's next
// build it would leave a hole there, and the honest peers that filled the rest would be blamed for it.
func TestBlockOfAnEarlierBuild(t *testing.T) {
	content := fetchtest.NewContent(4*mebibyte, 256<<10)
	l, done := bareLoop(t, content)
	defer done()
	m := l.guest(t, netip.MustParseAddrPort("10.1.2.3:4"))
	l.picker(m)
	w := &want{pieces: []int{0}, ready: make(chan delivery, 1)}
	l.want(w)
	l.activate()
	l.request()
	old := l.demand.targets[0].build
	if !old.asm.Put(0, content.Piece(0)[:wire.BlockSize]) {
		t.Fatal("not put")
	}
	l.leave(w)
	l.builds.dropParked(l.store, l.builds.budget) // before the loop hears of the block
	l.want(w)
	l.activate()
	l.request()
	l.block(m, pieceItem(0, 0, old.asm), l.now)
	b := l.demand.targets[0].build
	if b == old || b.from[0] != nil || b.left != b.blocks || b.prefix != 0 {
		t.Fatalf("the block is taken for one of the new build: left %d of %d", b.left, b.blocks)
	}
}

// A build that is completed while its target waits for room leaves no trace of the target.
func TestLateBlocksCompleteAPieceThatWaitsForRoom(t *testing.T) {
	content := fetchtest.NewContent(4*mebibyte, 256<<10)
	l, done := bareLoop(t, content)
	defer done()
	m := l.guest(t, netip.MustParseAddrPort("10.1.2.3:4"))
	l.picker(m)
	l.moveCursor(1, window{off: 0, n: content.PieceLength})
	l.activate()
	b := l.demand.targets[0].build
	half := content.PieceLength / 2
	put := func(from, to int64) {
		for begin := from; begin < to; begin += wire.BlockSize {
			b.asm.Put(uint32(begin), content.Piece(0)[begin:][:wire.BlockSize])
			l.block(m, pieceItem(0, begin, b.asm), l.now)
		}
	}
	put(0, half)
	b.hashing = true              // a worker has its beginning
	l.moveCursor(1, window{})     // nobody wants it,
	l.moveCursor(1, window{n: 1}) // and somebody does again
	put(half, content.PieceLength)
	b.sum.Write(content.Piece(0))
	l.accept(b, nil)
	if len(l.demand.idle) != 0 || len(l.demand.targets) != 0 || len(l.builds.parked) != 0 || l.builds.held != 0 {
		t.Fatalf("%d idle, %d targets, %d parked, %d bytes", len(l.demand.idle), len(l.demand.targets), len(l.builds.parked), l.builds.held)
	}
}

package swarm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/wire"
)

// diary is a peer that writes down what it is told of the swarm's pieces.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, args...))
}

// since gives the entries from the n-th on.
func (d *diary) since(n int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries[n:])
}

const theirDontHave = 77

func (d *diary) conduct(knows bool) fetchtest.Conduct {
	return fetchtest.Conduct{
		Greet: func(s *fetchtest.Session) error {
			hello := wire.ExtendedHandshake{Messages: map[string]uint8{}}
			if knows {
				hello.Messages[wire.ExtDontHave] = theirDontHave
			}
			return s.Send(wire.Message{ID: wire.HaveNone}, s.Hello(hello), wire.Message{ID: wire.Interested})
		},
		Heed: func(_ *fetchtest.Session, m wire.Message) (bool, error) {
			switch {
			case m.ID == wire.Have:
				d.note("have %d", m.Index)
			case m.ID == wire.Reject:
				d.note("reject %d", m.Index)
			case m.ID == wire.Piece:
				d.note("block of %d", m.Index)
			case m.ID == wire.Extended && m.Ext == theirDontHave:
				d.note("lost %d", binary.BigEndian.Uint32(m.Data))
			case m.ID == wire.Extended && m.Ext != 0:
				d.note("extended %d", m.Ext)
			}
			return false, nil
		},
		Answer: func(*fetchtest.Session, wire.Message) error { return nil },
	}
}

func TestEvictedPiecesAreDisclaimed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte, 256<<10)
		r := newRig(t, content, setup{upload: true})
		r.join(fast, honest)
		var knows, knowsNot diary
		r.join(fast, knows.conduct(true))
		r.join(fast, knowsNot.conduct(false))
		time.Sleep(time.Second)
		r.piece(1)
		r.piece(2)
		r.settle()
		time.Sleep(time.Second)
		want := []string{"have 1", "have 2"}
		if got := knows.since(0); !slices.Equal(got, want) {
			t.Fatalf("told %v, want %v", got, want)
		}
		r.store.Evict()
		r.Lost(2)
		r.Lost(1)
		r.Lost(2)
		time.Sleep(time.Second)
		told := knows.since(2) // in any order, and what is lost again while the loop looks may be said again
		said := 2 + len(told)
		slices.Sort(told)
		if got, want := slices.Compact(told), []string{"lost 1", "lost 2"}; !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
		r.piece(1) // and it comes back
		r.Lost(1)  // a word that is out of date by now
		time.Sleep(time.Second)
		if got, want := knows.since(said), []string{"have 1"}; !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
		if got, want := knowsNot.since(2), []string{"have 1"}; !slices.Equal(got, want) {
			t.Errorf("who does not know the message is told %v, want %v", got, want)
		}
	})
}

func TestRequestsOfEvictedPiecesAreRejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte, 256<<10)
		r := newRig(t, content, setup{upload: true})
		r.join(fast, honest)
		var d diary
		asks := make(chan uint32)
		conduct := d.conduct(false)
		conduct.Beside = func(s *fetchtest.Session) error {
			for index := range asks {
				if err := s.Send(wire.Message{ID: wire.Request, Index: index, Length: 1000}); err != nil {
					return err
				}
			}
			return nil
		}
		r.join(fast, conduct)
		defer close(asks)
		time.Sleep(time.Second)
		r.piece(1)
		r.piece(2)
		asks <- 1
		time.Sleep(time.Second)
		r.store.Evict()
		asks <- 2
		time.Sleep(time.Second)
		if got, want := d.since(2), []string{"block of 1", "reject 2"}; !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	})
}

func TestHaveIsNotSaidToThoseThatHave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte, 256<<10)
		r := newRig(t, content, setup{upload: true})
		var d diary
		conduct := d.conduct(false)
		conduct.Greet, conduct.Answer = nil, nil
		r.join(fast, conduct)
		r.readAll(mebibyte)
		time.Sleep(time.Second)
		if got := d.since(0); len(got) > 0 {
			t.Errorf("a seeder is told %v", got)
		}
	})
}

// put has the store hold a piece that did not come from peers.
func (r *rig) put(index int) {
	fill(r.store, r.content, index)
}

func fill(store *fetchtest.Store, content *fetchtest.Content, pieces ...int) {
	for _, i := range pieces {
		buf := store.Alloc(i)
		copy(buf, content.Bytes[int64(i)*content.PieceLength:])
		store.Add(i, buf)()
	}
}

// What trackers are told is left is what the store lacks, whatever has come and gone.
func TestLeftIsWhatIsNotHeld(t *testing.T) {
	for _, upload := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			content := fetchtest.NewContent(4*mebibyte-1000, 256<<10)
			r := newRig(t, content, setup{upload: upload})
			left := func(want int64) {
				t.Helper()
				r.settle()
				if st := r.Stats(); st.Left != want {
					t.Errorf("%d left, want %d", st.Left, want)
				}
			}
			r.join(fast, honest)
			for range 5 {
				r.read(0, mebibyte)
				left(content.Length - mebibyte)
				r.store.Evict()
				for i := range 4 {
					r.Lost(i)
				}
				left(content.Length)
			}
			r.piece(15)
			r.Lost(15) // out of date
			left(content.Length - content.PieceSize(15))
			// Nobody tells of these.
			r.put(3)
			r.store.Lose(15)
			time.Sleep(2 * time.Second)
			left(content.Length - content.PieceLength)
		})
	}
}

func TestStartsWithWhatTheStoreHas(t *testing.T) {
	content := fetchtest.NewContent(mebibyte, 256<<10)
	store := fetchtest.NewStore(content.Torrent, content.Length)
	cfg := Config{Torrent: content.Torrent, Store: store}
	fill(store, content, 1, 3)
	if h := newHoldings(cfg); h.left != mebibyte/2 || h.bits[0] != 0x50 || h.whole {
		t.Errorf("%+v", h)
	}
	fill(store, content, 0, 2)
	if h := newHoldings(cfg); h.left != 0 || !h.whole {
		t.Errorf("%+v", h)
	}
}

func TestCompleted(t *testing.T) {
	content := fetchtest.NewContent(4*mebibyte, 256<<10)
	for title, c := range map[string]struct {
		cache int64
		early []int // pieces that the store turns out to have
		lost  []int // and loses, later on
		want  bool
	}{
		"all comes":                  {cache: content.Length, want: true},
		"all but what was there":     {cache: content.Length, early: []int{3, 15}, want: true},
		"all, and again":             {cache: content.Length, lost: []int{4}, want: true},
		"never all at the same time": {cache: content.Length - 1},
		"all was there": {
			cache: content.Length, early: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, lost: []int{4},
		},
	} {
		t.Run(title, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, content, setup{cache: c.cache})
				r.join(fast, honest)
				for _, i := range c.early {
					r.put(i)
				}
				time.Sleep(2 * time.Second)
				r.readAll(mebibyte)
				r.settle()
				if len(c.lost) > 0 {
					r.store.Lose(c.lost...)
					time.Sleep(2 * time.Second)
					r.readAll(mebibyte)
				}
				r.settle()
				completed := false
				select {
				case <-r.Completed():
					completed = true
				default:
				}
				if completed != c.want {
					t.Errorf("completed: %v", completed)
				}
			})
		})
	}
}

// A peer is not told of what it has, but it is once it has it no more.
func TestWhoLosesAPieceIsToldThatWeHaveIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte, 256<<10)
		r := newRig(t, content, setup{upload: true})
		var d diary
		conduct := d.conduct(true)
		conduct.Greet, conduct.Answer = nil, nil
		lose := make(chan uint32)
		conduct.Beside = func(s *fetchtest.Session) error {
			for i := range lose {
				lost := binary.BigEndian.AppendUint32(nil, i)
				if err := s.Send(wire.Message{ID: wire.Extended, Ext: wire.OurDontHave, Data: lost}); err != nil {
					return err
				}
			}
			return nil
		}
		r.join(fast, conduct)
		defer close(lose)
		time.Sleep(time.Second)
		r.piece(1)
		for _, i := range []uint32{1, 1, 2} { // once is enough, and 2 is nowhere
			lose <- i
			time.Sleep(time.Second)
		}
		if got, want := d.since(0), []string{"have 1"}; !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	})
}

// A peer that has the extension protocol and does not say what messages it knows does not make us remember more and more.
func TestWhatIsUnsaidIsBounded(t *testing.T) {
	l, guests := ballroom(t, 1)
	m := guests[0]
	for range 1000 {
		for i := range l.members.pieces {
			l.hold(i)
			l.lose(i)
		}
	}
	l.hold(3)
	if n := len(m.unsaid); n > (l.members.pieces+7)/8 {
		t.Errorf("%d bytes are remembered of %d pieces", n, l.members.pieces)
	}
	for i := range l.members.pieces {
		if !wire.HasBit(m.unsaid, i) {
			t.Errorf("the loss of piece %d is forgotten", i)
		}
	}
	m.hello.Messages = map[string]uint8{}
	if l.catchUp(m); m.unsaid != nil {
		t.Errorf("%v", m.unsaid)
	}
}

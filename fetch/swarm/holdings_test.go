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

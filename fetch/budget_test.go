package fetch

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// torrentOf is a torrent as far as a budget knows it: it wants so many connections, and opens and closes them as told.
type torrentOf struct {
	*share
	open, want int
	shedding   int
	retries    int
}

func newTorrentOf(b *budget, want int) *torrentOf {
	t := &torrentOf{share: b.join(), want: want}
	t.listen(func() { t.shedding++ }, func() { t.retries++ })
	return t
}

// dial opens what it can.
func (t *torrentOf) dial() {
	for t.open < t.want && t.take() {
		t.open++
	}
}

// settle lets torrents do as they are told until nobody is told anything any more.
func settle(torrents ...*torrentOf) {
	for again := true; again; {
		again = false
		for _, t := range torrents {
			if t.shedding > 0 && t.open > 0 {
				t.shedding--
				t.open--
				t.release()
				again = true
			}
			if t.retries > 0 {
				t.retries = 0
				t.dial()
				again = true
			}
		}
	}
}

func TestBudgetIsFair(t *testing.T) {
	b := newBudget(12)
	first := newTorrentOf(b, 100)
	if first.dial(); first.open != 12 {
		t.Fatalf("alone it has %d", first.open)
	}
	second := newTorrentOf(b, 100)
	second.dial()
	settle(first, second)
	if first.open != 6 || second.open != 6 {
		t.Fatalf("the two have %d and %d", first.open, second.open)
	}
	modest := newTorrentOf(b, 1)
	modest.dial()
	settle(first, second, modest)
	if modest.open != 1 || first.open+second.open != 11 {
		t.Fatalf("the three have %d, %d and %d", first.open, second.open, modest.open)
	}
	first.dial() // has its share and more, and gets none
	settle(first, second, modest)
	if b.used != 12 || first.open+second.open+modest.open != 12 {
		t.Fatalf("%d used; %d, %d and %d", b.used, first.open, second.open, modest.open)
	}
	for second.open > 0 {
		second.open--
		second.release()
	}
	second.leave()
	if first.dial(); first.open != 11 {
		t.Fatalf("after the second has left the first has %d", first.open)
	}
}

func TestBudgetWithMoreTorrentsThanConnections(t *testing.T) {
	b := newBudget(3)
	var torrents []*torrentOf
	for range 10 {
		torrents = append(torrents, newTorrentOf(b, 5))
	}
	for range 3 {
		for _, x := range torrents {
			x.dial()
		}
		settle(torrents...)
	}
	for _, x := range torrents {
		if x.open > 1 {
			t.Errorf("one has %d", x.open)
		}
	}
	if b.used != 3 {
		t.Errorf("%d are used", b.used)
	}
}

// What a torrent was refused is kept for it, but not for ever: it may have found other ways.
func TestBudgetForgetsHunger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(4)
		rich, poor := newTorrentOf(b, 100), newTorrentOf(b, 100)
		for range 4 {
			rich.open++
			if !rich.take() {
				t.Fatal("no room")
			}
		}
		if poor.take() || rich.shedding == 0 {
			t.Fatal("the rich one is not asked for anything")
		}
		rich.open--
		rich.release()
		if rich.take() {
			t.Error("the rich one takes back what it gave")
		}
		time.Sleep(hunger)
		if !rich.take() {
			t.Error("nobody wants it, and it may not have it")
		}
	})
}

func TestDialsGiveBack(t *testing.T) {
	b := newBudget(1)
	s := b.join()
	refused := errors.New("refused")
	near, far := net.Pipe()
	defer far.Close()
	for _, outcome := range []error{refused, nil} {
		if !s.take() {
			t.Fatal("no room")
		}
		nc, err := s.dialer(func(context.Context, string) (net.Conn, error) { return near, outcome })(t.Context(), "")
		if !errors.Is(err, outcome) {
			t.Fatal(err)
		}
		if err == nil {
			if s.take() {
				t.Error("an open connection does not count")
			}
			for range 2 {
				_ = nc.Close()
			}
		}
		if b.used != 0 || s.used != 0 {
			t.Errorf("after %v %d are used", outcome, b.used)
		}
	}
}

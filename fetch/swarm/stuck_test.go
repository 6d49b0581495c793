package swarm

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/wire"
)

// miser is a peer that has all and serves nobody until it is told to.
func miser() (conduct fetchtest.Conduct, relent func()) {
	serves := make(chan struct{})
	return fetchtest.Conduct{
		Heed: func(_ *fetchtest.Session, m wire.Message) (bool, error) { return m.ID == wire.Interested, nil },
		Beside: func(s *fetchtest.Session) error {
			<-serves
			return s.Unchoke(true)
		},
	}, func() { close(serves) }
}

// upTo gives the numbers from lo to hi, less hi.
func upTo(lo, hi int) (n []int) {
	for i := lo; i < hi; i++ {
		n = append(n, i)
	}
	return n
}

// delivered gives the pieces that a peer has sent whole, once.
func (r *rig) delivered(p *fetchtest.Peer) (pieces []int) {
	r.t.Helper()
	sent := make(map[int]int)
	for block, times := range p.Served() {
		if times != 1 {
			r.t.Errorf("block %v was sent %d times", block, times)
		}
		sent[int(block[0])]++
	}
	for piece, blocks := range sent {
		if blocks == mebibyte/(16<<10) {
			pieces = append(pieces, piece)
		}
	}
	slices.Sort(pieces)
	return pieces
}

// withMiser has a rig join a miser, and a giver that lacks what comes first.
func (r *rig) withMiser(link fetchtest.Link, conduct fetchtest.Conduct, lacks int) (giver *fetchtest.Peer, relent func()) {
	r.t.Helper()
	refuses, relent := miser()
	r.join(fast, refuses)
	giver = r.peer(link, conduct)
	giver.Lacks(upTo(0, lacks)...)
	r.AddPeers("test", []netip.AddrPort{giver.Addr()})
	return giver, relent
}

func TestStuckReader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fetchtest.NewContent(64*mebibyte, mebibyte), setup{ahead: 16 * mebibyte})
		giver, relent := r.withMiser(fast, honest, 8)
		expect := func(when string, want []int) {
			t.Helper()
			time.Sleep(30 * time.Second)
			if got := r.delivered(giver); !slices.Equal(got, want) {
				t.Errorf("%s, the peer that serves was asked for pieces %v, not %v", when, got, want)
			}
		}
		r.Ahead(1, 0, 4*mebibyte, 0)
		expect("while nobody waits", nil)
		read := make(chan error)
		go func() { read <- r.tryRead(0, mebibyte) }()
		expect("while a reader is stuck", upTo(8, 16))
		relent()
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		r.Ahead(1, mebibyte, 4*mebibyte, 0)
		expect("when the reader goes on", upTo(8, 16))
		r.Ahead(1, 0, 0, 0)
		r.call(func(l *loop) {
			if n := len(l.demand.targets); n > 0 {
				t.Errorf("%d pieces are wanted by nobody", n)
			}
		})
	})
}

// What a stuck reader would come to later is given up with the reader.
func TestStuckReaderLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fetchtest.NewContent(64*mebibyte, mebibyte), setup{ahead: 32 * mebibyte})
		giver, relent := r.withMiser(slow, honest, 8)
		defer relent()
		r.Ahead(1, 0, 4*mebibyte, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.ReadAt(ctx, make([]byte, mebibyte), 0); err == nil {
			t.Fatal("the peer that chokes has served")
		}
		if giver.Blocks() == 0 {
			t.Fatal("nothing was asked of the peer that serves")
		}
		r.Ahead(1, 0, 0, 0)
		time.Sleep(10 * time.Second)
		r.call(func(l *loop) {
			if at := l.demand.reachAgain(); at != 0 {
				t.Errorf("the loop is to look again after %v, and nobody reads", at)
			}
		})
		n := giver.Blocks()
		time.Sleep(30 * time.Second)
		if more := giver.Blocks() - n; more > 0 {
			t.Errorf("%d more blocks came after the reader had left", more)
		}
	})
}

// What the cache lets go of beyond the window of a stuck reader is not fetched again while it is stuck.
func TestStuckReaderFetchesOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(128*mebibyte, mebibyte)
		r := newRig(t, content, setup{ahead: 16 * mebibyte, cache: 32 * mebibyte, inFlight: 8 * mebibyte})
		giver, relent := r.withMiser(fast, honest, 8)
		defer relent()
		r.Ahead(1, 0, 4*mebibyte, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
		defer cancel()
		gaveUp := make(chan error)
		go func() { gaveUp <- r.ReadAt(ctx, make([]byte, mebibyte), 0) }()
		for i := range 80 { // somebody else fills the cache
			time.Sleep(500 * time.Millisecond)
			r.piece(40 + i)
		}
		if err := <-gaveUp; err == nil {
			t.Fatal("the peer that chokes has served")
		}
		if got, want := r.delivered(giver), slices.Concat(upTo(8, 16), upTo(40, 120)); !slices.Equal(got, want) {
			t.Errorf("pieces %v were fetched, not %v", got, want)
		}
	})
}

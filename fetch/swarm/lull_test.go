package swarm

import (
	"context"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
)

// A network that is away for a minute, and after which no old connection works, costs a waiting reader that minute and a
// few seconds.
func TestNetworkAway(t *testing.T) {
	for name, away := range map[string]time.Duration{"a moment": 2 * time.Second, "a minute": time.Minute, "five minutes": 5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, fetchtest.NewContent(16*mebibyte, mebibyte), setup{})
				for range 5 {
					r.join(fast, honest)
				}
				r.piece(0)
				r.network.Split()
				read := make(chan error, 1)
				go func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
					defer cancel()
					read <- r.ReadAt(ctx, make([]byte, 100), 5*mebibyte)
				}()
				time.Sleep(away)
				r.network.Rejoin()
				back := time.Now()
				if err := <-read; err != nil {
					t.Error(err)
				}
				if took := time.Since(back); took > 20*time.Second {
					t.Errorf("the read went on %v after the network was back", took)
				}
				r.readAll(4 * mebibyte)
				if st := r.Stats(); st.Connected != 5 {
					t.Errorf("%d connections to 5 peers", st.Connected)
				}
			})
		})
	}
}

// Without a reader nobody is dialled more often than its failures allow.
func TestNoHurryWithoutReaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fetchtest.NewContent(4*mebibyte, mebibyte), setup{})
		p := r.join(fast, honest)
		r.piece(0)
		p.Close()
		time.Sleep(time.Hour)
		r.on(func(l *loop) {
			for _, c := range l.pool.byAddr {
				if c.failures > 20 {
					t.Errorf("%d attempts in an hour", c.failures)
				}
			}
		})
	})
}

// A peer that comes back takes the place of its connection that nothing comes from; one that is there keeps it.
func TestPeerComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fetchtest.NewContent(4*mebibyte, mebibyte), setup{})
		p := r.peer(fast, honest)
		from := r.address()
		r.dialIn(p, from)
		r.piece(0)
		connections := func() (n int) {
			r.on(func(l *loop) { n = l.members.nextID })
			return n
		}
		r.dialIn(p, from)
		r.settle()
		if n := connections(); n != 1 {
			t.Errorf("a second connection of a peer that is there was taken in")
		}
		time.Sleep(staleAfter)
		r.dialIn(p, from)
		r.settle()
		if n := connections(); n != 2 {
			t.Errorf("%d connections were taken in, want 2", n)
		}
		r.piece(1)
		if st := r.Stats(); st.Connected != 1 {
			t.Errorf("%d connections", st.Connected)
		}
	})
}

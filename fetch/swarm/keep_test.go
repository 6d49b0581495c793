package swarm

import (
	"net/netip"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
)

// kept counts the pieces that the store has.
func (r *rig) kept() (n int) {
	for i := range r.content.NumPieces() {
		if r.store.Has(i) {
			n++
		}
	}
	return n
}

// What the store lost before it could keep it, or later, is fetched again.
func TestKeepFetchesAgainWhatWasLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(24*mebibyte, mebibyte)
		r := newRig(t, content, setup{keep: true})
		r.join(fast, honest)
		time.Sleep(time.Second)
		if n := r.kept(); n == 0 || n == content.NumPieces() {
			t.Fatalf("%d pieces so soon", n)
		}
		for i := range content.NumPieces() {
			r.store.Lose(i)
		}
		time.Sleep(time.Minute)
		if n := r.kept(); n != content.NumPieces() {
			t.Errorf("only %d of %d pieces are kept", n, content.NumPieces())
		}
		r.store.Lose(3, 17)
		time.Sleep(time.Minute)
		if n := r.kept(); n != content.NumPieces() {
			t.Errorf("%d of %d pieces after two were lost", n, content.NumPieces())
		}
	})
}

// While the disk does not keep up, nothing is fetched that would be lost.
func TestKeepWaitsForTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(24*mebibyte, mebibyte)
		r := newRig(t, content, setup{keep: true})
		r.store.FallBehind(true)
		p := r.join(fast, honest)
		time.Sleep(time.Minute)
		if p.Blocks() > 0 {
			t.Errorf("%d blocks were fetched for a store that could not take them", p.Blocks())
		}
		r.piece(5) // readers don't care
		r.store.FallBehind(false)
		time.Sleep(time.Minute)
		if n := r.kept(); n != content.NumPieces() {
			t.Errorf("only %d of %d pieces are kept", n, content.NumPieces())
		}
	})
}

// The only one to have what is fetched first, as the rarest, falls silent: the rest comes all the same, and that too when
// somebody has it again.
func TestKeepGoesOnWithoutTheRarest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(24*mebibyte, mebibyte)
		r := newRig(t, content, setup{keep: true})
		var rare, rest []int
		for i := range content.NumPieces() {
			if i < 18 {
				rare = append(rare, i)
			} else {
				rest = append(rest, i)
			}
		}
		leaver, stayer := r.peer(slow, honest), r.peer(fast, honest)
		leaver.Lacks(rest...)
		stayer.Lacks(rare...)
		r.AddPeers("test", []netip.AddrPort{leaver.Addr()})
		time.Sleep(3 * time.Second)
		r.AddPeers("test", []netip.AddrPort{stayer.Addr()})
		leaver.Close()
		time.Sleep(time.Minute)
		if n := r.kept(); n < len(rest) {
			t.Errorf("%d pieces are kept, and %d can be had", n, len(rest))
		}
		r.join(fast, honest)
		time.Sleep(time.Minute)
		if n := r.kept(); n != content.NumPieces() {
			t.Errorf("only %d of %d pieces are kept", n, content.NumPieces())
		}
	})
}

// fickle is a peer that chokes and unchokes us in turns, so many times in all.
func fickle(every time.Duration, times int) fetchtest.Conduct {
	return fetchtest.Conduct{Beside: func(s *fetchtest.Session) error {
		for i := range times {
			time.Sleep(every)
			if err := s.Unchoke(i%2 == 1); err != nil {
				return err
			}
		}
		return nil
	}}
}

// What only peers have that choke us does not keep what others serve from coming, and what a peer had begun when it choked us
// is not begun again.
func TestKeepTakesWhatIsServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(64*mebibyte, mebibyte)
		r := newRig(t, content, setup{keep: true})
		giver, relent := r.withMiser(fast, fickle(1234*time.Millisecond, 6), 32)
		time.Sleep(time.Minute)
		if n := r.kept(); n != 32 {
			t.Errorf("%d pieces are kept, and 32 are served", n)
		}
		r.delivered(giver)
		relent()
		time.Sleep(time.Minute)
		if n := r.kept(); n != content.NumPieces() {
			t.Errorf("only %d of %d pieces are kept", n, content.NumPieces())
		}
	})
}

// What a peer had begun when it choked us is not begun again, even where there is little room for what is incomplete.
func TestKeepResumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(24*mebibyte, mebibyte)
		r := newRig(t, content, setup{keep: true, inFlight: 2 * mebibyte})
		p := r.join(slow, fickle(1500*time.Millisecond, 1000))
		time.Sleep(6 * time.Minute)
		if n := r.kept(); n != content.NumPieces() {
			t.Errorf("only %d of %d pieces are kept", n, content.NumPieces())
		}
		if n, needed := p.Blocks(), 24*mebibyte/(16<<10); n > needed+needed/20 {
			t.Errorf("%d blocks were fetched, and %d were needed", n, needed)
		}
	})
}

// A reader's piece is never waited for behind what is fetched in the background.
func TestKeepGivesWayToReaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(24*mebibyte, mebibyte)
		r := newRig(t, content, setup{keep: true})
		r.join(fast, honest)
		time.Sleep(time.Second)
		for _, i := range []int{23, 15, 7} {
			at := time.Now()
			r.piece(i)
			// Alone on the line it takes an eighth of a second, and what is on its way already as much again.
			if took := time.Since(at); took > time.Second {
				t.Errorf("piece %d took %v", i, took)
			}
		}
	})
}

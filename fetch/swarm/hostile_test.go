package swarm

import (
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
)

// Each kind of bad peer alone beside honest ones: every byte comes right, who lies is banned, who does not is not.
func TestEachMisdeedBesideHonestPeers(t *testing.T) {
	content := fetchtest.NewContent(4*mebibyte+12345, 128<<10)
	for _, bad := range fetchtest.Misdeeds() {
		t.Run(bad.Name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				r := newRig(t, content, setup{cache: mebibyte, inFlight: 2 * mebibyte, upload: true, pex: true})
				hostile := r.join(fetchtest.Link{Delay: 2 * time.Millisecond, Rate: 16 * mebibyte}, bad.Conduct())
				honest := []*fetchtest.Peer{r.join(fast, honest), r.join(fast, honest)}
				for round := 0; round < 20 && (round == 0 || bad.Liar && !r.banned(hostile)); round++ {
					r.readAll(2 * mebibyte)
				}
				if bad.Liar && !r.banned(hostile) {
					t.Errorf("the liar is not banned after %d lies", hostile.Lies())
				}
				if !bad.Liar && r.banned(hostile) {
					t.Error("banned, though it did not lie")
				}
				for i, p := range honest {
					if r.banned(p) || !r.connected(p) || p.Shaken() != 1 {
						t.Errorf("honest peer %d: banned %v, connected %v, %d times", i, r.banned(p), r.connected(p), p.Shaken())
					}
				}
			})
		})
	}
}

// crowd makes n peers of which every second is hostile, each in a way of its own, unless hostile is false; then the honest
// half stays away from them.
func (r *rig) crowd(n int, hostile bool) (good, bad []*fetchtest.Peer, kinds []fetchtest.Misdeed) {
	misdeeds := fetchtest.Misdeeds()
	for i := range n {
		if i%2 == 0 {
			rtt := time.Duration(10+i%9*10) * time.Millisecond
			good = append(good, r.join(fetchtest.Link{Delay: rtt / 2, Rate: int64(256+i%5*64) << 10}, honest))
			continue
		}
		if hostile {
			kind := misdeeds[i/2%len(misdeeds)]
			kinds = append(kinds, kind)
			bad = append(bad, r.join(fetchtest.Link{Delay: 10 * time.Millisecond, Rate: mebibyte}, kind.Conduct()))
		} else {
			r.address()
		}
	}
	return good, bad, kinds
}

// How much of the throughput is left when as many hostile peers come in beside 100 honest ones. A figure for -v, no
// promise: there is none on a machine's speed in it, since time is made up.
func TestThroughputBesideHostileHalf(t *testing.T) {
	if !testing.Verbose() {
		t.Skip("a figure for -v")
	}
	content := fetchtest.NewContent(128*mebibyte+777, 512<<10)
	var took [2]time.Duration
	for i, hostile := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, content, setup{cache: 32 * mebibyte, inFlight: 32 * mebibyte, upload: true, pex: true})
			r.crowd(200, hostile)
			start := time.Now()
			r.readAll(16 * mebibyte)
			took[i] = time.Since(start)
			t.Logf("%+v", r.Stats())
		})
	}
	t.Logf("the honest alone %.2f s, among as many hostile %.2f s: %.2f of the throughput",
		took[0].Seconds(), took[1].Seconds(), took[0].Seconds()/took[1].Seconds())
}

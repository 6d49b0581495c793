package swarm

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/wire"
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

// A peer that hangs up within the handshake, after whichever byte, and whoever dialled, costs nobody anything.
func TestHangUpAtEveryByteOfTheHandshake(t *testing.T) {
	content := fetchtest.NewContent(mebibyte, 64<<10)
	bubble(t, func(t *testing.T) {
		r := newRig(t, content, setup{upload: true})
		var hostile []*fetchtest.Peer
		for n := range wire.HandshakeSize + 1 {
			hostile = append(hostile, r.join(fast, fetchtest.HangUp(n)))
			caller := fetchtest.NewPeer(content, nil, fetchtest.HangUp(n))
			r.peers = append(r.peers, caller)
			r.dialIn(caller, r.address())
		}
		good := r.join(fast, honest)
		r.readAll(mebibyte)
		r.settle()
		for n, p := range hostile {
			if r.banned(p) || r.connected(p) {
				t.Errorf("after %d bytes: banned %v, connected %v", n, r.banned(p), r.connected(p))
			}
		}
		r.on(func(l *loop) {
			if len(l.members.all) != 1 || l.pool.dials != 0 {
				t.Errorf("%d peers, %d dials under way", len(l.members.all), l.pool.dials)
			}
		})
		if r.banned(good) || good.Shaken() != 1 {
			t.Errorf("the honest peer: banned %v, connected %d times", r.banned(good), good.Shaken())
		}
	})
}

// A peer that sends much and nothing of what it was asked for has delivered nothing, and is soon asked no more.
func TestAnsweringBesideTheQuestion(t *testing.T) {
	content := fetchtest.NewContent(8*mebibyte, 128<<10)
	for _, bad := range fetchtest.Misdeeds() {
		if bad.Name != "blocks that overlap" && bad.Name != "blocks of another piece" {
			continue
		}
		t.Run(bad.Name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, content, setup{})
				hostile := r.join(fetchtest.Link{Delay: 2 * time.Millisecond, Rate: 16 * mebibyte}, bad.Conduct())
				r.join(slow, honest)
				r.join(slow, honest)
				r.readAll(2 * mebibyte)
				if n := hostile.Requests(); n == 0 || n > 100 {
					t.Errorf("asked for %d blocks of %d", n, content.Length/wire.BlockSize)
				}
			})
		})
	}
}

// crowd is a swarm of peers, some of them honest and some not.
type crowd struct {
	good, bad []*fetchtest.Peer
	kinds     []fetchtest.Misdeed // of the bad ones
}

// unhurried is a conduct on a real socket that leaves work to others: 50 blocks a second.
func unhurried(c fetchtest.Conduct) fetchtest.Conduct {
	answer := c.Answer
	if answer == nil {
		answer = (*fetchtest.Session).Answer
	}
	c.Answer = func(s *fetchtest.Session, req wire.Message) error {
		if err := s.Pause(20 * time.Millisecond); err != nil {
			return err
		}
		return answer(s, req)
	}
	return c
}

// crowd joins n peers of which every second is hostile, of these kinds in turn; without any the honest half is left.
func (r *rig) crowd(n int, misdeeds []fetchtest.Misdeed) (c crowd) {
	join := func(link fetchtest.Link, conduct fetchtest.Conduct) *fetchtest.Peer {
		if r.network == nil {
			conduct = unhurried(conduct)
		}
		return r.join(link, conduct)
	}
	for i := range n {
		if i%2 == 0 {
			rtt := time.Duration(10+i%9*10) * time.Millisecond
			c.good = append(c.good, join(fetchtest.Link{Delay: rtt / 2, Rate: int64(256+i%5*64) << 10}, honest))
			continue
		}
		if len(misdeeds) > 0 {
			kind := misdeeds[i/2%len(misdeeds)]
			c.kinds = append(c.kinds, kind)
			c.bad = append(c.bad, join(fetchtest.Link{Delay: 10 * time.Millisecond, Rate: mebibyte}, kind.Conduct()))
		}
	}
	return c
}

// unpunished names the liars that are still at large: that had a part in a piece that failed, of which it is not known yet
// whose fault that was. (One may have lied to no effect: another's copy was there first, or the piece was given up.)
func (r *rig) unpunished(c crowd) (names []string) {
	suspects := make(map[[20]byte]bool)
	r.on(func(l *loop) {
		for _, m := range l.members.all {
			suspects[m.conn.ID()] = m.record.suspicion > 0
		}
	})
	for i, p := range c.bad {
		if p.Lies() > 0 && c.kinds[i].Liar && suspects[p.ID] && !r.banned(p) {
			names = append(names, c.kinds[i].Name)
		}
	}
	return names
}

// judge checks that nobody was banned but liars.
func (r *rig) judge(c crowd) {
	r.t.Helper()
	for i, p := range c.good {
		if r.banned(p) || !r.connected(p) || p.Shaken() != 1 {
			r.t.Errorf("honest peer %d at %v: banned %v, connected %v, %d times", i, p.Addr(), r.banned(p), r.connected(p), p.Shaken())
		}
	}
	liars := make(map[netip.AddrPort]bool)
	for i, p := range c.bad {
		liars[p.Addr()] = c.kinds[i].Liar
		if r.banned(p) && !c.kinds[i].Liar {
			r.t.Errorf("a peer that did not lie is banned: %s", c.kinds[i].Name)
		}
	}
	r.on(func(l *loop) {
		for a := range l.pool.bans.addrs {
			if !liars[a] {
				r.t.Errorf("%v is banned, where no liar is", a)
			}
		}
		for who := range l.pool.bans.ids {
			for _, p := range c.good {
				if who.id == p.ID {
					r.t.Errorf("the peer id of an honest peer at %v is banned", p.Addr())
				}
			}
		}
	})
}

// A swarm of 200 over real sockets, half of it hostile, and several readers.
func TestHostileHalf(t *testing.T) {
	content := fetchtest.NewContent(12*mebibyte+4321, 128<<10)
	r := newRig(t, content, setup{real: true, cache: 3 * mebibyte, inFlight: 4 * mebibyte, upload: true, pex: true})
	before := heap()
	c := r.crowd(200, fetchtest.Misdeeds())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			for range 30 {
				n := 1 + rng.Int64N(400_000)
				if err := r.tryRead(rng.Int64N(content.Length-n), n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	r.readAll(2 * mebibyte)
	wg.Wait()
	// A liar that was never believed need not be banned: read on until all that were are.
	for range 20 {
		if len(r.unpunished(c)) == 0 {
			break
		}
		r.readAll(2 * mebibyte)
	}
	for _, name := range r.unpunished(c) {
		t.Errorf("not banned: %s", name)
	}
	r.judge(c)
	// Both sides of 200 connections and what is in flight: the cache and the budget, and half a mebibyte for each.
	if used := heap() - before; used > (7+100)*mebibyte {
		t.Errorf("%d MiB in use", used>>20)
	}
	t.Logf("%+v", r.Stats())
}

// heap is the bytes in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// How much of the throughput of a first read is left when as many hostile peers come in beside 100 honest ones. Time is made
// up, so the machine's speed has no part in it.
func TestThroughputBesideHostileHalf(t *testing.T) {
	content := fetchtest.NewContent(128*mebibyte+777, 512<<10)
	read := func(misdeeds []fetchtest.Misdeed) (took time.Duration) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, content, setup{cache: 32 * mebibyte, inFlight: 32 * mebibyte, upload: true, pex: true})
			c := r.crowd(200, misdeeds)
			start := time.Now()
			r.readAll(16 * mebibyte)
			took = time.Since(start)
			r.judge(c)
			t.Logf("%v: %+v", took, r.Stats())
		})
		return took
	}
	every := fetchtest.Misdeeds()
	liars := slices.DeleteFunc(slices.Clone(every), func(m fetchtest.Misdeed) bool { return !m.Liar })
	honest := read(nil)
	for _, c := range []struct {
		name     string
		misdeeds []fetchtest.Misdeed
		least    float64 // of the throughput of the honest alone
	}{
		{"of every kind", every, 0.7},
		{"all of them liars", liars, 0.5},
	} {
		share := 0.0
		for try := 0; try < 3 && share < c.least; try++ { // chance says who is met first, and costs most
			share = honest.Seconds() / read(c.misdeeds).Seconds()
			t.Logf("%s: %.2f of the throughput", c.name, share)
		}
		if share < c.least {
			t.Errorf("%s: %.2f of the throughput is left, less than %.2f", c.name, share, c.least)
		}
	}
}

// What is left of the throughput over real sockets, where hostile peers cost processor time too, their own included.
func BenchmarkHostileHalf(b *testing.B) {
	content := fetchtest.NewContent(64*mebibyte, 256<<10)
	for name, misdeeds := range map[string][]fetchtest.Misdeed{
		"honest alone": nil, "among as many hostile": fetchtest.Misdeeds(),
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, content, setup{real: true, cache: 16 * mebibyte, inFlight: 16 * mebibyte, upload: true, pex: true})
			r.crowd(200, misdeeds)
			b.SetBytes(content.Length)
			for b.Loop() {
				r.readAll(8 * mebibyte)
			}
		})
	}
}

package swarm

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
)

// addr4 is the n-th address of a /16 net.
func addr4(a, b byte, n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{a, b, byte(n >> 8), byte(n)}), 6881)
}

func TestPeerExchangeCannotFloodTheList(t *testing.T) {
	p := newCandidates()
	for teller := range 30 {
		from := addr4(20, byte(teller), 1).Addr()
		for n := range 300 {
			p.hear(from, addr4(30, byte(teller), n))
		}
		if p.told[from] > maxTold {
			t.Fatalf("one peer's word fills %d places", p.told[from])
		}
	}
	if len(p.byAddr) > maxHearsay || p.hearsay != len(p.byAddr) {
		t.Fatalf("%d addresses, %d of them hearsay", len(p.byAddr), p.hearsay)
	}
	for n := range 500 {
		p.add(&candidate{addr: addr4(40, 0, n), source: "tracker"})
	}
	for round := range 2 { // all of the tracker's come first, and again when they have failed once
		for n := range 500 {
			c := p.next(0)
			if c == nil || c.source != "tracker" {
				t.Fatalf("round %d, dial %d goes to %+v", round, n, c)
			}
			c.failures++
			c.notBefore = time.Hour
		}
		for _, c := range p.byAddr {
			c.notBefore = 0
		}
	}
}

func TestFullListForgetsTheWorst(t *testing.T) {
	p := newCandidates()
	for n := range 3 * maxCandidates {
		p.add(&candidate{addr: addr4(40, byte(n>>12), n), source: "tracker"})
	}
	if len(p.byAddr) != maxCandidates {
		t.Fatalf("%d addresses", len(p.byAddr))
	}
	failed := p.next(0)
	failed.failures = 3
	for n := range 100 {
		p.add(&candidate{addr: addr4(50, 0, n), source: byHand})
	}
	if len(p.byAddr) != maxCandidates || p.byAddr[failed.addr] != nil {
		t.Fatalf("%d addresses; the one that failed is %v", len(p.byAddr), p.byAddr[failed.addr])
	}
}

func TestWhoeverNamesAddressesDoesNotChooseTheFirst(t *testing.T) {
	firsts := make(map[netip.AddrPort]bool)
	for range 50 {
		p := newCandidates()
		for n := range 100 {
			p.hear(addr4(20, 0, 1).Addr(), addr4(30, 0, n))
		}
		firsts[p.next(0).addr] = true
	}
	if len(firsts) < 10 {
		t.Errorf("%d addresses came first in 50 lists", len(firsts))
	}
}

func TestOneHostFillsFewPlaces(t *testing.T) {
	p := newCandidates()
	ip := netip.MustParseAddr("60.1.2.3")
	for port := range uint16(1000) {
		p.add(&candidate{addr: netip.AddrPortFrom(ip, 1000+port), source: "tracker"})
	}
	if len(p.byAddr) != maxAtHome || p.homes[netip.PrefixFrom(ip, 32)] != maxAtHome {
		t.Fatalf("%d addresses", len(p.byAddr))
	}
	for c := p.next(0); c != nil; c = p.next(0) {
		p.unlist(c)
	}
	if len(p.homes) != 0 || len(p.byAddr) != 0 {
		t.Fatalf("%v", p.homes)
	}
}

func TestPeersCannotNameWhatIsNearerThanTheyAre(t *testing.T) {
	for _, c := range []struct {
		teller, named string
		listed        bool
	}{
		{"60.1.2.3", "70.1.2.3", true},
		{"60.1.2.3", "192.168.1.1", false},
		{"60.1.2.3", "10.0.0.1", false},
		{"60.1.2.3", "127.0.0.1", false},
		{"60.1.2.3", "169.254.169.254", false},
		{"60.1.2.3", "::1", false},
		{"60.1.2.3", "fd00::1", false},
		{"60.1.2.3", "fe80::1", false},
		{"60.1.2.3", "::", false},
		{"60.1.2.3", "224.0.0.1", false},
		{"2001:db8::1", "2001:db8::2", true},
		{"192.168.1.7", "192.168.1.1", true},
		{"192.168.1.7", "60.1.2.3", true},
		{"192.168.1.7", "127.0.0.1", false},
		{"127.0.0.1", "127.0.0.2", true},
		{"127.0.0.1", "60.1.2.3", true},
	} {
		p := newCandidates()
		p.hear(netip.MustParseAddr(c.teller), netip.AddrPortFrom(netip.MustParseAddr(c.named), 80))
		if listed := len(p.byAddr) == 1; listed != c.listed {
			t.Errorf("%s names %s: listed %v", c.teller, c.named, listed)
		}
	}
}

func TestABetterWordForAnAddress(t *testing.T) {
	p := newCandidates()
	a := addr4(30, 0, 1)
	p.hear(addr4(20, 0, 1).Addr(), a)
	p.add(&candidate{addr: a, source: "tracker"})
	p.hear(addr4(20, 0, 2).Addr(), a)
	if c := p.byAddr[a]; c.source != "tracker" || p.hearsay != 0 || len(p.told) != 0 || len(p.byAddr) != 1 {
		t.Fatalf("%+v; %d hearsay, %v", c, p.hearsay, p.told)
	}
}

func TestBans(t *testing.T) {
	id := func(n byte) [20]byte { return [20]byte{n} }
	at := netip.MustParseAddrPort
	type step struct {
		addr     string
		id       byte
		incoming bool
	}
	for _, c := range []struct {
		name   string
		bans   []step
		who    step
		banned bool
	}{
		{"the peer that we dialled", []step{{"60.1.2.3:6881", 1, false}}, step{"60.1.2.3:6881", 1, false}, true},
		{"the same with another id", []step{{"60.1.2.3:6881", 1, false}}, step{"60.1.2.3:6881", 2, false}, true},
		{"the same dialling us", []step{{"60.1.2.3:6881", 1, false}}, step{"60.1.2.3:50000", 1, true}, true},
		{"its neighbour", []step{{"60.1.2.3:6881", 1, false}}, step{"60.1.2.3:6882", 2, false}, false},
		{"its neighbour dialling us", []step{{"60.1.2.3:6881", 1, false}}, step{"60.1.2.3:50000", 2, true}, false},
		{"a peer that dialled us", []step{{"60.1.2.3:50000", 1, true}}, step{"60.1.2.3:50001", 1, true}, true},
		{"who dialled us from that port before", []step{{"60.1.2.3:50000", 1, true}}, step{"60.1.2.3:50000", 2, true}, false},
		{"somebody else with its id", []step{{"60.1.2.3:50000", 1, true}}, step{"60.1.2.4:50000", 1, true}, false},
		{"a third liar's neighbour",
			[]step{{"60.1.2.3:1", 1, true}, {"60.1.2.3:2", 2, true}, {"60.1.2.3:3", 3, false}}, step{"60.1.2.3:4", 4, false}, true},
		{"a second liar's neighbour",
			[]step{{"60.1.2.3:1", 1, true}, {"60.1.2.3:2", 2, true}}, step{"60.1.2.3:4", 4, false}, false},
		{"the same /64", []step{{"[2001:db8:1:1::1]:1", 1, true}, {"[2001:db8:1:1::2]:1", 2, true}, {"[2001:db8:1:1::3]:1", 3, true}},
			step{"[2001:db8:1:1:ffff::9]:1", 4, true}, true},
		{"another /64", []step{{"[2001:db8:1:1::1]:1", 1, true}, {"[2001:db8:1:1::2]:1", 2, true}, {"[2001:db8:1:1::3]:1", 3, true}},
			step{"[2001:db8:1:2::1]:1", 4, true}, false},
		{"the same network at home", []step{{"[fd00::1]:1", 1, true}, {"[fd00::2]:1", 2, true}, {"[fd00::3]:1", 3, true}},
			step{"[fd00::4]:1", 4, true}, false},
		{"loopback", []step{{"127.0.0.1:1", 1, false}, {"127.0.0.1:2", 2, false}, {"127.0.0.1:3", 3, false}, {"127.0.0.1:4", 4, false}},
			step{"127.0.0.1:5", 5, false}, false},
	} {
		b := newBans()
		for _, s := range c.bans {
			b.add(at(s.addr), id(s.id), s.incoming)
		}
		if got := b.peer(at(c.who.addr), id(c.who.id)); got != c.banned {
			t.Errorf("%s: banned %v", c.name, got)
		}
	}
}

func TestBansAreBounded(t *testing.T) {
	b := newBans()
	for n := range 5 * maxBans {
		b.add(addr4(byte(60+n>>16), byte(n), n), [20]byte{byte(n), byte(n >> 8)}, n%2 == 0)
	}
	if len(b.addrs) > maxBans || len(b.ids) > maxBans || len(b.strikes) > maxBans {
		t.Fatalf("%d addresses, %d ids, %d strikes", len(b.addrs), len(b.ids), len(b.strikes))
	}
}

// A liar that dials in again and again, from new ports and with new ids, is stopped at the third time. Its honest neighbour,
// who has proved itself, stays; and others at other addresses are not concerned.
func TestLiarThatDialsInAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(64*mebibyte, 64<<10)
		r := newRig(t, content, setup{})
		r.join(fast, honest)
		home := netip.MustParseAddr("60.1.2.3")
		neighbour := fetchtest.NewPeer(content, nil, honest)
		r.peers = append(r.peers, neighbour)
		r.dialIn(neighbour, netip.AddrPortFrom(home, 40000))
		r.read(0, 4*mebibyte)
		if neighbour.Blocks() == 0 {
			t.Fatal("the neighbour delivered nothing")
		}
		lies := 0
		for i := range 10 {
			liar := fetchtest.NewPeer(content, nil, lieOnce())
			r.peers = append(r.peers, liar)
			r.dialIn(liar, netip.AddrPortFrom(home, uint16(50000+i)))
			r.settle()
			r.read(int64(i+1)*4*mebibyte, 4*mebibyte)
			r.settle() // the liar has to notice that it was hung up on
			lies += liar.Lies()
			if (i < maxStrikes) != (liar.Requests() > 0) || liar.Sessions() != 0 {
				t.Errorf("connection %d: %d requests, %d connections", i, liar.Requests(), liar.Sessions())
			}
		}
		if st := r.Stats(); lies != maxStrikes || st.Banned != maxStrikes || !r.connected(neighbour) {
			t.Errorf("%d lies, the neighbour connected %v: %+v", lies, r.connected(neighbour), st)
		}
	})
}

// All places are taken by peers that are good for nothing; the good ones that are known get in nevertheless.
func TestUselessPeersMakeRoom(t *testing.T) {
	for name, conduct := range map[string]fetchtest.Conduct{
		"mute":            fetchtest.Mute,
		"without a piece": {Greet: func(*fetchtest.Session) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				content := fetchtest.NewContent(4*mebibyte, 64<<10)
				r := newRig(t, content, setup{maxPeers: 10})
				for range 10 {
					r.join(fast, conduct)
				}
				time.Sleep(time.Second)
				for range 5 {
					r.join(fast, honest)
				}
				done := make(chan error, 1)
				go func() {
					for {
						if err := r.tryRead(0, content.Length); err == nil {
							done <- nil
							return
						}
					}
				}()
				at := time.Now()
				<-done
				if took := time.Since(at); took > 3*time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// The same when they dial in: whoever comes later is let in for one that is good for nothing.
func TestUselessIncomingPeersMakeRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(4*mebibyte, 64<<10)
		r := newRig(t, content, setup{maxPeers: 10})
		for i := range 10 {
			p := fetchtest.NewPeer(content, nil, fetchtest.Conduct{Greet: func(*fetchtest.Session) error { return nil }})
			r.peers = append(r.peers, p)
			r.dialIn(p, addr4(60, 1, i))
		}
		time.Sleep(chokePatience + time.Second)
		good := fetchtest.NewPeer(content, nil, honest)
		r.peers = append(r.peers, good)
		r.dialIn(good, addr4(60, 2, 1))
		r.read(0, content.Length)
	})
}

func TestManyConnectionsFromOneAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte, 64<<10)
		r := newRig(t, content, setup{})
		for i := range 3 * maxAtHome {
			p := fetchtest.NewPeer(content, nil, honest)
			r.peers = append(r.peers, p)
			r.dialIn(p, netip.MustParseAddrPort(fmt.Sprintf("60.1.2.3:%d", 40000+i)))
		}
		if n := r.Stats().Connected; n != maxAtHome {
			t.Errorf("%d connections", n)
		}
	})
}

// Somebody who knows an honest peer's id cannot keep it out by being there first under that id.
func TestSquattedPeerID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte, 64<<10)
		r := newRig(t, content, setup{})
		good := r.peer(fast, honest)
		squatter := fetchtest.NewPeer(content, nil, fetchtest.Mute)
		squatter.ID = good.ID
		r.peers = append(r.peers, squatter)
		r.dialIn(squatter, addr4(60, 1, 1))
		r.settle()
		r.AddPeers("test", []netip.AddrPort{good.Addr()})
		r.read(0, content.Length)
		// A second connection to one and the same is refused.
		r.dialIn(good, netip.AddrPortFrom(good.Addr().Addr(), 50000))
		if n := r.Stats().Connected; n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

// Of the connections that other torrents have a right to, those go that are of the least use.
func TestShed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(4*mebibyte, 64<<10)
		r := newRig(t, content, setup{})
		good := r.join(fast, honest)
		var idle []*fetchtest.Peer
		for range 3 {
			idle = append(idle, r.join(fast, fetchtest.Conduct{Greet: func(*fetchtest.Session) error { return nil }}))
		}
		r.read(0, content.Length)
		time.Sleep(time.Second) // the rates are taken
		r.read(0, content.PieceLength)
		for range idle {
			r.Shed()
			r.settle()
		}
		if n := r.Stats().Connected; n != 1 || !r.connected(good) {
			t.Errorf("%d are connected, the good one among them: %v", n, r.connected(good))
		}
	})
}

// Without room nobody is dialled, and with it as many as there is room for.
func TestRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(4*mebibyte, 64<<10)
		var room atomic.Int32
		r := newRig(t, content, setup{room: func() bool {
			if room.Add(-1) >= 0 {
				return true
			}
			room.Store(0)
			return false
		}})
		for range 5 {
			r.join(fast, honest)
		}
		for _, want := range []int{0, 2, 5} {
			room.Store(int32(want - r.Stats().Connected))
			r.RoomFreed()
			time.Sleep(500 * time.Millisecond)
			if n := r.Stats().Connected; n != want {
				t.Errorf("%d are connected, want %d", n, want)
			}
		}
	})
}

// TestComing counts the peers that may follow one whose dial took 200 ms: those whose dials are not much older.
func TestComing(t *testing.T) {
	const now, took = time.Second, 200 * time.Millisecond
	p := newCandidates()
	for n, age := range []time.Duration{0, 10, 200, 269, 270, 900} { // ms
		c := &candidate{addr: addr4(40, 0, n), source: byTracker, dialling: true, dialled: now - age*time.Millisecond}
		p.add(c)
	}
	p.add(&candidate{addr: addr4(40, 1, 0), source: byTracker, dialled: now}) // it was, and is no more
	if n, until := p.coming(took, now); n != 4 || until != now+70*time.Millisecond {
		t.Errorf("%d until %v, want 4 until %v", n, until, now+70*time.Millisecond)
	}
}

// Most addresses that a tracker or the DHT names lead nowhere. Who waits for them to fail must not keep us from the others.
func TestAddressesThatDoNotAnswerHoldNobodyUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(mebibyte, 64<<10)
		r := newRig(t, content, setup{maxPeers: 80})
		var alive []*fetchtest.Peer
		for i := range 150 {
			if i%15 == 0 {
				alive = append(alive, r.join(fast, honest))
			} else {
				r.join(fast, fetchtest.Silent)
			}
		}
		time.Sleep(dialTimeout + 3*time.Second) // 30 at a time would be 60 by now
		r.settle()
		for i, p := range alive {
			if !r.connected(p) {
				t.Errorf("peer %d of %d is not connected", i, len(alive))
			}
		}
		r.on(func(l *loop) {
			if l.pool.dials > maxDials+maxLingering {
				t.Errorf("%d dials at once", l.pool.dials)
			}
		})
		time.Sleep(2 * dialTimeout)
		r.settle()
		r.on(func(l *loop) {
			dialling, lingering := 0, 0
			for _, c := range l.pool.byAddr {
				if c.dialling {
					dialling++
				}
				if c.lingering {
					lingering++
				}
			}
			if l.pool.dials != dialling || l.pool.linger != lingering {
				t.Errorf("%d dials, %d of them lingering, counted %d and %d", dialling, lingering, l.pool.dials, l.pool.linger)
			}
		})
	})
}

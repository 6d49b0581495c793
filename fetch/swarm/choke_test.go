package swarm

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/peer"
	"torrentfs/fetch/picker"
	"torrentfs/fetch/wire"
)

// ballroom is a loop with n guests that all want to be served.
func ballroom(t *testing.T, n int) (l *loop, guests []*member) {
	t.Helper()
	content := fetchtest.NewContent(mebibyte, 64<<10)
	l, done := bareLoop(t, content)
	t.Cleanup(done)
	l.cfg.Upload, l.cfg.MaxPeers = true, 2*n
	for i := range n {
		m := l.guest(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 6881))
		m.theyWant = true
		guests = append(guests, m)
	}
	return l, guests
}

// unchoked are the numbers of the guests that are served.
func unchoked(guests []*member) (list []int) {
	for i, m := range guests {
		if m.unchoked {
			list = append(list, i)
		}
	}
	return list
}

// rounds has the choker decide n times, ten seconds apart; before each, each guest gives what it gives.
func (l *loop) rounds(n int, guests []*member, gives func(i int) int64) {
	for range n {
		l.now += rechokeEvery
		for i, m := range guests {
			m.trade.given += gives(i)
		}
		l.rechoke()
	}
}

func TestTitForTat(t *testing.T) {
	l, guests := ballroom(t, 20)
	for _, m := range guests {
		l.admit(m)
	}
	if got := len(unchoked(guests)); got != firstSlots {
		t.Fatalf("%d are served before anything is known, not %d", got, firstSlots)
	}
	best := []int{13, 14, 15, 16, 17, 18, 19} // beside one whose turn it is
	gives := func(i int) int64 { return int64(max(i-12, 0)) * mebibyte }
	turns := make(map[int]bool)
	for range 40 {
		l.rounds(1, guests, gives)
		served := unchoked(guests)
		l.choker.slots = firstSlots // nobody takes anything here, which would make it fewer
		others := slices.DeleteFunc(slices.Clone(served), func(i int) bool { return slices.Contains(best, i) })
		if len(others) == 1 && len(served) == firstSlots {
			turns[others[0]] = true
		}
	}
	if len(turns) < 12 {
		t.Errorf("the place that goes round came to %v", turns)
	}
	// Who stops giving loses its place, and who begins to give gets it.
	l.rounds(8, guests, func(i int) int64 { return int64(max(7-i, 0)) * mebibyte })
	l.choker.slots = firstSlots
	l.rounds(1, guests, func(i int) int64 { return int64(max(7-i, 0)) * mebibyte })
	for i := range firstSlots - 1 {
		if !guests[i].unchoked {
			t.Errorf("guest %d gives more than others and is not served: %v are", i, unchoked(guests))
		}
	}
}

// TestServesWhoTakesMost has nobody give anything, as it is when we have all.
func TestServesWhoTakesMost(t *testing.T) {
	l, guests := ballroom(t, 20)
	for i, m := range guests {
		m.unchoked = i < firstSlots
	}
	takes := func(best func(i int) bool) {
		l.choker.slots = firstSlots
		for i, m := range guests {
			if best(i) {
				m.trade.taken -= mebibyte // as if it had taken more since the last round
			}
		}
		l.rounds(1, guests, func(int) int64 { return 0 })
	}
	// Of those whose turn it was, some take more than those that were there before.
	for range 4 {
		takes(func(i int) bool { return i >= 12 })
	}
	l.choker.slots = firstSlots
	takes(func(i int) bool { return i >= 12 })
	served := unchoked(guests)
	if best := slices.DeleteFunc(served, func(i int) bool { return i < 12 }); len(best) < min(firstSlots, l.choker.slots)-1 {
		t.Errorf("of those that take most only %v are served", best)
	}
	// Who gives comes before all of them.
	guests[3].trade.given += picker.BlockSize
	takes(func(i int) bool { return i >= 12 })
	if !guests[3].unchoked {
		t.Errorf("the only peer that gives anything is not served: %v are", unchoked(guests))
	}
}

func TestSnubbersAreNotServed(t *testing.T) {
	l, guests := ballroom(t, 12)
	for i, m := range guests {
		m.trade.given = int64(100-i) * mebibyte
		m.unchoked = i < firstSlots
	}
	l.rounds(1, guests, func(int) int64 { return 0 })
	if !guests[0].unchoked {
		t.Fatalf("the best is not served: %v are", unchoked(guests))
	}
	for i := range 90 {
		guests[0].service.ask(l.now + time.Duration(i)*time.Second)
	}
	l.now += 90 * time.Second
	l.choker.turned = l.now
	l.choker.optimistic = guests[11]
	l.rounds(1, guests, func(i int) int64 { return mebibyte })
	if guests[0].unchoked {
		t.Errorf("a peer that owes us blocks for a minute is served: %v are", unchoked(guests))
	}
}

func TestSlotsFollowTheUploadRate(t *testing.T) {
	same := func(n int, rate float64) []float64 { return slices.Repeat([]float64{rate}, n) }
	for _, c := range []struct {
		now   int
		rates []float64
		want  int
	}{
		{8, nil, 8},
		{8, same(5, mebibyte), 8},                               // three are free
		{8, same(8, mebibyte), 12},                              // more could be served
		{12, same(12, mebibyte), 18},                            //
		{60, same(60, mebibyte), mostSlots},                     //
		{8, same(8, 10<<10), 4},                                 // 80 KiB a second make few good places
		{8, same(8, 0), fewestSlots},                            //
		{8, append(same(5, mebibyte), 0, 0, 0), 6},              // one more than take something
		{8, append(same(6, mebibyte), 0, 0), 8},                 // not worth a choke
		{8, []float64{0, 0, mebibyte, 0, mebibyte, 0, 0, 0}, 4}, // in whatever order they come
		{64, append(same(20, mebibyte), same(44, 1)...), 21},    //
		{4, same(4, 16<<10), 5},                                 // just enough
	} {
		t.Run(fmt.Sprint(c.now, len(c.rates), c.want), func(t *testing.T) {
			if got := slotsFor(c.now, c.rates); got != c.want {
				t.Errorf("%d slots, want %d", got, c.want)
			}
		})
	}
}

func TestFreedPlaceGoesToWhoWaitedLongest(t *testing.T) {
	l, guests := ballroom(t, firstSlots+2)
	for _, m := range guests[:firstSlots] {
		l.admit(m)
	}
	guests[firstSlots].trade.served = time.Second // was served once
	guests[0].theyWant = false
	l.unchoke(guests[0], false)
	l.fillSlots()
	if !guests[firstSlots+1].unchoked || guests[firstSlots].unchoked {
		t.Errorf("%v are served", unchoked(guests))
	}
}

// Who gave something once does not for ever go before those that take.
func TestOldGiversMakeWay(t *testing.T) {
	l, guests := ballroom(t, 20)
	nothing := func(int) int64 { return 0 }
	l.rounds(1, guests, func(i int) int64 {
		if i < firstSlots {
			return mebibyte
		}
		return 0
	})
	for range 30 {
		for i, m := range guests {
			if m.unchoked && i >= firstSlots {
				m.trade.taken -= 5 * mebibyte // as if it had taken more since the last round
			} else if m.unchoked {
				m.trade.taken -= 10 << 10
			}
		}
		l.rounds(1, guests, nothing)
	}
	served := unchoked(guests)
	slow := slices.DeleteFunc(slices.Clone(served), func(i int) bool { return i >= firstSlots })
	if len(served) <= firstSlots || len(slow) > 1 { // one whose turn it is
		t.Errorf("%v are served", served)
	}
}

// Where the line is the limit, the slots come to rest, and about as many peers are served as get enough.
func TestSlotsSettle(t *testing.T) {
	for _, sum := range []float64{20e3, 100e3, 300e3, 1e6, 3e6, 10e6, 100e6} {
		n := firstSlots
		for range 30 {
			n = slotsFor(n, slices.Repeat([]float64{sum / float64(n)}, n))
		}
		if got := slotsFor(n, slices.Repeat([]float64{sum / float64(n)}, n)); got != n {
			t.Errorf("%.0f bytes a second: %d slots, then %d", sum, n, got)
		}
		if each := sum / float64(n); n < mostSlots && n > fewestSlots && (each < float64(n-2)*slotStep || each > float64(n+1)*slotStep) {
			t.Errorf("%.0f bytes a second: %d slots", sum, n)
		}
	}
}

// says has a guest say that it is interested, or no more.
func (l *loop) says(m *member, interested bool) {
	id := wire.NotInterested
	if interested {
		id = wire.Interested
	}
	l.item(m, &peer.Item{ID: id}, l.now)
}

// A peer that has all that we have, until we have another piece, is not choked in between.
func TestInterestComesAndGoes(t *testing.T) {
	l, guests := ballroom(t, 2*fewestSlots)
	for _, m := range guests {
		l.admit(m)
	}
	gives := func(i int) int64 { return int64(len(guests)-i) * mebibyte }
	l.rounds(3, guests, gives)
	if got := len(unchoked(guests)); got != fewestSlots {
		t.Fatalf("%d are served", got)
	}
	l.says(guests[0], false)
	if !guests[0].unchoked {
		t.Error("choked at once")
	}
	if got := len(unchoked(guests)); got != fewestSlots+1 {
		t.Errorf("%d are unchoked: its place was not given to somebody else", got)
	}
	l.rounds(1, guests, gives)
	if !guests[0].unchoked {
		t.Error("choked in the next round, though it gives more than any other")
	}
	l.says(guests[0], true)
	l.rounds(1, guests, gives)
	if got := unchoked(guests); !guests[0].unchoked || len(got) != fewestSlots {
		t.Errorf("%v are served", got)
	}
	// One that would not have a place is choked.
	l.says(guests[0], false)
	l.rounds(8, guests, func(i int) int64 { return int64(i) * mebibyte })
	if guests[0].unchoked {
		t.Error("the worst of all stays unchoked")
	}
	// And no more than there are places wait so.
	for _, m := range guests {
		m.theyWant = false
		l.unchoke(m, true)
	}
	if l.rounds(1, guests, gives); len(unchoked(guests)) > fewestSlots {
		t.Errorf("%v stay unchoked and want nothing", unchoked(guests))
	}
}

// A peer that was let in between two rounds is not judged by what it took until the first of them.
func TestNewcomersHaveARound(t *testing.T) {
	l, guests := ballroom(t, firstSlots+4)
	for _, m := range guests {
		l.admit(m)
	}
	takes := func() {
		for i, m := range guests {
			if m.unchoked {
				m.trade.taken -= int64(100+i) << 10
			}
		}
	}
	takes()
	l.rounds(1, guests, func(int) int64 { return 0 })
	l.choker.slots = firstSlots
	l.now += rechokeEvery / 2
	l.says(guests[0], false)
	let := slices.IndexFunc(guests, func(m *member) bool { return m.unchoked && m.trade.served == l.now })
	if let < 0 {
		t.Fatal("nobody was let in")
	}
	l.says(guests[0], true)
	l.now -= rechokeEvery / 2
	takes()
	guests[let].trade.taken = 0
	l.rounds(1, guests, func(int) int64 { return 0 })
	if !guests[let].unchoked {
		t.Errorf("guest %d has lost its place after half a round; %v are served", let, unchoked(guests))
	}
}

// What nobody asked for is no merit.
func TestUnaskedBlocksEarnNothing(t *testing.T) {
	l, guests := ballroom(t, 2)
	for i, asked := range []bool{false, true} {
		l.item(guests[i], &peer.Item{ID: wire.Piece, Length: wire.BlockSize, Asked: asked}, l.now)
	}
	l.now += rechokeEvery
	l.rechoke()
	if a, b := guests[0].trade.gave, guests[1].trade.gave; a != 0 || b != wire.BlockSize {
		t.Errorf("%v and %v bytes count as given", a, b)
	}
}

// A seed whose connections are all taken by peers that say they want something and take nothing lets others in.
func TestSeedIsNotHeldShut(t *testing.T) {
	l, guests := ballroom(t, 20)
	l.cfg.Seed, l.cfg.MaxPeers = true, len(guests)
	honest := guests[7]
	for range 600 / 10 {
		if honest.unchoked {
			honest.trade.taken -= 1 << 10
		}
		l.rounds(1, guests, func(int) int64 { return 0 })
	}
	for range len(guests) - 1 {
		if !l.evict() {
			t.Fatal("nobody makes room")
		}
	}
	if honest.service.dropped || l.evict() {
		t.Error("the one that takes something has to go")
	}
}

// Somebody with an IPv6 network of his own is one host.
func TestManyConnectionsFromOneNetwork(t *testing.T) {
	for addr, want := range map[string]int{
		"2001:db8:0:1::": maxAtHome,
		"2001:db8:0:2::": 2 * maxAtHome, // ours
		"fd00::":         2 * maxAtHome,
	} {
		bubble(t, func(t *testing.T) {
			content := fetchtest.NewContent(mebibyte, 64<<10)
			r := newRig(t, content, setup{})
			r.on(func(l *loop) {
				l.pool.locate([2]netip.Addr{{}, netip.MustParseAddr("2001:db8:0:2::1")}, 6881)
			})
			ip := netip.MustParseAddr(addr)
			for range 2 * maxAtHome {
				ip = ip.Next()
				p := fetchtest.NewPeer(content, nil, fetchtest.Conduct{})
				r.peers = append(r.peers, p)
				r.dialIn(p, netip.AddrPortFrom(ip, 6881))
			}
			if n := r.Stats().Connected; n != want {
				t.Errorf("%d connections from %v, want %d", n, addr, want)
			}
		})
	}
}

// Of those who are served some want nothing for a moment again and again, and others get their places. There come to be as many
// as the line carries all the same.
func TestSlotsGrowWhilePeersComeAndGo(t *testing.T) {
	l, guests := ballroom(t, 60)
	for _, m := range guests {
		l.admit(m)
	}
	for range 30 {
		l.now += rechokeEvery / 2
		if i := slices.IndexFunc(guests, func(m *member) bool { return m.unchoked && m.theyWant }); i >= 0 {
			m := guests[i]
			m.theyWant = false
			l.fillSlots()
			m.theyWant = true
			l.admit(m)
		}
		l.now -= rechokeEvery / 2
		for _, m := range guests {
			if m.unchoked {
				m.trade.taken -= 10 * mebibyte // as if it had taken a mebibyte a second
			}
		}
		l.rounds(1, guests, func(int) int64 { return 0 })
	}
	if n := len(unchoked(guests)); n != len(guests) {
		t.Errorf("%d of %d peers are served, and the line carries all", n, len(guests))
	}
}

package swarm

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
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
			m.downloaded += gives(i)
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
	guests[3].downloaded += 1 << 10
	takes(func(i int) bool { return i >= 12 })
	if !guests[3].unchoked {
		t.Errorf("the only peer that gives anything is not served: %v are", unchoked(guests))
	}
}

func TestSnubbersAreNotServed(t *testing.T) {
	l, guests := ballroom(t, 12)
	for i, m := range guests {
		m.downloaded = int64(100-i) * mebibyte
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
		{8, append(same(6, mebibyte), 0, 0), 7},                 // one more than take something
		{8, []float64{0, 0, mebibyte, 0, mebibyte, 0, 0, 0}, 4}, // in whatever order they come
		{64, append(same(20, mebibyte), same(44, 1)...), 21},    //
		{4, same(4, 16<<10), 6},                                 // just enough
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

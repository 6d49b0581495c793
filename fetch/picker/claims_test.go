package picker

import (
	"testing"
	"time"
)

const claimPiece = 4 * BlockSize

// pair is a picker with a seed and a neighbour, who serves us and has nothing yet; piece 0 to 7 are wanted.
func pair(class Class) *Picker {
	p := New(16*claimPiece, claimPiece)
	p.Salt(1)
	p.AddPeer(1, time.Millisecond)
	p.SetBits(1, nil, true)
	p.SetChoked(1, false)
	p.AddPeer(2, time.Millisecond)
	p.SetChoked(2, false)
	p.Neighbour(2, 2, 0)
	for i := range 8 {
		p.Want(i, class, time.Duration(i))
	}
	return p
}

// asked are the pieces that a step asks of a peer.
func asked(p *Picker, id int, now time.Duration) map[int]bool {
	pieces := make(map[int]bool)
	requests, _, _ := p.Step(now)
	for _, r := range requests {
		if r.Peer == id {
			pieces[r.Piece] = true
		}
	}
	return pieces
}

func TestClaimedPiecesAreLeftToTheClaimant(t *testing.T) {
	const now = time.Second
	p := pair(Ahead)
	p.Claim(2, []int{0, 1}, false, now)
	got := asked(p, 1, now)
	if got[0] || got[1] || len(got) == 0 {
		t.Fatalf("asked the seed for %v", got)
	}
	// When the neighbour has one, it is asked, not the seed; what it claims no more is the seed's.
	p.AddHave(2, 0, 16)
	p.Claim(2, nil, true, now)
	requests, _, _ := p.Step(now + time.Millisecond)
	for _, r := range requests {
		if r.Piece == 0 && r.Peer != 2 {
			t.Errorf("piece 0 asked of %d", r.Peer)
		}
	}
	if p.deferred(p.pieces[1], now) {
		t.Error("piece 1 is left to a peer that does not claim it any more")
	}
}

func TestClaimsBindForATime(t *testing.T) {
	const now = time.Second
	for _, c := range []struct {
		name   string
		change func(p *Picker)
		at     time.Duration // after now
		binds  bool
	}{
		{"at once", func(*Picker) {}, 0, true},
		{"not said again", func(*Picker) {}, claimTerm, false},
		{"said again", func(p *Picker) { p.Claim(2, []int{0}, true, now+claimTerm-1) }, claimTerm, true},
		{"by a peer that chokes us", func(p *Picker) { p.SetChoked(2, true) }, 0, false},
		{"by a peer that left", func(p *Picker) { p.RemovePeer(2) }, 0, false},
		{"by a peer that has it", func(p *Picker) { p.AddHave(2, 0, 16); p.DropHave(2, 0, 16) }, 0, false},
		{"withdrawn", func(p *Picker) { p.Claim(2, []int{1}, true, now) }, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pair(Ahead)
			p.Claim(2, []int{0}, false, now)
			c.change(p)
			if got := p.deferred(p.pieces[0], now+c.at); got != c.binds {
				t.Errorf("deferred: %v", got)
			}
		})
	}
}

// A reader waits for a claimed piece only so long, and soon no more at all for a peer whose claims come to nothing.
func TestReadersDoNotWaitForEmptyClaims(t *testing.T) {
	p := pair(Blocked)
	now := time.Second
	waits := 0
	for i := range 8 {
		p.pieces[i].blockedAt = now
		p.Claim(2, []int{i}, true, now)
		if !p.deferred(p.pieces[i], now) {
			continue
		}
		waits++
		now += p.patience(p.pieces[i])
		p.Claim(2, []int{i}, true, now)
		if !p.deferred(p.pieces[i], now) {
			t.Fatalf("not waited for as long as it is worth: %d", i)
		}
		now += time.Millisecond
		if p.deferred(p.pieces[i], now) {
			t.Fatalf("waited on for piece %d", i)
		}
		if now > time.Duration(i+1)*(claimPatience+2*time.Second) {
			t.Fatalf("waited %v for %d pieces", now, i+1)
		}
	}
	if waits != -leastCredit {
		t.Errorf("waited for %d empty claims", waits)
	}
	p.fulfilled(p.byID[2], 0) // nothing of its is claimed: that earns nothing
	if p.byID[2].credit > leastCredit {
		t.Error("credit for nothing")
	}
}

// Two that want the same pieces at the same time begin with different ones, and of two claims both sides find the same one
// to count.
func TestClaimantsSpread(t *testing.T) {
	const now = time.Second
	a, b := pair(Ahead), pair(Ahead)
	b.Salt(2)
	b.byID[2].salt = 1
	for _, p := range []*Picker{a, b} {
		p.Claim(2, []int{15}, true, now) // it is at work
	}
	first := func(p *Picker) int {
		requests, _, _ := p.Step(now)
		return requests[0].Piece
	}
	if atA, atB := first(a), first(b); atA == atB {
		t.Errorf("both begin with piece %d", atA)
	}
	for piece := range 100 {
		if a.Precedes(2, piece) == b.Precedes(2, piece) {
			t.Fatalf("piece %d is both's or nobody's", piece)
		}
	}
}

func TestYield(t *testing.T) {
	const now = time.Second
	p := pair(Blocked)
	if got := asked(p, 1, now); !got[0] || !p.Pursued(0) || !p.Unshared(0) {
		t.Fatalf("asked for %v", got)
	}
	p.Yield(0)
	p.Claim(2, []int{0}, false, now)
	requests, cancels, _ := p.Step(now)
	if len(cancels) == 0 || p.Pursued(0) {
		t.Errorf("%d cancels", len(cancels))
	}
	for _, r := range requests {
		if r.Piece == 0 {
			t.Error("asked for again")
		}
	}
	p.Yield(99)
}

// Any number of strangers that claim what they don't fetch make a reader wait a few times in all.
func TestStrangersClaimInVain(t *testing.T) {
	const pieces, strangers = 64, 20
	p := New(pieces*claimPiece, claimPiece)
	p.Salt(1)
	p.AddPeer(1, time.Millisecond)
	p.SetBits(1, nil, true)
	p.SetChoked(1, false)
	waits, now := 0, time.Second
	for i := range strangers {
		id := 2 + i
		p.AddPeer(id, time.Millisecond)
		p.SetChoked(id, false)
		p.Neighbour(id, uint64(id), now)
		p.Claim(id, []int{i}, true, now)
		p.Want(i, Blocked, now)
		now += claimLead
		if p.deferred(p.pieces[i], now) {
			waits++
		}
		for p.deferred(p.pieces[i], now) {
			if now += time.Second; i%2 == 0 { // the others don't even say it again
				p.Claim(id, []int{i}, true, now)
			}
		}
	}
	if waits == 0 || waits > mostVain {
		t.Errorf("a reader waited for %d of %d strangers", waits, strangers)
	}
}

// Of pieces that nobody claims, one that was begun is gone on with before another is begun, and none is while the seed has
// enough to do.
func TestBegunPiecesComeFirst(t *testing.T) {
	const now = time.Second
	p := pair(Ahead)
	p.Claim(2, nil, true, now) // it is at work
	x := p.byID[1]
	turn := func(now time.Duration) int {
		if pc := p.turn(x, 0, now); pc != nil {
			return pc.index
		}
		return -1
	}
	first := turn(now)
	if first < 0 || p.place(first, now) > 0 {
		t.Fatalf("begins with piece %d", first)
	}
	p.pieces[7].begun = true
	if got := turn(now); got != 7 {
		t.Errorf("piece %d comes before the one that was begun", got)
	}
	p.pieces[7].begun = false
	x.steady.add(BlockSize, time.Second) // 16 KiB a second
	x.outstanding = 3 * BlockSize
	if got := turn(now); got >= 0 {
		t.Errorf("piece %d was begun at a seed that has work for three seconds", got)
	}
}

// A piece that falls to a neighbour is left to it for a moment, not for ever.
func TestTurnsPass(t *testing.T) {
	const now = time.Second
	p := pair(Ahead)
	for i := range 8 {
		if !p.precedes(p.byID[2], i) {
			p.Drop(i)
		}
	}
	p.Claim(2, nil, true, now)
	at, index := now, p.open[0].index
	if pc := p.turn(p.byID[1], 0, at); pc != nil {
		t.Fatalf("piece %d is the neighbour's to begin", pc.index)
	}
	at += turnLead
	if pc := p.turn(p.byID[1], 0, at); pc == nil || pc.index != index {
		t.Errorf("nobody begins piece %d", index)
	}
	p.Claim(2, []int{index}, true, at)
	p.Claim(2, nil, true, at) // and gives it up again
	if pc := p.turn(p.byID[1], 0, at); pc != nil && pc.index == index {
		t.Errorf("no turns at piece %d any more", index)
	}
}

// A seed that sends in bursts is not taken for as fast as they are: what neighbours have is had from them, and what was asked
// of the seed is taken back.
func TestNeighboursBeforeSeeds(t *testing.T) {
	now := time.Second
	p := pair(Ahead)
	asked(p, 1, now)
	seed, neighbour := p.byID[1], p.byID[2]
	for range 10 {
		for range 10 {
			seed.steady.add(BlockSize, 0)
			neighbour.steady.add(BlockSize, 20*time.Millisecond)
		}
		seed.steady.add(BlockSize, 500*time.Millisecond)
	}
	seed.lately, neighbour.lately = 100*mib, mib
	var held int
	for _, pc := range p.order {
		if pc.begun {
			held = pc.index
		}
	}
	p.AddHave(2, held, 16)
	_, cancels, _ := p.Step(now)
	if len(cancels) == 0 {
		t.Error("nothing was taken back from the seed")
	}
	for _, c := range cancels {
		if c.Peer != 1 || c.Piece != held {
			t.Errorf("%+v was taken back", c)
		}
	}
	for i := range p.pieces[held].blocks {
		if p.pieces[held].blocks[i].flightOf(seed) != nil {
			t.Errorf("block %d is still asked of the seed", i)
		}
	}
	// But no reader waits for ever for what a neighbour says it has.
	p.Want(held, Blocked, now)
	if !p.deferred(p.pieces[held], now) {
		t.Error("not left to the neighbour that has it")
	}
	if p.deferred(p.pieces[held], now+claimPatience+1) {
		t.Error("left to the neighbour for longer than a reader's patience")
	}
}

// A peer that was away for long is soon as fast again as it is.
func TestSteadyRate(t *testing.T) {
	var s steady
	for range 100 {
		s.add(BlockSize, 10*time.Millisecond)
	}
	if r := s.rate(); !s.known() || r < 99*BlockSize || r > 101*BlockSize {
		t.Fatalf("%.0f bytes a second", r)
	}
	s.add(BlockSize, time.Hour)
	for range 200 {
		s.add(BlockSize, 10*time.Millisecond)
	}
	if r := s.rate(); r < 60*BlockSize {
		t.Errorf("%.0f bytes a second", r)
	}
}

// Neighbours that are new, however many, hold a reader up for a moment at most.
func TestNewcomersDoNotDelay(t *testing.T) {
	now := time.Second
	p := pair(Blocked)
	for id := 3; id < 30; id++ {
		p.AddPeer(id, time.Millisecond)
		p.SetChoked(id, false)
		p.Neighbour(id, uint64(id), now)
	}
	p.pieces[0].blockedAt = now
	if got := asked(p, 1, now+claimLead); !got[0] {
		t.Errorf("the seed was asked for %v, not for what a reader waits for", got)
	}
}

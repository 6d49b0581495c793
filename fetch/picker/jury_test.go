package picker

import (
	"testing"
	"time"
)

// seeds is a picker with n seeds that serve us, numbered from 0, and one piece of blocks that a reader waits for.
func seeds(n, blocks int) *Picker {
	length := int64(blocks) * BlockSize
	p := New(length, length)
	for id := range n {
		p.AddPeer(id, time.Millisecond)
		p.SetBits(id, nil, true)
		p.SetChoked(id, false)
	}
	p.Want(0, Blocked, 0)
	return p
}

// askedOf are the peers that a step asks, and how many blocks of each.
func askedOf(p *Picker, now time.Duration) map[int]int {
	of := make(map[int]int)
	requests, _, _ := p.Step(now)
	for _, r := range requests {
		of[r.Peer]++
	}
	return of
}

func TestOnlyJurorsDeliver(t *testing.T) {
	p := seeds(10, 32)
	takes, all := p.Jury(0, func(id int) bool { return id == 3 || id == 4 })
	if takes != 5*all || all == 0 {
		t.Errorf("two of ten alike take %v, all take %v", takes, all)
	}
	now := time.Second
	for len(p.pieces) > 0 && now < time.Minute {
		for id := range askedOf(p, now) {
			if id != 3 && id != 4 {
				t.Fatalf("%d is asked, jurors are 3 and 4", id)
			}
		}
		p.verify(t)
		now += 10 * time.Millisecond
		for i := range 32 {
			if pc := p.pieces[0]; pc != nil && pc.blocks[i].flights[0] != nil {
				p.Received(pc.blocks[i].flights[0].peer.id, 0, int64(i)*BlockSize, BlockSize, true, now)
			}
		}
	}
	if len(p.pieces) > 0 {
		t.Error("the jurors did not deliver")
	}
}

func TestJuryOfNone(t *testing.T) {
	p := seeds(4, 16)
	if takes, all := p.Jury(0, func(int) bool { return false }); takes != 0 || all != 0 {
		t.Errorf("takes %v and %v", takes, all)
	}
	if of := askedOf(p, time.Second); len(of) != 4 {
		t.Errorf("asked %v, and all four may deliver", of)
	}
}

// Jurors that don't serve us any more are none, and after the last of them the piece is anybody's; so it is when it is
// opened.
func TestJuriesDissolve(t *testing.T) {
	for name, leave := range map[string]func(p *Picker, id int){
		"choke":     func(p *Picker, id int) { p.SetChoked(id, true) },
		"leave":     func(p *Picker, id int) { p.RemovePeer(id) },
		"lose it":   func(p *Picker, id int) { p.DropHave(id, 0, 1) },
		"no matter": func(p *Picker, _ int) { p.Open(0) },
	} {
		p := seeds(4, 16)
		p.Jury(0, func(id int) bool { return id < 2 })
		leave(p, 0)
		if of := askedOf(p, time.Second); name != "no matter" && (len(of) != 1 || of[1] == 0) {
			t.Errorf("%s: asked %v, and 1 is the last juror", name, of)
		}
		leave(p, 1)
		if of := askedOf(p, 2*time.Second); of[2] == 0 || of[3] == 0 {
			t.Errorf("%s: asked %v, and 2 and 3 are left", name, of)
		}
		p.verify(t)
	}
}

// A second copy of what jurors are late with is asked of another of them, and of nobody if there is one alone.
func TestHedgesWithinAJury(t *testing.T) {
	for _, jurors := range []int{1, 2} {
		p := seeds(4, 2)
		p.Jury(0, func(id int) bool { return id < jurors })
		askedOf(p, time.Second)
		for i, b := range p.pieces[0].blocks {
			if b.flights[0].peer.id == 1 {
				p.Received(1, 0, int64(i)*BlockSize, BlockSize, true, time.Second+5*time.Millisecond)
			}
		}
		hedges := 0
		for now := time.Second + 10*time.Millisecond; now < 1400*time.Millisecond; now += 10 * time.Millisecond { // then they are held for silent
			for id, n := range askedOf(p, now) {
				if id >= jurors {
					t.Fatalf("%d jurors, and %d is asked", jurors, id)
				}
				hedges += n
			}
			p.verify(t)
		}
		if hedges > 0 != (jurors > 1) {
			t.Errorf("%d jurors, %d second copies", jurors, hedges)
		}
	}
}

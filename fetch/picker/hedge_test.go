package picker

import (
	"testing"
	"time"
)

// Peers that never answer must not take a block that a reader waits for from each other for ever, each of them anew as good
// as the one that does answer, only not as fast.
func TestMutePeersDoNotPassABlockAround(t *testing.T) {
	p := New(2*BlockSize, BlockSize)
	now := time.Second
	add := func(id int) {
		p.AddPeer(id, time.Millisecond)
		p.SetBits(id, nil, true)
		p.SetChoked(id, false)
	}
	add(0)
	p.Want(0, Blocked, now)
	p.Step(now)
	now += 100 * time.Millisecond
	if !p.Received(0, 0, 0, BlockSize, true, now) {
		t.Fatal("peer 0 was not asked")
	}
	for id := range 4 {
		add(1 + id)
	}
	p.Want(1, Blocked, now)
	asked := make(map[int]int)
	for end := now + 2*time.Second; now < end && asked[0] == 0; now += time.Millisecond {
		requests, _, _ := p.Step(now)
		for _, r := range requests {
			asked[r.Peer]++
		}
		p.verify(t)
	}
	if asked[0] == 0 || len(asked) == 1 {
		t.Errorf("asked %v, and only peer 0 answers, who is not known to be the best", asked)
	}
}

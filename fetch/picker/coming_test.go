package picker

import (
	"testing"
	"time"
)

// TestExpectedPeersFindTheirShare has one peer come before three others that are expected, and that come or don't.
func TestExpectedPeersFindTheirShare(t *testing.T) {
	const blocks, soon = 64, 80 * time.Millisecond
	for _, c := range []struct {
		name     string
		expected int
		others   int // that come
		want     int // blocks asked of the first at once
		late     int // and when the time is over
	}{
		{"nobody else", 0, 0, blocks, 0},
		{"three that come", 3, 3, blocks / 4, 0},
		{"three that don't", 3, 0, blocks / 4, blocks - blocks/4},
		{"more than there are blocks for", 1000, 0, 2 * firstBlocks, blocks - 2*firstBlocks},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(blocks*BlockSize, blocks*BlockSize)
			asked := make(map[int]int)
			step := func(now time.Duration) (wake time.Duration) {
				requests, _, wake := p.Step(now)
				for _, r := range requests {
					asked[r.Peer]++
				}
				return wake
			}
			join := func(id int) {
				p.AddPeer(id, 50*time.Millisecond)
				p.SetBits(id, nil, true)
				p.SetChoked(id, false)
			}
			p.Want(0, Blocked, 0)
			join(0)
			p.Expect(c.expected, soon)
			wake := step(0)
			if asked[0] != c.want {
				t.Errorf("%d blocks were asked of the first, want %d", asked[0], c.want)
			}
			if c.expected > 0 && (wake == 0 || wake > soon) {
				t.Errorf("it looks again at %v, want %v at the latest", wake, soon)
			}
			for id := range c.others {
				join(1 + id)
				p.Expect(c.others-1-id, soon)
			}
			step(soon - 1)
			for id := range c.others {
				if asked[1+id] < c.want-1 { // the last of all may be left to whoever is first through
					t.Errorf("%d blocks were asked of another, want %d", asked[1+id], c.want)
				}
			}
			before := asked[0]
			step(soon)
			if got := asked[0] - before; got != c.late {
				t.Errorf("%d more blocks were asked of the first, want %d", got, c.late)
			}
		})
	}
}

package picker

import "time"

const (
	pulseSpan  = 1200 * time.Millisecond // of data is enough for any client's pulse, as far as is known
	mostPulse  = 4 << 20                 // bytes
	pulseFades = 3 * time.Second         // without need for it
)

// pulse is for clients that look at their requests now and then (transmission: every half second) and answer all of them
// at once. What such a peer holds is gone at every look, however short its round trip, and its rate is what it was
// asked for, so that rate and round trip say nothing of how much to ask. So when a peer has answered everything while there was
// more to ask, it is asked for twice as much; for a while, and never for more than it delivers in two pulses.
type pulse struct {
	depth int64 // bytes
	at    time.Duration
}

// drained notes that nothing is in flight at a peer any more, although there is more to ask.
func (x *peer) drained(now time.Duration) {
	most := min(int64(x.rate.value()*pulseSpan.Seconds()), mostPulse)
	x.pulse = pulse{depth: min(2*max(x.pulse.depth, firstBlocks*BlockSize), most), at: now}
	x.resize(now)
}

// fade lets a pulse go that was not needed for a while.
func (s *pulse) fade(now time.Duration) {
	if s.depth > 0 && now-s.at > pulseFades {
		s.depth, s.at = s.depth/2, now
	}
}

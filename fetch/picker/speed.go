package picker

import (
	"slices"
	"time"
)

const (
	slack       = 50 * time.Millisecond // of data kept queued at a peer beyond what its round trip holds
	steadyGain  = 1.25                  // round trips' worth of data kept in flight
	growingGain = 2.5                   // the same in slow start
	growing     = 3                     // rounds without growth that end slow start
	growth      = 1.25                  // what counts as growth
	guessedRate = 1 << 20               // bytes a second of a peer, when nothing is known of any
	guessedRTT  = 100 * time.Millisecond
	typicalFor  = 100 * time.Millisecond // for which a typical rate is good
	rateWindow  = 2 * time.Second        // the age at which a measured rate is forgotten, at least
	leastBlocks = 2                      // in flight at a peer that delivers
)

// speed is what is believed of a peer's speed. Its rate is the highest delivery rate seen lately (a windowed maximum, as in
// BBR), so that an idle or waiting peer is not taken for a slow one.
type speed struct {
	rtt time.Duration // the smallest seen

	delivered   int64         // bytes that came, ever
	deliveredAt time.Duration // when the last of them did
	limitedTo   int64         // until so many were delivered, the peer's pipe was not full
	rates       [2]float64    // bytes a second: the highest of this window and of the one before; 0 unknown
	window      time.Duration // when the current one began
	full        int           // rounds in which the rate has not grown
	roundRate   float64
	roundEnds   int64 // of bytes delivered
}

func newSpeed(rtt time.Duration) speed {
	if rtt <= 0 {
		rtt = guessedRTT
	}
	return speed{rtt: rtt}
}

// measured is the peer's rate in bytes a second; 0 unknown.
func (s *speed) measured() float64 { return max(s.rates[0], s.rates[1]) }

// pace is the rate, in bytes a second, at which the peer is expected to deliver: what was measured, twice that while it
// grows, or what is typical.
func (p *Picker) pace(x *peer) float64 {
	r := x.measured()
	switch {
	case r == 0:
		return p.typical.rate
	case x.full < growing:
		return 2 * r
	}
	return r
}

// typical is the rate of a peer of which nothing is known: the median of those measured.
type typical struct {
	rate  float64 // bytes a second
	known []float64
	until time.Duration // good until then
}

func (t *typical) update(peers []*peer, now time.Duration) {
	if now < t.until {
		return
	}
	t.known = t.known[:0]
	for _, x := range peers {
		if r := x.measured(); r > 0 {
			t.known = append(t.known, r)
		}
	}
	if len(t.known) == 0 {
		t.rate = guessedRate
		return
	}
	slices.Sort(t.known)
	t.rate = t.known[len(t.known)/2]
	t.until = now + typicalFor
}

// depth is how many bytes the peer may have in flight: what its round trip holds and some milliseconds more, so that it is
// never idle; twice the round trip's worth while its rate still grows (slow start). first is for one that has not
// delivered yet, in blocks.
func (x *peer) depth(first int) int64 {
	if x.stalled {
		return BlockSize
	}
	r := x.measured()
	if r == 0 {
		return int64(first) * BlockSize
	}
	gain := steadyGain
	if x.full < growing {
		gain = growingGain
	}
	return max(int64(r*(gain*x.rtt.Seconds()+slack.Seconds())), leastBlocks*BlockSize)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// received learns from a block that came; f is its flight, nil when it was given up before.
func (x *peer) received(f *flight, length int64, now time.Duration) {
	x.delivered += length
	x.stalled, x.penalty, x.rejects = false, 0, 0
	if f != nil && !f.doubtful {
		if d := now - f.sentAt; d < x.rtt && d > 0 {
			x.rtt = d
		}
		x.arrived(f, now)
		x.sample(f, now)
	}
	x.deliveredAt = now
}

// sample measures the rate between the sending of a request and its answer, and whether slow start is over.
func (x *peer) sample(f *flight, now time.Duration) {
	took := now - f.since
	if took <= 0 {
		return
	}
	r := float64(x.delivered-f.delivered) / took.Seconds()
	if now-x.window > max(rateWindow, 8*x.rtt) && !f.limited {
		x.rates = [2]float64{0, x.rates[0]}
		x.window = now
	}
	x.rates[0] = max(x.rates[0], r)
	if f.delivered < x.roundEnds || f.limited {
		return
	}
	x.roundEnds = x.delivered
	if best := x.measured(); best > growth*x.roundRate {
		x.roundRate, x.full = best, 0
	} else {
		x.full++
	}
}

package picker

import (
	"math"
	"slices"
	"time"
)

const (
	guessedRate = 1 << 20 // bytes a second of a peer, when nothing is known of any
	guessedRTT  = 100 * time.Millisecond
	typicalFor  = 100 * time.Millisecond // for which a typical rate is good
	rateWindow  = 2 * time.Second        // the age at which a measured rate is forgotten, at least
	peakWindow  = 15 * time.Second       // the same for a peak
)

// flow is what is known of a stream of blocks. Its rate is the highest of a round seen lately (a windowed maximum, as in
// BBR), so that what idles or waits is not taken for slow.
type flow struct {
	rate   highest // bytes a second
	lately float64 // the same of the last rounds, smoothed
	peak   highest // the same, remembered for longer
	round  round
	pipe
}

// round is a measurement over about a round trip.
type round struct {
	began time.Duration
	bytes int64         // that came since
	waits time.Duration // of blocks, from request to arrival, summed
	count int           // of these
}

// end ends a round. low says that there was not enough to do for its rate to mean anything.
func (f *flow) end(low bool, now time.Duration) {
	rate := float64(f.round.bytes) / (now - f.round.began).Seconds()
	highest := f.rate.value()
	f.rate.add(rate, low, now, max(rateWindow, 8*f.lag))
	if f.lately == 0 || low {
		f.lately = max(f.lately, rate)
	} else {
		f.lately += (rate - f.lately) / 2
	}
	f.peak.add(rate, low, now, peakWindow)
	f.measure(rate, highest, f.peak.value(), f.round.waits, f.round.count, low, now)
	f.round = round{began: now}
}

// highest is a windowed maximum.
type highest struct {
	values [2]float64 // of this window and of the one before
	since  time.Duration
}

func (h *highest) value() float64 { return max(h.values[0], h.values[1]) }

// add takes a value in. One that may be too low can't take the place of older ones.
func (h *highest) add(v float64, low bool, now, window time.Duration) {
	if now-h.since > window && !low {
		h.values = [2]float64{0, h.values[0]}
		h.since = now
	}
	h.values[0] = max(h.values[0], v)
}

var peerTuning = tuning{start: 2.5, gain: 1, slack: 30 * time.Millisecond, most: time.Minute}

// speed is what is believed of a peer's speed.
type speed struct {
	rtt         time.Duration // the smallest seen
	delivered   int64         // bytes that came, ever
	deliveredAt time.Duration // when a block came last, or the first was asked for after a pause
	cleanAt     time.Duration // what came later was asked for later
	idleAt      time.Duration // when it last could have taken more than there was
	steady      steady
	flow
}

// steadySpan is about how long a steady rate looks back.
const steadySpan = 5 * time.Second

// mostLively is how many times its steady rate a peer is taken to deliver at.
const mostLively = 2

// steady is the mean rate while there was something to deliver. A peer that sends a burst now and then, as one does that
// limits its own rate, looks many times as fast as it is by the highest rate of a round.
type steady struct{ bytes, seconds float64 }

// add takes in a block that came a while after the one before, or after it was asked for if nothing was in flight. Who was
// silent for longer than a moment was away, which is not to be held against it for long.
func (s *steady) add(length int64, took time.Duration) {
	took = min(max(took, 0), patience)
	keep := math.Exp(-float64(took) / float64(steadySpan))
	s.bytes = keep*s.bytes + float64(length)
	s.seconds = keep*s.seconds + took.Seconds()
}

// known reports whether the rate means anything yet.
func (s *steady) known() bool { return s.seconds > 0.05 }

// rate is in bytes a second.
func (s *steady) rate() float64 { return s.bytes / s.seconds }

// sustained is the rate, in bytes a second, that a peer keeps up.
func (p *Picker) sustained(x *peer) float64 {
	if x.steady.known() {
		return x.steady.rate()
	}
	return p.pace(x)
}

func newSpeed(rtt time.Duration) speed {
	if rtt <= 0 {
		rtt = guessedRTT
	}
	return speed{rtt: rtt, flow: flow{pipe: newPipe(&peerTuning, rtt)}}
}

// resize works out how many bytes should be in flight at the peer.
func (x *peer) resize(now time.Duration) {
	if r := x.rate.value(); r > 0 {
		x.pulse.fade(now)
		x.depth = max(x.pipe.depth(r), x.pulse.depth)
	}
}

// busy says that the peer, which had nothing in flight, has again.
func (x *peer) busy(now time.Duration) {
	x.deliveredAt = now
	x.cleanAt = now
	if len(x.ghosts) > 0 {
		x.cleanAt = never // it may still be sending what was taken back
	}
	x.round = round{began: x.cleanAt}
}

// received learns from a block that came. f is its flight, nil if it was given up before, and sentAt when it was asked for,
// if that is known. dry is when there was last nothing to ask of anybody.
func (x *peer) received(f *flight, sentAt time.Duration, known bool, length int64, dry, now time.Duration) {
	x.stalled, x.penalty, x.rejects = false, 0, 0
	x.steady.add(length, now-x.deliveredAt)
	x.deliveredAt = now
	x.delivered += length
	if x.cleanAt == never {
		x.cleanAt, x.round.began = now, now
		return
	}
	x.round.bytes += length
	took := now - sentAt
	if !known || took <= 0 {
		return
	}
	x.rtt = min(x.rtt, took)
	x.round.waits += took
	x.round.count++
	if f != nil {
		x.arrived(f, now)
		if x.growing && now > f.since && f.since >= x.cleanAt {
			// A round is long while the rate doubles in each; this is the rate since the request.
			rate := float64(x.delivered-f.delivered) / (now - f.since).Seconds()
			x.rate.add(rate, true, now, rateWindow)
			x.lately = max(x.lately, rate)
		}
	}
	if sentAt >= x.round.began && now > x.round.began {
		idle := max(x.idleAt, dry) >= x.round.began-x.rtt
		x.end(idle && float64(x.outstanding) < x.rate.value()*x.rtt.Seconds()+2*BlockSize, now)
	}
	x.resize(now)
}

// pace is the rate, in bytes a second, at which the peer is expected to deliver: what was measured, unless that is of bursts
// which come now and then, or what is typical.
func (p *Picker) pace(x *peer) float64 {
	switch {
	case x.lately == 0:
		return p.typical.rate
	case x.steady.known():
		return min(x.lately, mostLively*x.steady.rate())
	}
	return x.lately
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
		if r := x.rate.value(); r > 0 {
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

const never = time.Duration(math.MaxInt64)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

package picker

import "time"

// forecast predicts when a peer's blocks arrive. A peer answers requests in turn, so a block comes after the one before it,
// or a round trip after it was asked for if that is later, and then takes its length at the peer's rate. Each arrival shows
// how far off the forecast was, and moves what is predicted of the blocks behind it as far.
type forecast struct {
	shift     time.Duration // by how much blocks come later than they were due
	deviation time.Duration // by how much the shift moves from block to block
	planned   float64       // the rate that it was made with, in bytes a second
	stale     bool          // a block was taken out of the line: those behind it come sooner
}

const (
	maxDeviation = 10 * time.Second
	newRate      = 1.25 // times the one that a forecast was made with: it is made anew
)

// last is when all that is in flight should be here.
func (x *peer) last() time.Duration {
	if x.tail == nil {
		return 0
	}
	return x.tail.due + x.shift
}

// arrived learns from an arrival.
func (x *peer) arrived(f *flight, now time.Duration) {
	off := now - f.due - x.shift
	x.deviation += (min(off.Abs(), maxDeviation) - x.deviation) / 8
	x.shift += off
}

// replan makes the forecast anew if it does not hold any more.
func (x *peer) replan(rate float64) {
	if !x.stale && rate < newRate*x.planned && x.planned < newRate*rate {
		return
	}
	x.stale, x.shift, x.planned = false, 0, rate
	at := x.deliveredAt
	for f := x.head; f != nil; f = f.next {
		at = max(at, f.sentAt+x.rtt) + seconds(float64(f.length)/rate)
		f.due = at
	}
}

// late is for how long the oldest request has been overdue.
func (x *peer) late(now time.Duration) time.Duration {
	if x.head == nil {
		return 0
	}
	return max(0, now-x.head.due-x.shift-2*x.deviation)
}

// start is how long it takes until a block asked of the peer now begins to arrive. What the peer is late already it is
// believed to be late once more.
func (x *peer) start(now time.Duration) time.Duration {
	late := x.late(now)
	return max(x.rtt, x.last()+late-now) + late + x.deviation/2 + x.penalty
}

// arrives is how long it takes until a block in flight is here. A peer that has never delivered anything may never do.
func (f *flight) arrives(now time.Duration) time.Duration {
	x := f.peer
	late := x.late(now)
	wait := max(0, f.due+x.shift+late-now) + late
	if x.rate.value() == 0 {
		wait += late
	}
	return wait
}

package picker

import "time"

const (
	flatRounds  = 3               // rounds without growth: more does not help
	leastCount  = 4               // blocks make a mean
	fallen      = 0.8             // of its peak: a rate to be looked into
	probeGain   = 1.5             // times as much is in flight while it is tried whether more helps
	probeGrowth = 1.1             // of the rate: it does
	probePause  = 2 * time.Second // between trials, doubled after each in vain
	yield       = 0.95            // of the lag is kept after a trial in vain
)

// pipe is how much is kept in flight: what is delivered in the time from a request to its answer, and a little more, so
// that a sender is never idle and a reader that comes along does not wait behind a queue. Slow start finds out how much
// that is: what is in flight grows with the rate, until the rate does not grow with it.
//
// If answers take longer later on (the path, a busy disk, a client that looks at its requests now and then), the rate
// falls, and so would what is in flight, and so on. So it is tried now and then whether more helps, and at once when the
// rate has fallen.
type pipe struct {
	tuning  *tuning
	lag     time.Duration // from request to answer if there is no queue, on average
	least   time.Duration // the smallest measured
	growing bool          // in slow start
	limited bool          // in the last round there was not enough to do
	base    float64       // the rate that growth is measured against
	flat    int           // rounds in a row without growth
	low     int           // rounds in a row far below the peak
	probing bool          // it is tried whether more helps
	grown   bool          // it does
	vain    int           // trials in a row that it did not
	probeAt time.Duration // of the next trial
	waits   time.Duration // of the blocks of the last rounds, summed
	blocks  int           // these
}

// tuning is what differs between the pipe of one peer and that of all.
type tuning struct {
	start float64       // times as much is in flight in slow start
	gain  float64       // of the lag
	slack time.Duration // of data kept queued beyond that
	most  time.Duration // between trials
}

func newPipe(t *tuning, lag time.Duration) pipe {
	return pipe{tuning: t, growing: true, lag: lag, least: lag}
}

// depth is how many bytes should be in flight at a rate: what is on its way, and the block that is being sent.
func (p *pipe) depth(rate float64) int64 {
	held := p.tuning.gain*p.lag.Seconds() + p.tuning.slack.Seconds()
	if p.growing {
		held *= p.tuning.start
	}
	w := int64(rate*held) + BlockSize
	if p.probing {
		w += max(int64((probeGain-1)*float64(w)), BlockSize)
	}
	return w
}

// measure takes a round in: its rate, the highest rate of late and the peak of longer ago, and how long its blocks took.
// low says that the rate may be lower than what could be.
func (p *pipe) measure(rate, highest, peak float64, waits time.Duration, blocks int, low bool, now time.Duration) {
	p.limited = low
	p.waits += waits
	if p.blocks += blocks; p.blocks >= leastCount {
		p.see(p.waits/time.Duration(p.blocks), seconds(BlockSize/max(rate, highest)), rate > p.base*probeGrowth && !low)
		p.waits, p.blocks = 0, 0
	}
	switch {
	case low:
	case p.growing:
		if rate > 1.25*p.base {
			p.base, p.flat = rate, 0
		} else if p.flat++; p.flat >= flatRounds {
			p.growing, p.probeAt = false, now+probePause
		}
	case p.probing:
		if rate > probeGrowth*p.base {
			p.base, p.flat, p.grown = rate, 0, true
		} else if p.flat++; p.flat >= flatRounds {
			p.settle(now)
		}
	default:
		if p.low++; rate >= fallen*peak {
			p.low = 0
		}
		switch {
		case p.low == flatRounds:
			p.probing, p.grown, p.base, p.flat = true, false, rate, 0
		case now >= p.probeAt:
			p.probing, p.grown, p.base, p.flat = true, false, highest, 0
		}
	}
}

// see takes in how long blocks took on average, of which each was sent in the time last; helped is whether there came more
// of them since more was in flight.
func (p *pipe) see(wait, last time.Duration, helped bool) {
	p.least = min(p.least, max(wait-last, 0))
	if p.lag = min(p.lag, max(wait-last, 0)); p.probing && helped {
		// What is in flight now, by the rate there is now, is what should be.
		p.lag = max(p.lag, seconds((wait-p.tuning.slack).Seconds()/p.tuning.gain))
	}
}

// settle ends a trial.
func (p *pipe) settle(now time.Duration) {
	if p.grown {
		p.vain = 0
	} else {
		p.vain++
		p.lag = max(p.least, seconds(yield*p.lag.Seconds()))
	}
	p.probing, p.low = false, 0
	p.probeAt = now + min(probePause<<min(p.vain, 10), p.tuning.most)
}

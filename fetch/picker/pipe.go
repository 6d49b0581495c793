package picker

import "time"

const (
	probeGain  = 1.5             // and while it is tried whether more helps
	flatRounds = 3               // rounds without growth: more does not help
	leastCount = 4               // blocks make a mean
	fallen     = 0.8             // of its peak: a rate to be looked into
	probePause = 2 * time.Second // between trials, doubled after each in vain
	yield      = 0.95            // of the lag is kept after a trial in vain
)

// pipe is how much is kept in flight: what is delivered in the time from a request to its answer, and a little more, so
// that a sender is never idle and a reader that comes along does not wait behind a queue. Slow start finds out how much
// that is: what is in flight grows with the rate, until the rate does not grow with it.
//
// If answers take longer later on (the path, a busy disk, a client that looks at its requests now and then), the rate
// falls, and so would what is in flight, and so on. So when the rate falls it is tried whether more helps.
type pipe struct {
	tuning  *tuning
	lag     time.Duration // from request to answer if there is no queue, on average
	growing bool          // in slow start
	limited bool          // in the last round there was not enough to do
	base    float64       // the rate that growth is measured against
	flat    int           // rounds in a row without growth, or below the peak
	probing bool          // it is tried whether more helps
	grown   bool          // it does
	probeAt time.Duration // no sooner is it tried again
	pause   time.Duration
	waits   time.Duration // of the blocks of the last rounds, summed
	blocks  int           // these
}

// tuning is what differs between the pipe of one peer and that of all.
type tuning struct {
	start    float64       // times as much is in flight in slow start
	gain     float64       // of the lag
	slack    time.Duration // of data kept queued beyond that
	growth   float64       // of the rate, that counts as such
	restless bool          // more is tried even if the rate has not fallen, since new peers may have come
	most     time.Duration // between trials
}

func newPipe(t *tuning, lag time.Duration) pipe {
	return pipe{tuning: t, growing: true, lag: lag, pause: probePause}
}

// held is how much is kept in flight, as the time in which it is delivered.
func (p *pipe) held() time.Duration {
	h := p.tuning.gain*p.lag.Seconds() + p.tuning.slack.Seconds()
	switch {
	case p.growing:
		h *= p.tuning.start
	case p.probing:
		h *= probeGain
	}
	return seconds(h)
}

// measure takes a round in: its rate, the peak of such rates, and how long its blocks took. low says that the rate may be
// lower than what could be.
func (p *pipe) measure(rate, peak float64, waits time.Duration, blocks int, low bool, now time.Duration) {
	p.limited = low
	p.waits += waits
	if p.blocks += blocks; p.blocks >= leastCount {
		p.lag = min(p.lag, p.waits/time.Duration(p.blocks))
	}
	switch {
	case low:
	case p.growing, p.probing:
		if rate > p.tuning.growth*p.base {
			p.grow(rate)
		} else if p.flat++; p.flat >= flatRounds {
			p.settle(now)
		}
	case rate >= fallen*peak && !p.tuning.restless:
		p.flat = 0
	default:
		if p.flat++; p.flat >= flatRounds && now >= p.probeAt {
			p.probing, p.base, p.flat, p.grown = true, rate, 0, false
		}
	}
	if p.blocks >= leastCount {
		p.waits, p.blocks = 0, 0
	}
}

// grow takes in that more did help. What is in flight now, by the rate there is now, is then what should be.
func (p *pipe) grow(rate float64) {
	p.base, p.flat, p.grown = rate, 0, true
	if p.probing && p.blocks > 0 {
		wait := p.waits / time.Duration(p.blocks)
		p.lag = max(p.lag, seconds((wait-p.tuning.slack).Seconds()/p.tuning.gain))
	}
}

// settle ends slow start, or a trial.
func (p *pipe) settle(now time.Duration) {
	if p.probing && !p.grown {
		p.lag = seconds(yield * p.lag.Seconds())
		p.pause = min(2*p.pause, p.tuning.most)
	} else {
		p.pause = probePause
	}
	p.growing, p.probing, p.flat = false, false, 0
	p.probeAt = now + p.pause
}

package picker

import "time"

const (
	lineRound = 50 * time.Millisecond // of measurement, at least
	lineCount = 8                     // blocks in it, at least
)

var lineTuning = tuning{start: 5, gain: 1.25, slack: 100 * time.Millisecond, most: 8 * time.Second}

// line is our own side of all connections: the sum of what peers send, which our own link may not carry. Then what each
// of many peers has in flight, little as it may be, queues up in front of the link, and a reader that comes along waits
// behind all of it. So what is in flight in all is bounded by what helps, found in the same way as that of a peer, and
// goes to the best of the peers.
type line struct {
	flow
	outstanding int64         // bytes in flight
	fullAt      time.Duration // when the bound last held requests back
	burst       burst
}

func newLine() line { return line{flow: flow{pipe: newPipe(&lineTuning, guessedRTT)}} }

// room reports whether more may be asked for.
func (l *line) room(now time.Duration) bool {
	r := l.rate.value()
	if r == 0 || l.outstanding < l.depth(r)+int64(l.burst.most.value()) {
		return true
	}
	l.fullAt = now
	return false
}

// received takes in a block that came, took after it was asked for.
func (l *line) received(length int64, took, now time.Duration) {
	l.burst.add(length, l.peak.value(), now)
	l.round.bytes += length
	l.round.waits += took
	l.round.count++
	if now-l.round.began >= max(l.round.waits/time.Duration(l.round.count), lineRound) && l.round.count >= lineCount {
		l.end(l.fullAt < l.round.began, now)
	}
}

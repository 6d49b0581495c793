package picker

import "time"

const (
	patience    = time.Second            // of silence beyond what is expected, after which a peer has stalled
	impatience  = 500 * time.Millisecond // the same for one that has never delivered
	maxPenalty  = time.Minute            // of a peer that stalls again and again
	rejectPause = 100 * time.Millisecond // for which a peer that rejects is asked nothing; doubled each time in a row
	maxRejects  = 7                      // doublings
)

// stallsAt is when the peer, which has something to deliver, will have been silent for too long.
func (x *peer) stallsAt() time.Duration {
	due := max(x.head.due+x.shift, x.deliveredAt, x.head.sentAt+x.rtt)
	if x.rate.value() == 0 {
		return due + 2*x.rtt + impatience
	}
	return due + 4*x.deviation + patience
}

// expire frees the blocks of peers that have fallen silent.
func (p *Picker) expire(now time.Duration) {
	if p.stallAt == 0 || now < p.stallAt {
		return
	}
	p.stallAt = 0
	for _, x := range p.peers {
		if x.head == nil {
			continue
		}
		if at := x.stallsAt(); now < at {
			p.stallAt = earlier(p.stallAt, at)
			continue
		}
		x.stalled = true
		x.penalty = min(max(2*x.penalty, patience), maxPenalty)
		p.release(x, true, nil)
		p.excuse(x)
	}
}

// forsaken notes that what the peer is late with is taken back for another to deliver. It is believed to be as late with the
// next block, until it delivers any; otherwise peers that never do would take a block from each other without end, each of
// them anew as good as anybody.
func (x *peer) forsaken(now time.Duration) { x.penalty = max(x.penalty, x.late(now)) }

// rejected pauses a peer that says no, so that it is not asked the same again at once.
func (x *peer) rejected(now time.Duration) {
	x.pausedTo = max(x.pausedTo, now+rejectPause<<min(x.rejects, maxRejects))
	x.rejects++
}

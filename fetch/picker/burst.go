package picker

import "time"

const burstWindow = 5 * time.Second // the age at which a burst is forgotten, at least

// burst is how much comes at once beyond what the rate tells. Peers that limit their own rate send when their time has come, all
// that they may: until then they are to hold as much, although the shortest time from a request to its answer says nothing
// of it. (BBR allows for acknowledgements that come in bursts in the same way.)
type burst struct {
	began time.Duration
	bytes int64   // that came since
	most  highest // beyond what the rate tells, in bytes
}

// add takes in bytes that came, where rate bytes a second are usual.
func (b *burst) add(length int64, rate float64, now time.Duration) {
	expected := rate * (now - b.began).Seconds()
	if float64(b.bytes) <= expected {
		b.began, b.bytes, expected = now, 0, 0
	}
	b.bytes += length
	b.most.add(min(float64(b.bytes)-expected, rate*pulseSpan.Seconds()), false, now, burstWindow)
}

package picker

import "time"

// coming is how many more peers should be here soon. Who comes first could be given all that a reader waits for, by what is
// known of him as good as anybody, and the others would find it taken when they come a moment later.
type coming struct {
	peers int
	until time.Duration
}

// Expect says that so many more peers should be here until a time. Until then, or until anybody has delivered, those that
// are here leave them their share.
func (p *Picker) Expect(peers int, until time.Duration) { p.coming = coming{peers, until} }

// by is how many are expected still.
func (c *coming) by(now time.Duration) int {
	if now >= c.until {
		return 0
	}
	return c.peers
}

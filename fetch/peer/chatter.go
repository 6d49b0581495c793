package peer

import (
	"time"

	"torrentfs/fetch/wire"
)

const (
	// maxUnrequested is how many bytes that nobody asked for a peer may send, and an eighth of what was asked for.
	maxUnrequested = 8 << 20
	chatterBurst   = 5000 // small messages that a peer may send at once
	chatterRate    = 500  // and from then on each second
	chatterBytes   = 64   // of an extended message count as one small message
)

// chatter is a peer's allowance of messages that carry no block. Each costs us more than it costs the peer, and there is
// no limit to them on the wire.
type chatter struct {
	left  int
	haves int       // pieces that may be announced beside that: a peer downloads too, however fast
	at    time.Time // when the allowance was last raised
}

func newChatter(pieces int) chatter {
	return chatter{left: chatterBurst, haves: 2 * pieces, at: time.Now()}
}

// hear counts a message. Blocks, requests and rejects are counted where it is known whether they are in order.
func (c *chatter) hear(m wire.Message) error {
	switch m.ID {
	case wire.Piece, wire.Request, wire.Reject:
		return nil
	case wire.Have:
		if c.haves > 0 {
			c.haves--
			return nil
		}
	case wire.Extended:
		return c.spend(1 + len(m.Data)/chatterBytes)
	}
	return c.spend(1)
}

// spend takes n messages off the allowance. The clock is read only when it is used up.
func (c *chatter) spend(n int) error {
	if c.left -= n; c.left >= 0 {
		return nil
	}
	now := time.Now()
	c.left = min(c.left+int(now.Sub(c.at).Seconds()*chatterRate), chatterBurst)
	c.at = now
	if c.left < 0 {
		return violation("a flood of messages")
	}
	return nil
}

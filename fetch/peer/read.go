package peer

import (
	"time"

	"torrentfs/fetch/wire"
)

// read is the reader goroutine: messages come in, blocks go to their sinks, and what happened goes to the swarm in
// batches, each posted just before the reader would wait for the peer.
func (c *Conn) read() error {
	rd := wire.NewReader(c.nc, max((c.torrent.Pieces+7)/8+1, maxMessage))
	r := reader{c: c, chatter: newChatter(c.torrent.Pieces)}
	deadline := time.Time{}
	for {
		if !rd.Buffered() {
			r.flush()
			// Moving the deadline costs a lock in the runtime's poller, so not for every message.
			if now := time.Now(); deadline.Sub(now) < idleTimeout/2 {
				deadline = now.Add(idleTimeout)
				if err := c.nc.SetReadDeadline(deadline); err != nil {
					return err
				}
			}
		}
		m, err := rd.Next()
		if err == nil {
			err = r.handle(m)
		}
		if err != nil {
			r.flush()
			return err
		}
	}
}

// reader is the reader goroutine's own state.
type reader struct {
	c           *Conn
	batch       *Batch
	begun       bool  // a message that may not follow others (have none) has had its chance
	requested   int64 // bytes of blocks that we asked for
	unrequested int64 // and of others
	chatter     chatter
}

func (r *reader) add(it Item) {
	if r.batch == nil {
		r.batch = batches.Get().(*Batch)
		r.batch.Conn = r.c
	}
	r.batch.Items = append(r.batch.Items, it)
	if len(r.batch.Items) >= maxItems {
		r.flush()
	}
}

func (r *reader) flush() {
	if r.batch != nil {
		r.batch.At = time.Now()
		r.c.post(r.batch)
		r.batch = nil
	}
}

// handle checks one message against what is allowed, serves what is the connection's own business, and adds the rest to
// the batch.
func (r *reader) handle(m wire.Message) error {
	c := r.c
	first := !r.begun
	if m.ID != wire.KeepAlive && m.ID != wire.Extended && m.ID != wire.Port {
		r.begun = true
	}
	if err := r.chatter.hear(m); err != nil {
		return err
	}
	it := Item{ID: m.ID, Ext: m.Ext, Index: m.Index, Begin: m.Begin, Length: m.Length}
	switch m.ID {
	case wire.Have, wire.Request, wire.Cancel, wire.Piece, wire.Reject, wire.AllowedFast, wire.Suggest:
		if m.Index >= uint32(c.torrent.Pieces) {
			return violation("%v of piece %d out of %d", m.ID, m.Index, c.torrent.Pieces)
		}
	}
	switch m.ID {
	case wire.HaveAll, wire.HaveNone, wire.Reject, wire.AllowedFast, wire.Suggest:
		if !c.features.Fast {
			return violation("%v without the fast extension", m.ID)
		}
	}
	switch m.ID {
	case wire.Piece:
		return r.block(m, it)
	case wire.Request:
		if m.Length == 0 || m.Length > maxServed {
			return violation("a request of %d bytes", m.Length)
		}
		cost := int(c.refused.Swap(0)) // they would else be had for nothing
		if !c.enqueue(m) || m.Length < minServed && c.torrent.beyond(m) > 0 {
			cost++
		}
		return r.chatter.spend(cost)
	case wire.Cancel:
		c.dequeue(m)
		return nil
	case wire.Bitfield:
		if !first { // aria2's way to say that it has many more pieces
			if err := r.chatter.spend(len(m.Data) / chatterBytes); err != nil {
				return err
			}
		}
		if err := checkBits(m.Data, c.torrent.Pieces); err != nil {
			return err
		}
		it.Data = append([]byte(nil), m.Data...)
	case wire.HaveAll: // late ones are aria2's too
	case wire.HaveNone:
		if !first {
			return violation("a late %v", m.ID)
		}
	case wire.Choke:
		c.choked()
	case wire.Reject:
		c.mu.Lock()
		_, asked := c.pending[key(m.Index, m.Begin)]
		delete(c.pending, key(m.Index, m.Begin))
		c.mu.Unlock()
		if !asked {
			return r.chatter.spend(1)
		}
	case wire.Extended:
		if !c.features.Extended {
			return violation("an extended message without the extension protocol")
		}
		it.Data = append([]byte(nil), m.Data...)
	case wire.Unchoke, wire.Interested, wire.NotInterested, wire.Have, wire.AllowedFast, wire.Port:
	default: // keep-alives, suggestions, and messages that are not known: nothing to do
		return nil
	}
	r.add(it)
	return nil
}

// choked gives up what is pending. Without the fast extension a choke drops every request; with it each should be rejected
// in words, or served all the same.
func (c *Conn) choked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.features.Fast {
		clear(c.pending)
		return
	}
	for k, r := range c.pending {
		if !r.cancelled {
			c.giveUp(k, r)
		}
	}
}

// block puts a block in its place.
func (r *reader) block(m wire.Message, it Item) error {
	c := r.c
	c.mu.Lock()
	req, asked := c.pending[key(m.Index, m.Begin)]
	delete(c.pending, key(m.Index, m.Begin))
	c.mu.Unlock()
	if !asked {
		// Blocks can cross a choke or a cancel; of what was asked for long ago, we may have forgotten that we did.
		if r.unrequested += int64(len(m.Data)); r.unrequested > maxUnrequested+r.requested/8 {
			return violation("%d bytes that nobody asked for", r.unrequested)
		}
		r.add(it)
		return r.chatter.spend(1)
	}
	if int(req.length) != len(m.Data) {
		return violation("a block of %d bytes instead of %d", len(m.Data), req.length)
	}
	r.requested += int64(len(m.Data))
	it.Asked = true
	if req.sink.Put(m.Begin, m.Data) {
		it.Stored = req.sink
	}
	r.add(it)
	return nil
}

// checkBits checks a bitfield's length and that its spare bits are zero (BEP 3).
func checkBits(bits []byte, n int) error {
	if len(bits) != (n+7)/8 {
		return violation("a bitfield of %d bytes for %d pieces", len(bits), n)
	}
	if spare := n % 8; spare != 0 && bits[len(bits)-1]<<spare != 0 {
		return violation("a bitfield with spare bits set")
	}
	return nil
}

// minServed is the shortest block that a peer may ask for as often as it likes. Reading and checking one costs about the
// same, however short.
const minServed = 4 << 10

// beyond is how many bytes of its piece lie behind a block that a peer asks for; less than none if it goes past the end.
func (t *Torrent) beyond(m wire.Message) int64 {
	size := min(t.PieceLength, t.Length-int64(m.Index)*t.PieceLength)
	return size - int64(m.Begin) - int64(m.Length)
}

// enqueue takes a request of the peer's, or rejects it.
func (c *Conn) enqueue(m wire.Message) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.torrent.beyond(m) >= 0 && c.unchoked && c.torrent.Source != nil && len(c.serve) < ReqQ {
		c.serve = append(c.serve, m)
		return true
	}
	c.reject(m)
	return false
}

// dequeue drops a request that the peer took back; BEP 6 wants it rejected.
func (c *Conn) dequeue(m wire.Message) {
	c.mu.Lock()
	defer c.unlock()
	for i, r := range c.serve {
		if r.Index == m.Index && r.Begin == m.Begin && r.Length == m.Length {
			c.serve = append(c.serve[:i], c.serve[i+1:]...)
			c.reject(r)
			return
		}
	}
}

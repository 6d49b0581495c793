package peer

import (
	"errors"
	"os"
	"sync"
	"time"

	"torrentfs/fetch/wire"
)

const (
	minBatch  = 16 << 10  // bytes of blocks that go out in one write at first, and to a slow peer
	maxBatch  = maxServed // and to any: more would delay our own requests behind them
	slowWrite = time.Second
	keptOut   = 16 << 10 // bytes of a buffer for small messages that an idle connection keeps

	// pause is between two writes of a block that the limit lets through in more time: as one, few would be a burst.
	pause = time.Second / 4
)

// served are buffers for blocks on their way out. Few connections serve at a time, so they share them.
var served = sync.Pool{New: func() any { return new([]byte) }}

// write is the writer goroutine: all messages that wait go out in one write; between them the peer's requests are served,
// a few blocks at a time, so that what the swarm asks for never waits long behind an upload, nor behind the limit of uploads.
func (c *Conn) write() error {
	idle := time.NewTimer(keepAlive)
	defer idle.Stop()
	turn := time.NewTimer(time.Hour) // to serve on
	defer turn.Stop()
	var buf []byte
	var todo []wire.Message
	q := queue{batch: minBatch}
	defer func() { q.giveBack(c.torrent.Pace) }()
	for {
		c.mu.Lock()
		buf, c.out = c.out, buf[:0]
		var wait time.Duration
		todo, wait = c.take(todo[:0], &q)
		c.mu.Unlock()

		if len(buf) == 0 && len(todo) == 0 {
			if wait > 0 {
				turn.Reset(wait)
			} else {
				turn.Stop()
			}
			select {
			case <-c.wake:
			case <-turn.C:
			case <-c.done:
				return nil
			case <-idle.C:
				c.Send(wire.Message{ID: wire.KeepAlive})
			}
			continue
		}
		if len(buf) > 0 {
			if err := c.send(buf); err != nil {
				return err
			}
			if cap(buf) > keptOut {
				buf = nil
			}
		}
		if len(todo) > 0 {
			began := time.Now()
			if err := c.answer(todo, &q, turn); err != nil {
				return err
			}
			q.sent(time.Since(began))
		}
		idle.Reset(keepAlive)
	}
}

// queue is how the peer's requests are worked off.
type queue struct {
	batch       int       // bytes of blocks in one write
	paid        int       // bytes reserved and neither taken nor sent
	from, until time.Time // when what is paid may be sent
	taken       int       // bytes reserved for what was taken
	begin, end  time.Time // when that may be sent
}

// giveBack gives up what is reserved: there is nothing to send for it.
func (q *queue) giveBack(p Pacer) {
	if p != nil && q.paid > 0 {
		p.Return(q.paid)
		q.paid = 0
	}
}

// refused has the next blocks take what was reserved for n bytes that could not be had.
func (q *queue) refused(n int, p Pacer) {
	if n > 0 {
		q.giveBack(p) // what is due later
		q.paid, q.from, q.until = n, q.begin, q.end
	}
}

// sent notes how long a batch took to write.
func (q *queue) sent(took time.Duration) {
	if took > slowWrite {
		q.batch = minBatch
	} else {
		q.batch = min(2*q.batch, maxBatch)
	}
}

// wait is for how long the limit keeps a block back: until all of it may be sent, or the first part of one that takes long.
func (q *queue) wait(size int, p Pacer) time.Duration {
	if p == nil {
		return 0
	}
	if short := size - q.paid; short > 0 {
		q.from, q.until = p.Reserve(short)
		q.paid = size
	}
	if q.until.Sub(q.from) > pause {
		return time.Until(q.from)
	}
	return time.Until(q.until)
}

// take moves the next requests to be answered to todo, and says when more may be if the limit keeps one back. What is kept
// back stays in the queue: it may be taken back meanwhile. The caller holds mu.
func (c *Conn) take(todo []wire.Message, q *queue) (_ []wire.Message, wait time.Duration) {
	n := 0
	q.taken = 0
	for size := 0; n < len(c.serve); n++ {
		r := c.serve[n]
		if size += int(max(r.Length, wire.MetadataPieceSize)); n > 0 && size > q.batch {
			break
		}
		cost := wire.PieceHeaderSize + int(r.Length)
		if r.ID == wire.Extended {
			cost += wire.MetadataPieceSize
		}
		if wait = q.wait(cost, c.torrent.Pace); wait > 0 {
			break
		}
		if n == 0 {
			q.begin = q.from
		}
		if q.end = q.until; c.torrent.Pace != nil {
			q.paid -= cost
			q.taken += cost
		}
	}
	if len(c.serve) == 0 {
		q.giveBack(c.torrent.Pace)
	}
	todo = append(todo, c.serve[:n]...)
	c.serve = append(c.serve[:0], c.serve[n:]...)
	return todo, wait
}

// answer sends the blocks that were asked for.
func (c *Conn) answer(todo []wire.Message, q *queue, turn *time.Timer) error {
	buf := served.Get().(*[]byte)
	defer served.Put(buf)
	var sent int64
	*buf, sent = c.blocks((*buf)[:0], todo)
	q.refused(q.taken-len(*buf), c.torrent.Pace)
	if len(*buf) == 0 {
		return nil
	}
	if err := c.spread(*buf, q, turn); err != nil {
		return err
	}
	c.uploaded.Add(sent)
	return nil
}

// spread writes blocks evenly until their time ends, or the rest at once when we have something of our own to say.
func (c *Conn) spread(b []byte, q *queue, turn *time.Timer) error {
	for {
		part := len(b)
		if left := time.Until(q.end); left > pause && !c.waits() {
			part = max(int(float64(part)*float64(pause)/float64(left)), 1)
		}
		if p := c.torrent.Pace; p != nil {
			p.Reserved(part)
		}
		if err := c.send(b[:part]); err != nil {
			return err
		}
		if b = b[part:]; len(b) == 0 {
			return nil
		}
		turn.Reset(pause)
		for paused := true; paused && !c.waits(); {
			select {
			case <-turn.C:
				paused = false
			case <-c.wake: // it may be a request of the peer's
			case <-c.done:
				q.paid += min(len(b), q.taken)
				return ErrClosed
			}
		}
	}
}

// waits reports whether something of our own is to be sent.
func (c *Conn) waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out) > 0
}

// send writes b. It fails when the peer takes nothing for as long as writeTimeout.
func (c *Conn) send(b []byte) error {
	for {
		if err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		n, err := c.nc.Write(b)
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		b = b[n:]
	}
}

// blocks appends the answers to the peer's requests to b and counts the bytes of blocks among them. The bytes are copied,
// since a slow peer must not keep a piece in memory for the minutes that a write to it may take.
func (c *Conn) blocks(b []byte, todo []wire.Message) (_ []byte, sent int64) {
	for _, r := range todo {
		if r.ID == wire.Extended {
			r.Data = c.info(int(r.Index))
			b = r.Append(b)
			continue
		}
		at := len(b)
		b = wire.AppendPieceHeader(b, r.Index, r.Begin, int(r.Length))
		var ok bool
		if b, ok = c.torrent.Source.AppendBlock(b, int(r.Index), r.Begin, r.Length); !ok {
			b = b[:at]
			c.refused.Add(1)
			c.mu.Lock()
			c.reject(r)
			c.unlock()
			continue
		}
		sent += int64(r.Length)
	}
	return b, sent
}

// info is the payload that answers a request for a piece of the info dictionary.
func (c *Conn) info(piece int) []byte {
	info := c.torrent.Info
	from := piece * wire.MetadataPieceSize
	part := info[from:min(from+wire.MetadataPieceSize, len(info))]
	return wire.Metadata{Type: wire.MetadataData, Piece: piece, Size: int64(len(info)), Data: part}.Append(nil)
}

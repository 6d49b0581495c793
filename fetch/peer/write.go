package peer

import (
	"sync"
	"time"

	"torrentfs/fetch/wire"
)

const (
	serveBatch = maxServed // bytes of blocks that go out in one write; more would delay our own requests behind them
	keptOut    = 16 << 10  // bytes of a buffer for small messages that an idle connection keeps
)

// served are buffers for blocks on their way out. Few connections serve at a time, so they share them.
var served = sync.Pool{New: func() any { return new([]byte) }}

// write is the writer goroutine: all messages that wait go out in one write; between them the peer's requests are served,
// a few blocks at a time, so that what the swarm asks for never waits long behind an upload.
func (c *Conn) write() error {
	idle := time.NewTimer(keepAlive)
	defer idle.Stop()
	var buf []byte
	var todo []wire.Message
	for {
		c.mu.Lock()
		buf, c.out = c.out, buf[:0]
		todo = c.take(todo[:0])
		c.mu.Unlock()

		if len(buf) == 0 && len(todo) == 0 {
			select {
			case <-c.wake:
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
			if err := c.answer(todo); err != nil {
				return err
			}
		}
		idle.Reset(keepAlive)
	}
}

// take moves the next requests to be answered to todo. The caller holds mu.
func (c *Conn) take(todo []wire.Message) []wire.Message {
	n := 0
	for size := uint32(0); n < len(c.serve) && (n == 0 || size+c.serve[n].Length <= serveBatch); n++ {
		size += max(c.serve[n].Length, wire.MetadataPieceSize)
	}
	todo = append(todo, c.serve[:n]...)
	c.serve = append(c.serve[:0], c.serve[n:]...)
	return todo
}

// answer sends the blocks that were asked for.
func (c *Conn) answer(todo []wire.Message) error {
	buf := served.Get().(*[]byte)
	defer served.Put(buf)
	var sent int64
	*buf, sent = c.blocks((*buf)[:0], todo)
	if len(*buf) == 0 {
		return nil
	}
	if err := c.send(*buf); err != nil {
		return err
	}
	c.uploaded.Add(sent)
	return nil
}

func (c *Conn) send(b []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	return err
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
		data, release, ok := c.torrent.Source.Load(int(r.Index))
		if !ok || uint64(r.Begin)+uint64(r.Length) > uint64(len(data)) {
			if ok {
				release()
			}
			c.mu.Lock()
			c.reject(r)
			c.unlock()
			continue
		}
		b = wire.AppendPieceHeader(b, r.Index, r.Begin, int(r.Length))
		b = append(b, data[r.Begin:r.Begin+r.Length]...)
		release()
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

package peer

import (
	"time"

	"torrentfs/fetch/wire"
)

// serveBatch is how many blocks go out in one write; more would delay our own requests behind them.
const serveBatch = 8

// write is the writer goroutine: all messages that wait go out in one write; between them the peer's requests are served,
// a few blocks at a time, so that what the swarm asks for never waits long behind an upload.
func (c *Conn) write() error {
	idle := time.NewTimer(keepAlive)
	defer idle.Stop()
	var buf, blocks []byte
	var todo []wire.Message
	for {
		c.mu.Lock()
		buf, c.out = c.out, buf[:0]
		n := min(len(c.serve), serveBatch)
		todo = append(todo[:0], c.serve[:n]...)
		c.serve = append(c.serve[:0], c.serve[n:]...)
		c.mu.Unlock()

		if len(buf) == 0 && n == 0 {
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
		}
		if n > 0 {
			var sent int64
			blocks, sent = c.blocks(blocks[:0], todo)
			if len(blocks) > 0 {
				if err := c.send(blocks); err != nil {
					return err
				}
				c.uploaded.Add(sent)
			}
		}
		idle.Reset(keepAlive)
	}
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
			r.Data = c.metadata(int(r.Index))
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
			c.mu.Unlock()
			continue
		}
		b = wire.AppendPieceHeader(b, r.Index, r.Begin, int(r.Length))
		b = append(b, data[r.Begin:r.Begin+r.Length]...)
		release()
		sent += int64(r.Length)
	}
	return b, sent
}

// metadata is the payload that answers a request for a piece of the info dictionary.
func (c *Conn) metadata(piece int) []byte {
	info := c.torrent.Info
	from := piece * wire.MetadataPieceSize
	part := info[from:min(from+wire.MetadataPieceSize, len(info))]
	return wire.Metadata{Type: wire.MetadataData, Piece: piece, Size: int64(len(info)), Data: part}.Append(nil)
}

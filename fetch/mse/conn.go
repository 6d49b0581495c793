package mse

import (
	"bufio"
	"context"
	"crypto/rc4"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// conn is a connection after the handshake. One goroutine may read while others write.
type conn struct {
	net.Conn
	br        *bufio.Reader // what was read ahead during the handshake
	in        *rc4.Cipher   // nil: plaintext
	encrypted int           // bytes until the peer sends plaintext; -1: never

	mu     sync.Mutex  // guards what follows
	out    *rc4.Cipher // nil: plaintext
	buf    []byte
	sealed []byte // what of it is still to be sent: the cipher can't go back
}

func (c *conn) Read(p []byte) (int, error) {
	if c.encrypted > 0 {
		p = p[:min(len(p), c.encrypted)]
	}
	var r io.Reader = c.Conn
	if c.br.Buffered() > 0 {
		r = c.br
	}
	n, err := r.Read(p)
	if c.encrypted != 0 && c.in != nil {
		c.in.XORKeyStream(p[:n], p[:n])
		if c.encrypted > 0 {
			c.encrypted -= n
		}
	}
	return n, err
}

// writeSize is how many bytes are encrypted at once.
const writeSize = 32 << 10

// Write implements net.Conn. After one that failed at its deadline, the next has to begin with what that one did not write.
func (c *conn) Write(p []byte) (written int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		return c.Conn.Write(p)
	}
	if c.buf == nil {
		c.buf = make([]byte, writeSize)
	}
	for len(p) > 0 && err == nil {
		if len(c.sealed) == 0 {
			c.sealed = c.buf[:min(len(p), writeSize)]
			c.out.XORKeyStream(c.sealed, p[:len(c.sealed)])
		}
		var n int
		n, err = c.Conn.Write(c.sealed[:min(len(p), len(c.sealed))])
		c.sealed = c.sealed[n:]
		written += n
		p = p[n:]
	}
	return written, err
}

// plainStart is how a plaintext connection begins (BEP 3).
const plainStart = "\x13BitTorrent protocol"

// Sniff reads the beginning of what a peer that dialled us sends, and says whether it is plaintext. The connection that it
// returns gives all that was read again. It ends with ctx; on error nc is closed.
func Sniff(ctx context.Context, nc net.Conn) (again net.Conn, plain bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	c := &replay{Conn: nc, head: make([]byte, len(plainStart))}
	_, err = io.ReadFull(nc, c.head)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, false, errors.Join(ctx.Err(), err)
	}
	return c, string(c.head) == plainStart, nil
}

// replay gives head before what comes from the connection.
type replay struct {
	net.Conn
	head []byte
}

func (c *replay) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

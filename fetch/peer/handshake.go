package peer

import (
	"context"
	"errors"
	"net"
	"time"

	"torrentfs/fetch/wire"
)

// ErrSelf says that the peer at the other end is this very process.
var ErrSelf = errors.New("connected to ourselves")

// ErrWrongTorrent says that the peer answered for another torrent, or asked for one that we don't have.
var ErrWrongTorrent = errors.New("another torrent's info-hash")

// shake is the handshake of our side.
func (t *Torrent) shake() wire.Handshake {
	return wire.Handshake{
		Features: wire.Features{Fast: true, Extended: true, DHT: t.DHTPort != 0}, InfoHash: t.InfoHash, PeerID: t.PeerID,
	}
}

// Initiate shakes hands over a connection that we dialled, within ctx. On error nc is closed.
func Initiate(ctx context.Context, nc net.Conn, t *Torrent) (*Conn, error) {
	stop := closeWhenDone(ctx, nc)
	defer stop()
	sent := time.Now()
	theirs, err := exchange(nc, func() (wire.Handshake, error) {
		if _, err := nc.Write(t.shake().Append(nil)); err != nil {
			return wire.Handshake{}, err
		}
		return wire.ReadHandshake(nc)
	})
	if err == nil && theirs.InfoHash != t.InfoHash {
		err = ErrWrongTorrent
	}
	if err == nil && theirs.PeerID == t.PeerID {
		err = ErrSelf
	}
	if err != nil {
		_ = nc.Close()
		return nil, errors.Join(ctx.Err(), err)
	}
	c := newConn(nc, t, theirs)
	c.rtt = time.Since(sent)
	return c, nil
}

// Resume goes on with a connection whose handshake is done and whose peer was told that we have no piece, since the pieces
// were not known yet. Reading nc begins with what the peer said after its handshake, theirs; rtt is how long that took, or 0
// when the peer dialled us, which incoming says.
func Resume(nc net.Conn, t *Torrent, theirs wire.Handshake, rtt time.Duration, incoming bool) *Conn {
	c := newConn(nc, t, theirs)
	c.resumed, c.rtt, c.incoming = true, rtt, incoming
	return c
}

// Detach gives a connection that was not started to somebody else, who owns it from then on. Resume is the way back.
func (c *Conn) Detach() (nc net.Conn, theirs wire.Handshake) {
	return c.nc, wire.Handshake{Features: c.features, InfoHash: c.torrent.InfoHash, PeerID: c.id}
}

// Receive answers the handshake of a peer that dialled us, within ctx; lookup gives the torrent by its info-hash, nil when
// there is none. On error nc is closed.
func Receive(ctx context.Context, nc net.Conn, lookup func(infoHash [20]byte) *Torrent) (*Conn, error) {
	stop := closeWhenDone(ctx, nc)
	defer stop()
	var t *Torrent
	theirs, err := exchange(nc, func() (wire.Handshake, error) {
		theirs, err := wire.ReadHandshake(nc)
		if err != nil {
			return theirs, err
		}
		if t = lookup(theirs.InfoHash); t == nil {
			return theirs, ErrWrongTorrent
		}
		if theirs.PeerID == t.PeerID {
			return theirs, ErrSelf
		}
		_, err = nc.Write(t.shake().Append(nil))
		return theirs, err
	})
	if err != nil {
		_ = nc.Close()
		return nil, errors.Join(ctx.Err(), err)
	}
	c := newConn(nc, t, theirs)
	c.incoming = true
	return c, nil
}

// exchange runs a handshake and leaves the connection without a deadline after it.
func exchange(nc net.Conn, shake func() (wire.Handshake, error)) (wire.Handshake, error) {
	h, err := shake()
	if err != nil {
		return h, err
	}
	return h, nc.SetDeadline(time.Time{})
}

// closeWhenDone makes I/O on nc fail once ctx ends, until stop is called.
func closeWhenDone(ctx context.Context, nc net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
}

package wire

import (
	"errors"
	"fmt"
	"io"
)

// HandshakeSize is the length of a handshake in bytes (BEP 3).
const HandshakeSize = 1 + len(protocol) + 8 + 20 + 20

const protocol = "BitTorrent protocol"

// ErrNotBitTorrent says that the other side does not speak the protocol (or speaks it encrypted).
var ErrNotBitTorrent = errors.New("not a BitTorrent handshake")

// Features are the extensions that a handshake's reserved bits announce.
type Features struct {
	Fast     bool // BEP 6
	Extended bool // BEP 10
	DHT      bool // BEP 5
}

// Handshake is the first thing that each side of a connection sends (BEP 3).
type Handshake struct {
	Features Features
	InfoHash [20]byte
	PeerID   [20]byte
}

// Append appends the handshake's bytes to b.
func (h Handshake) Append(b []byte) []byte {
	b = append(b, byte(len(protocol)))
	b = append(b, protocol...)
	var reserved [8]byte
	if h.Features.Extended {
		reserved[5] |= 0x10
	}
	if h.Features.Fast {
		reserved[7] |= 0x04
	}
	if h.Features.DHT {
		reserved[7] |= 0x01
	}
	b = append(b, reserved[:]...)
	b = append(b, h.InfoHash[:]...)
	return append(b, h.PeerID[:]...)
}

// ReadHandshake reads one handshake and not a byte more. What is not one gives ErrNotBitTorrent.
func ReadHandshake(r io.Reader) (Handshake, error) {
	var b [HandshakeSize]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return Handshake{}, fmt.Errorf("reading the handshake: %w", err)
	}
	if int(b[0]) != len(protocol) {
		return Handshake{}, ErrNotBitTorrent
	}
	if _, err := io.ReadFull(r, b[1:]); err != nil {
		return Handshake{}, fmt.Errorf("reading the handshake: %w", err)
	}
	if string(b[1:20]) != protocol {
		return Handshake{}, ErrNotBitTorrent
	}
	reserved := b[20:28]
	h := Handshake{Features: Features{
		Extended: reserved[5]&0x10 != 0,
		Fast:     reserved[7]&0x04 != 0,
		DHT:      reserved[7]&0x01 != 0,
	}}
	copy(h.InfoHash[:], b[28:48])
	copy(h.PeerID[:], b[48:68])
	return h, nil
}

// Package mse hides connections between peers from who looks at them in passing: message stream encryption, also called
// protocol encryption (https://wiki.vuze.com/w/Message_Stream_Encryption). It keeps nothing secret from anybody who knows
// the info-hash and sits in between, and is no substitute for the verification of pieces.
//
// It owns the handshake of that protocol and the connection that comes of it. It never dials, and holds nothing that a
// peer sends before it is needed: all padding is read and dropped, and bounded.
package mse

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rc4"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"time"
)

// Method is a set of ways to send what follows the handshake, as on the wire.
type Method uint32

const (
	// Plain is plaintext: only the handshake is hidden.
	Plain Method = 1
	// RC4 hides everything.
	RC4 Method = 2
)

const (
	keySize = 96  // bytes of a Diffie-Hellman key
	maxPad  = 512 // bytes of each padding
	discard = 1024
	// readSize holds more than both sides send before they must have heard of each other.
	readSize = 2 << 10
)

var (
	prime, _ = new(big.Int).SetString("FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"+
		"020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563", 16)
	primeLess1 = new(big.Int).Sub(prime, big.NewInt(1))
	generator  = big.NewInt(2)
)

var (
	// ErrNoKey says that the peer asked for a torrent that we don't have.
	ErrNoKey = errors.New("encrypted for no torrent of ours")
	// ErrNoMethod says that the two sides have no method in common.
	ErrNoMethod = errors.New("no common method of encryption")
	errSync     = errors.New("not an encrypted handshake")
	errKey      = errors.New("a public key that gives the secret away")
)

// Initiate shakes hands over a connection that we dialled, within ctx, offering some methods; key is the info-hash. On
// error nc is closed.
func Initiate(ctx context.Context, nc net.Conn, key [20]byte, offer Method) (net.Conn, error) {
	return shake(ctx, nc, func(br *bufio.Reader) (*conn, error) {
		s, err := agree(nc, br, nil)
		if err != nil {
			return nil, err
		}
		return s.initiate(nc, br, key, offer)
	})
}

// Receive answers the handshake of a peer that dialled us, within ctx, with the first of the methods in accept that the
// peer offers. find gives the info-hash of which match is true. On error nc is closed.
func Receive(ctx context.Context, nc net.Conn, accept []Method, find func(match func(key [20]byte) bool) ([20]byte, bool)) (net.Conn, error) {
	return shake(ctx, nc, func(br *bufio.Reader) (*conn, error) {
		s, err := agree(nc, br, br)
		if err != nil {
			return nil, err
		}
		return s.receive(nc, br, accept, find)
	})
}

// shake runs a handshake within ctx and leaves the connection without a deadline.
func shake(ctx context.Context, nc net.Conn, run func(*bufio.Reader) (*conn, error)) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	c, err := run(bufio.NewReaderSize(nc, readSize))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("encryption: %w", errors.Join(ctx.Err(), err))
	}
	return c, nil
}

// secret is what both sides know after the exchange of keys.
type secret [keySize]byte

// agree exchanges keys. Who was dialled waits for the peer's before it spends anything: first is then where it comes from.
func agree(w io.Writer, r, first *bufio.Reader) (*secret, error) {
	if first != nil {
		if _, err := first.Peek(keySize); err != nil {
			return nil, err
		}
	}
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	x := new(big.Int).SetBytes(b[:])
	ours := new(big.Int).Exp(generator, x, prime).FillBytes(make([]byte, keySize))
	if _, err := w.Write(append(ours, padding()...)); err != nil {
		return nil, err
	}
	var theirs [keySize]byte
	if _, err := io.ReadFull(r, theirs[:]); err != nil {
		return nil, err
	}
	y := new(big.Int).SetBytes(theirs[:])
	if y.Cmp(big.NewInt(1)) <= 0 || y.Cmp(primeLess1) >= 0 {
		return nil, errKey
	}
	var s secret
	y.Exp(y, x, prime).FillBytes(s[:])
	return &s, nil
}

// padding is random bytes, up to maxPad of them.
func padding() []byte {
	var n [2]byte
	_, _ = rand.Read(n[:])
	pad := make([]byte, binary.BigEndian.Uint16(n[:])%(maxPad+1))
	_, _ = rand.Read(pad)
	return pad
}

func hash(parts ...[]byte) (sum [20]byte) {
	h := sha1.New()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// proof shows that its sender knows the info-hash, without telling it.
func (s *secret) proof(key [20]byte) [20]byte {
	a, b := hash([]byte("req2"), key[:]), hash([]byte("req3"), s[:])
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

// stream is the cipher of one direction: keyA of who dialled, keyB of who was dialled.
func (s *secret) stream(direction string, key [20]byte) *rc4.Cipher {
	k := hash([]byte(direction), s[:], key[:])
	c, _ := rc4.NewCipher(k[:]) // of 20 bytes: never fails
	var burnt [discard]byte
	c.XORKeyStream(burnt[:], burnt[:])
	return c
}

// initiate is what who dialled does after the exchange of keys.
func (s *secret) initiate(nc net.Conn, br *bufio.Reader, key [20]byte, offer Method) (*conn, error) {
	req1, proof := hash([]byte("req1"), s[:]), s.proof(key)
	out, in := s.stream("keyA", key), s.stream("keyB", key)
	b := append(req1[:], proof[:]...)
	b = append(b, terms(out, offer, true)...)
	if _, err := nc.Write(b); err != nil {
		return nil, err
	}
	var mark [8]byte // eight zeros, encrypted
	in.XORKeyStream(mark[:], mark[:])
	if err := align(br, mark[:]); err != nil {
		return nil, err
	}
	r := &cipherReader{br, in}
	chosen, err := readTerms(r)
	if err != nil {
		return nil, err
	}
	switch chosen & offer {
	case RC4:
		return &conn{Conn: nc, br: br, in: in, encrypted: -1, out: out}, nil
	case Plain:
		return &conn{Conn: nc, br: br}, nil
	}
	return nil, ErrNoMethod
}

// receive is what who was dialled does after the exchange of keys.
func (s *secret) receive(nc net.Conn, br *bufio.Reader, accept []Method, find func(func([20]byte) bool) ([20]byte, bool)) (*conn, error) {
	req1 := hash([]byte("req1"), s[:])
	if err := align(br, req1[:]); err != nil {
		return nil, err
	}
	var proof [20]byte
	if _, err := io.ReadFull(br, proof[:]); err != nil {
		return nil, err
	}
	key, ok := find(func(key [20]byte) bool { return s.proof(key) == proof })
	if !ok {
		return nil, ErrNoKey
	}
	in, out := s.stream("keyA", key), s.stream("keyB", key)
	r := &cipherReader{br, in}
	var zeros [8]byte
	if _, err := io.ReadFull(r, zeros[:]); err != nil {
		return nil, err
	}
	if zeros != [8]byte{} {
		return nil, errSync
	}
	offered, err := readTerms(r)
	if err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(accept, func(m Method) bool { return offered&m != 0 })
	if i < 0 {
		return nil, ErrNoMethod
	}
	chosen := accept[i]
	if _, err := nc.Write(terms(out, chosen, false)); err != nil {
		return nil, err
	}
	if chosen == RC4 {
		return &conn{Conn: nc, br: br, in: in, encrypted: -1, out: out}, nil
	}
	// What the peer sent along with its handshake is encrypted even so.
	return &conn{Conn: nc, br: br, in: in, encrypted: int(binary.BigEndian.Uint16(length[:]))}, nil
}

// terms are the encrypted end of a handshake: zeros, methods, padding, and of who dialled, that nothing else comes along.
func terms(out *rc4.Cipher, m Method, dialled bool) []byte {
	pad := padding()
	b := binary.BigEndian.AppendUint32(make([]byte, 8), uint32(m))
	b = binary.BigEndian.AppendUint16(b, uint16(len(pad)))
	b = append(b, pad...)
	if dialled {
		b = append(b, 0, 0)
	}
	out.XORKeyStream(b, b)
	return b
}

// readTerms reads methods and padding.
func readTerms(r io.Reader) (Method, error) {
	var b [6]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint16(b[4:])
	if n > maxPad {
		return 0, fmt.Errorf("padding of %d bytes", n)
	}
	_, err := io.CopyN(io.Discard, r, int64(n))
	return Method(binary.BigEndian.Uint32(b[:])), err
}

// align reads up to the end of mark, which follows at most maxPad bytes of padding.
func align(br *bufio.Reader, mark []byte) error {
	var last [20]byte
	window := last[:len(mark)]
	if _, err := io.ReadFull(br, window); err != nil {
		return err
	}
	for range maxPad {
		if string(window) == string(mark) {
			return nil
		}
		b, err := br.ReadByte()
		if err != nil {
			return err
		}
		copy(window, window[1:])
		window[len(window)-1] = b
	}
	if string(window) == string(mark) {
		return nil
	}
	return errSync
}

// cipherReader decrypts.
type cipherReader struct {
	r io.Reader
	c *rc4.Cipher
}

func (r *cipherReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.c.XORKeyStream(p[:n], p[:n])
	return n, err
}

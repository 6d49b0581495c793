// Package wire turns peer messages into bytes and bytes into peer messages: the handshake, the messages of BEP 3, the
// fast extension (BEP 6), the extension protocol's envelope and handshake (BEP 10). It bounds every length before it
// allocates. It owns no goroutine, no socket and no opinion: whether a message makes sense now is the caller's to say.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// BlockSize is the size in bytes of the blocks that requests ask for; every client in the field serves it.
const BlockSize = 16 << 10

// ID is the type of a message, its first byte.
type ID uint8

// The messages of BEP 3, BEP 5 (Port), BEP 6 (Suggest to AllowedFast) and BEP 10 (Extended). KeepAlive, the message
// without a body, has no byte of its own on the wire; the number here is ours.
const (
	Choke         ID = 0
	Unchoke       ID = 1
	Interested    ID = 2
	NotInterested ID = 3
	Have          ID = 4
	Bitfield      ID = 5
	Request       ID = 6
	Piece         ID = 7
	Cancel        ID = 8
	Port          ID = 9
	Suggest       ID = 13
	HaveAll       ID = 14
	HaveNone      ID = 15
	Reject        ID = 16
	AllowedFast   ID = 17
	Extended      ID = 20
	KeepAlive     ID = 255
)

var names = map[ID]string{
	Choke: "choke", Unchoke: "unchoke", Interested: "interested", NotInterested: "not interested", Have: "have",
	Bitfield: "bitfield", Request: "request", Piece: "piece", Cancel: "cancel", Port: "port", Suggest: "suggest",
	HaveAll: "have all", HaveNone: "have none", Reject: "reject", AllowedFast: "allowed fast", Extended: "extended",
	KeepAlive: "keep-alive",
}

// String returns the message's name as the BEPs spell it.
func (id ID) String() string {
	if n, ok := names[id]; ok {
		return n
	}
	return fmt.Sprintf("message %d", uint8(id))
}

// Message is one message of any type; which fields count depends on ID. Data refers to the reader's buffer and is good
// until the next call of Reader.Next.
type Message struct {
	ID     ID
	Index  uint32 // piece: Have, Request, Piece, Cancel, Suggest, Reject, AllowedFast; the port of Port
	Begin  uint32 // bytes into the piece: Request, Piece, Cancel, Reject
	Length uint32 // bytes: Request, Cancel, Reject; of Piece the length of Data
	Ext    uint8  // Extended: the extended message's number, 0 for the handshake
	Data   []byte // Bitfield: the bits; Piece: the block; Extended: the payload
}

// ErrMalformed is wrapped by every error that says a peer broke the protocol's framing.
var ErrMalformed = errors.New("malformed message")

// fixed gives the body length of the messages whose length never varies, the type byte included.
var fixed = map[ID]int{
	Choke: 1, Unchoke: 1, Interested: 1, NotInterested: 1, Have: 5, Request: 13, Cancel: 13, Port: 3,
	Suggest: 5, HaveAll: 1, HaveNone: 1, Reject: 13, AllowedFast: 5,
}

// parse reads a message from its body, the length prefix taken off; an empty body is a keep-alive.
func parse(body []byte) (Message, error) {
	if len(body) == 0 {
		return Message{ID: KeepAlive}, nil
	}
	m := Message{ID: ID(body[0])}
	if want, ok := fixed[m.ID]; ok && len(body) != want {
		return m, fmt.Errorf("%w: %v of %d bytes, not %d", ErrMalformed, m.ID, len(body), want)
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(body[at:]) }
	switch m.ID {
	case Have, Suggest, AllowedFast:
		m.Index = u32(1)
	case Request, Cancel, Reject:
		m.Index, m.Begin, m.Length = u32(1), u32(5), u32(9)
	case Piece:
		if len(body) < 9 {
			return m, fmt.Errorf("%w: piece of %d bytes", ErrMalformed, len(body))
		}
		m.Index, m.Begin, m.Length, m.Data = u32(1), u32(5), uint32(len(body)-9), body[9:]
	case Port:
		m.Index = uint32(binary.BigEndian.Uint16(body[1:]))
	case Bitfield:
		m.Data = body[1:]
	case Extended:
		if len(body) < 2 {
			return m, fmt.Errorf("%w: extended message without a number", ErrMalformed)
		}
		m.Ext, m.Data = body[1], body[2:]
	}
	return m, nil
}

// Append appends the message's bytes, length prefix included, to b.
func (m Message) Append(b []byte) []byte {
	if m.ID == KeepAlive {
		return append(b, 0, 0, 0, 0)
	}
	start := len(b)
	b = append(b, 0, 0, 0, 0, byte(m.ID))
	switch m.ID {
	case Have, Suggest, AllowedFast:
		b = binary.BigEndian.AppendUint32(b, m.Index)
	case Request, Cancel, Reject:
		b = binary.BigEndian.AppendUint32(b, m.Index)
		b = binary.BigEndian.AppendUint32(b, m.Begin)
		b = binary.BigEndian.AppendUint32(b, m.Length)
	case Piece:
		b = binary.BigEndian.AppendUint32(b, m.Index)
		b = binary.BigEndian.AppendUint32(b, m.Begin)
		b = append(b, m.Data...)
	case Port:
		b = binary.BigEndian.AppendUint16(b, uint16(m.Index))
	case Bitfield:
		b = append(b, m.Data...)
	case Extended:
		b = append(b, m.Ext)
		b = append(b, m.Data...)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// PieceHeaderSize is the number of bytes of a Piece message before its block.
const PieceHeaderSize = 13

// AppendPieceHeader appends what comes before a block of n bytes, so that the block itself is sent from where it lies.
func AppendPieceHeader(b []byte, index, begin uint32, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(n+9))
	b = append(b, byte(Piece))
	b = binary.BigEndian.AppendUint32(b, index)
	return binary.BigEndian.AppendUint32(b, begin)
}

const (
	smallest = BlockSize + PieceHeaderSize // holds one block's message
	largest  = 256 << 10                   // how far a busy connection's buffer grows
)

// Reader reads messages from a connection into a buffer of its own, which starts at one block and grows to 256 KiB while
// the peer keeps it full, so that a fast peer costs few system calls and a slow one little memory.
type Reader struct {
	src        io.Reader
	buf        []byte
	start, end int // what is read and not yet parsed
	limit      int // bytes of the longest body accepted
}

// NewReader reads from src messages of bodies up to limit bytes; a Bitfield's or an extension's needs set it.
func NewReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, buf: make([]byte, smallest), limit: max(limit, smallest)}
}

// Buffered reports whether the next message is here whole, so that Next will not wait for the peer.
func (r *Reader) Buffered() bool {
	have := r.end - r.start
	return have >= 4 && uint64(have-4) >= uint64(binary.BigEndian.Uint32(r.buf[r.start:]))
}

// Rest returns the bytes that were read and not yet returned by Next, for whoever reads on in its place.
func (r *Reader) Rest() []byte { return r.buf[r.start:r.end] }

// Next returns the next message; its Data is good until the next call. Errors of framing wrap ErrMalformed, others are
// the connection's; io.EOF only between two messages.
func (r *Reader) Next() (Message, error) {
	if err := r.need(4); err != nil {
		return Message{}, err
	}
	n := binary.BigEndian.Uint32(r.buf[r.start:])
	if uint64(n) > uint64(r.limit) {
		return Message{}, fmt.Errorf("%w: of %d bytes, over the limit of %d", ErrMalformed, n, r.limit)
	}
	if err := r.need(4 + int(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Message{}, err
	}
	body := r.buf[r.start+4 : r.start+4+int(n)]
	r.start += 4 + int(n)
	return parse(body)
}

// need reads until n bytes are buffered.
func (r *Reader) need(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.start+n > len(r.buf) {
		r.makeRoom(n)
	}
	for r.end-r.start < n {
		got, err := r.src.Read(r.buf[r.end:])
		r.end += got
		if r.end-r.start >= n {
			break
		}
		if err != nil {
			if errors.Is(err, io.EOF) && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// makeRoom moves what is buffered to the front, into a larger buffer when this one is too small or was filled whole.
func (r *Reader) makeRoom(n int) {
	size := len(r.buf)
	if r.end == size && size < largest {
		size = min(2*size, largest)
	}
	size = max(size, n)
	dst := r.buf
	if size > len(r.buf) {
		dst = make([]byte, size)
	}
	r.end = copy(dst, r.buf[r.start:r.end])
	r.start, r.buf = 0, dst
}

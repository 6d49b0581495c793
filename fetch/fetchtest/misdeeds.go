package fetchtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"torrentfs/fetch/wire"
)

// Misdeed is one way in which a peer can be bad.
type Misdeed struct {
	Name    string
	Liar    bool           // answers requests with wrong bytes: it is to be banned
	Conduct func() Conduct // with state of its own for each peer
}

// Misdeeds are all the kinds of hostile, broken and useless peers that there are here.
func Misdeeds() []Misdeed {
	var all []Misdeed
	for _, some := range [][]Misdeed{handshakes(), framing(), pieces(), blocks(), lies(), requests(), fast(), extended()} {
		all = append(all, some...)
	}
	return all
}

// plain is a Misdeed that is the same for every peer.
func plain(name string, c Conduct) Misdeed {
	return Misdeed{Name: name, Conduct: func() Conduct { return c }}
}

// Silent accepts a connection and says nothing, not even a handshake.
var Silent = Conduct{Shake: func(s *Session) error { return s.Pause(time.Hour) }}

// Mute shakes hands, claims everything, unchokes, and never answers a request.
var Mute = Conduct{Answer: func(*Session, wire.Message) error { return nil }}

// HangUp ends a connection after n bytes of the handshake.
func HangUp(n int) Conduct {
	return Conduct{Shake: func(s *Session) error {
		b := wire.Handshake{Features: everything, InfoHash: s.Content.InfoHash, PeerID: s.ID}.Append(nil)
		_ = s.Write(b[:n])
		return errOver
	}}
}

func handshakes() []Misdeed {
	raw := func(name string, answer func(s *Session) []byte) Misdeed {
		return plain(name, Conduct{Shake: func(s *Session) error {
			theirs, err := wire.ReadHandshake(s.Conn)
			if err != nil {
				return err
			}
			s.Theirs = theirs
			return s.Write(answer(s))
		}})
	}
	var cut atomic.Int64 // each connection is cut one byte later than the one before
	return []Misdeed{
		raw("another info-hash", func(s *Session) []byte {
			return wire.Handshake{Features: everything, InfoHash: [20]byte{1, 2, 3}, PeerID: s.ID}.Append(nil)
		}),
		raw("our own peer id", func(s *Session) []byte {
			return wire.Handshake{Features: everything, InfoHash: s.Content.InfoHash, PeerID: s.Theirs.PeerID}.Append(nil)
		}),
		raw("a web server", func(*Session) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat(" ", 100)) }),
		raw("garbage after the handshake", func(s *Session) []byte {
			b := wire.Handshake{Features: everything, InfoHash: s.Content.InfoHash, PeerID: s.ID}.Append(nil)
			return append(b, bytes.Repeat([]byte{0x7f, 0xff, 0x13, 0x37}, 1000)...)
		}),
		plain("no handshake", Silent),
		plain("a handshake that trickles", Conduct{Shake: func(s *Session) error {
			for _, b := range (wire.Handshake{Features: everything, InfoHash: s.Content.InfoHash, PeerID: s.ID}).Append(nil) {
				if err := s.Write([]byte{b}); err != nil {
					return err
				}
				if err := s.Pause(time.Second); err != nil {
					return err
				}
			}
			return nil
		}}),
		plain("hangs up within the handshake", Conduct{Shake: func(s *Session) error {
			return HangUp(int(cut.Add(1)-1) % wire.HandshakeSize).Shake(s)
		}}),
		plain("hangs up after the handshake", Conduct{Greet: func(*Session) error { return errOver }}),
	}
}

// Flood sends b over and over, at up to 2 MiB/s, until the connection ends.
func (s *Session) Flood(b []byte) error {
	chunk := bytes.Repeat(b, max(1, (32<<10)/len(b)))
	for {
		if err := s.Write(chunk); err != nil {
			return err
		}
		if err := s.Pause(time.Duration(len(chunk)) * time.Second / (2 << 20)); err != nil {
			return err
		}
	}
}

func flood(name string, what func(s *Session) []byte) Misdeed {
	return plain(name, Conduct{Beside: func(s *Session) error { return s.Flood(what(s)) }})
}

func framing() []Misdeed {
	return []Misdeed{
		plain("a message of 4 GiB", Conduct{Greet: func(s *Session) error { return s.Write([]byte{0xff, 0xff, 0xff, 0xff, 7}) }}),
		plain("a message of 256 MiB that does come", Conduct{Beside: func(s *Session) error {
			if err := s.Write([]byte{0x10, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
				return err
			}
			return s.Flood(make([]byte, 32<<10))
		}}),
		flood("a flood of keep-alives", func(*Session) []byte { return make([]byte, 4) }),
		flood("a flood of unknown messages", func(*Session) []byte { return []byte{0, 0, 0, 2, 99, 0} }),
		flood("a flood of ports", func(*Session) []byte { return wire.Message{ID: wire.Port, Index: 1}.Append(nil) }),
		plain("a choke of two bytes", Conduct{Greet: func(s *Session) error { return s.Write([]byte{0, 0, 0, 2, 0, 0}) }}),
		plain("half a message", Conduct{Greet: func(s *Session) error { return s.Write([]byte{0, 0, 0, 13, 6, 0}) }}),
		plain("never reads", Conduct{
			Beside: func(s *Session) error { return s.Send(wire.Message{ID: wire.Unchoke}) },
			Heed:   func(s *Session, _ wire.Message) (bool, error) { return true, s.Pause(time.Hour) },
		}),
	}
}

func pieces() []Misdeed {
	greet := func(name string, ms func(s *Session) []wire.Message) Misdeed {
		return plain(name, Conduct{Greet: func(s *Session) error { return s.Send(ms(s)...) }})
	}
	bits := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
	size := func(s *Session) int { return (s.Content.NumPieces() + 7) / 8 }
	return []Misdeed{
		greet("a short bitfield", func(s *Session) []wire.Message {
			return []wire.Message{{ID: wire.Bitfield, Data: bits(size(s) - 1)}}
		}),
		greet("a long bitfield", func(s *Session) []wire.Message {
			return []wire.Message{{ID: wire.Bitfield, Data: bits(size(s) + 1)}}
		}),
		greet("spare bits", func(s *Session) []wire.Message { return []wire.Message{{ID: wire.Bitfield, Data: bits(size(s))}} }),
		greet("two bitfields", func(s *Session) []wire.Message {
			m := wire.Message{ID: wire.Bitfield, Data: make([]byte, size(s))}
			return []wire.Message{m, m}
		}),
		greet("a piece out of range", func(s *Session) []wire.Message {
			return []wire.Message{s.Having(), {ID: wire.Have, Index: uint32(s.Content.NumPieces())}}
		}),
		flood("a flood of haves", func(*Session) []byte { return wire.Message{ID: wire.Have}.Append(nil) }),
		flood("has a piece, has it not, and so on", func(*Session) []byte {
			b := wire.Message{ID: wire.Have, Index: 1}.Append(nil)
			return wire.Message{ID: wire.Extended, Ext: 3, Data: []byte{0, 0, 0, 1}}.Append(b) // lt_donthave
		}),
		plain("claims what it lacks and never answers", Mute),
		plain("claims what it lacks and rejects", Conduct{Answer: func(s *Session, m wire.Message) error { return s.reject(m) }}),
		plain("never unchokes", Conduct{Heed: func(_ *Session, m wire.Message) (bool, error) { return m.ID == wire.Interested, nil }}),
		plain("chokes and unchokes in a loop", Conduct{
			Answer: Mute.Answer,
			Beside: func(s *Session) error {
				for yes := true; ; yes = !yes {
					if err := s.Unchoke(yes); err != nil {
						return err
					}
					if err := s.Pause(50 * time.Millisecond); err != nil {
						return err
					}
				}
			},
		}),
		flood("a flood of chokes and unchokes", func(*Session) []byte {
			return wire.Message{ID: wire.Unchoke}.Append(wire.Message{ID: wire.Choke}.Append(nil))
		}),
	}
}

// answer is a Misdeed that sends, for each request, what it makes of the right answer.
func answer(name string, f func(s *Session, req wire.Message, right []byte) error) Misdeed {
	return plain(name, Conduct{Answer: func(s *Session, req wire.Message) error { return f(s, req, s.Block(req)) }})
}

func blocks() []Misdeed {
	return []Misdeed{
		answer("short blocks", func(s *Session, req wire.Message, right []byte) error { return s.Give(req, right[:len(right)-1]) }),
		answer("long blocks", func(s *Session, req wire.Message, right []byte) error { return s.Give(req, append(right, 0)) }),
		answer("empty blocks", func(s *Session, req wire.Message, _ []byte) error { return s.Give(req, nil) }),
		answer("each block twice", func(s *Session, req wire.Message, right []byte) error {
			if err := s.Give(req, right); err != nil {
				return err
			}
			return s.Give(req, right)
		}),
		answer("each block twice, the second time wrong", func(s *Session, req wire.Message, right []byte) error {
			if err := s.Give(req, right); err != nil {
				return err
			}
			return s.Send(wire.Message{ID: wire.Piece, Index: req.Index, Begin: req.Begin, Data: make([]byte, len(right))})
		}),
		answer("blocks that overlap", func(s *Session, req wire.Message, right []byte) error {
			req.Begin += uint32(len(right) / 2)
			return s.Send(wire.Message{ID: wire.Piece, Index: req.Index, Begin: req.Begin, Data: right})
		}),
		answer("blocks of another piece", func(s *Session, req wire.Message, _ []byte) error {
			other := req // and they are right, for it may be asked for that one too
			other.Index = (req.Index + 1) % uint32(s.Content.NumPieces())
			return s.Send(wire.Message{ID: wire.Piece, Index: other.Index, Begin: other.Begin, Data: s.Block(other)})
		}),
		answer("blocks out of range", func(s *Session, req wire.Message, right []byte) error {
			return s.Send(wire.Message{ID: wire.Piece, Index: 1 << 31, Begin: 1 << 31, Data: right})
		}),
		plain("a flood of blocks that nobody asked for", Conduct{Beside: func(s *Session) error {
			return s.Flood(wire.Message{ID: wire.Piece, Data: s.Block(wire.Message{Length: wire.BlockSize})}.Append(nil))
		}}),
		answer("late blocks", func(s *Session, req wire.Message, right []byte) error {
			if err := s.Pause(3 * time.Second); err != nil {
				return err
			}
			return s.Give(req, right)
		}),
		answer("a byte a second", func(s *Session, req wire.Message, right []byte) error {
			for _, b := range (wire.Message{ID: wire.Piece, Index: req.Index, Begin: req.Begin, Data: right}).Append(nil) {
				if err := s.Write([]byte{b}); err != nil {
					return err
				}
				if err := s.Pause(time.Second); err != nil {
					return err
				}
			}
			return nil
		}),
		answer("hangs up after a block", func(s *Session, req wire.Message, right []byte) error {
			_ = s.Give(req, right)
			return errOver
		}),
		answer("hangs up within a block", func(s *Session, req wire.Message, right []byte) error {
			b := wire.Message{ID: wire.Piece, Index: req.Index, Begin: req.Begin, Data: right}.Append(nil)
			_ = s.Write(b[:len(b)/2])
			return errOver
		}),
		answer("resets the connection within a block", func(s *Session, req wire.Message, right []byte) error {
			b := wire.Message{ID: wire.Piece, Index: req.Index, Begin: req.Begin, Data: right}.Append(nil)
			_ = s.Write(b[:len(b)/2])
			if tcp, ok := s.Conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			return errOver
		}),
	}
}

// Corrupt is the conduct of a liar: wrong says which requests it answers with a wrong byte. It may keep state.
func Corrupt(wrong func(req wire.Message) bool) Conduct {
	return Conduct{Answer: func(s *Session, req wire.Message) error {
		block := s.Block(req)
		if wrong(req) {
			block[len(block)/2] ^= 1
		}
		return s.Give(req, block)
	}}
}

func lies() []Misdeed {
	liar := func(name string, conduct func() Conduct) Misdeed {
		return Misdeed{Name: name, Liar: true, Conduct: conduct}
	}
	return []Misdeed{
		liar("corrupts every block", func() Conduct { return Corrupt(func(wire.Message) bool { return true }) }),
		liar("corrupts one block in a hundred", func() Conduct {
			var n atomic.Int64
			return Corrupt(func(wire.Message) bool { return n.Add(1)%100 == 50 })
		}),
		liar("corrupts the second block of each piece", func() Conduct {
			return Corrupt(func(req wire.Message) bool { return req.Begin == wire.BlockSize })
		}),
		liar("corrupts the last block of each piece", func() Conduct {
			return Conduct{Answer: func(s *Session, req wire.Message) error {
				block := s.Block(req)
				if int64(req.Begin)+int64(req.Length) == s.Content.PieceSize(int(req.Index)) {
					block[len(block)-1]++
				}
				return s.Give(req, block)
			}}
		}),
		liar("sends zeros", func() Conduct {
			return Conduct{Answer: func(s *Session, req wire.Message) error { return s.Give(req, make([]byte, req.Length)) }}
		}),
		liar("sends the block before", func() Conduct {
			return Conduct{Answer: func(s *Session, req wire.Message) error {
				other := req
				other.Index = (req.Index + 1) % uint32(s.Content.NumPieces())
				block := s.Block(other)
				if len(block) == 0 { // the last piece is short
					block = make([]byte, req.Length)
				}
				return s.Give(req, block)
			}}
		}),
	}
}

func requests() []Misdeed {
	ask := func(m wire.Message) func(*Session) []byte {
		return func(*Session) []byte { return m.Append(nil) }
	}
	deaf := func(*Session, wire.Message) (bool, error) { return true, nil }
	return []Misdeed{
		flood("a flood of requests", ask(wire.Message{ID: wire.Request, Length: wire.BlockSize})),
		plain("a flood of requests, answers not read", Conduct{
			Heed: func(s *Session, _ wire.Message) (bool, error) { return true, s.Pause(time.Hour) },
			Beside: func(s *Session) error {
				if err := s.Send(wire.Message{ID: wire.Interested}); err != nil {
					return err
				}
				return s.Flood(wire.Message{ID: wire.Request, Length: wire.BlockSize}.Append(nil))
			},
		}),
		flood("a flood of requests and cancels", func(*Session) []byte {
			b := wire.Message{ID: wire.Request, Length: wire.BlockSize}.Append(nil)
			return wire.Message{ID: wire.Cancel, Length: wire.BlockSize}.Append(b)
		}),
		plain("wants to be served, wants not, and so on", Conduct{Heed: deaf, Beside: func(s *Session) error {
			return s.Flood(wire.Message{ID: wire.NotInterested}.Append(wire.Message{ID: wire.Interested}.Append(nil)))
		}}),
		plain("requests for what we lack", Conduct{Beside: func(s *Session) error {
			if err := s.Send(wire.Message{ID: wire.Interested}); err != nil {
				return err
			}
			for {
				for i := range s.Content.NumPieces() {
					if err := s.Send(wire.Message{ID: wire.Request, Index: uint32(i), Length: 1}); err != nil {
						return err
					}
				}
				if err := s.Pause(time.Second); err != nil {
					return err
				}
			}
		}}),
		plain("requests for nothing", Conduct{Beside: func(s *Session) error { return s.Send(wire.Message{ID: wire.Request}) }}),
		plain("requests for a gigabyte", Conduct{Beside: func(s *Session) error {
			return s.Send(wire.Message{ID: wire.Request, Length: 1 << 30})
		}}),
		plain("requests out of range", Conduct{Beside: func(s *Session) error {
			return s.Send(wire.Message{ID: wire.Request, Index: 0, Begin: 1<<32 - 1, Length: wire.BlockSize})
		}}),
	}
}

func fast() []Misdeed {
	return []Misdeed{
		flood("rejects what nobody asked", func(*Session) []byte {
			return wire.Message{ID: wire.Reject, Length: wire.BlockSize}.Append(nil)
		}),
		plain("fast messages without the extension", Conduct{
			Features: &wire.Features{},
			Greet:    func(s *Session) error { return s.Send(wire.Message{ID: wire.HaveAll}) },
		}),
		plain("allows every piece and serves none", Conduct{
			Answer: Mute.Answer,
			Beside: func(s *Session) error {
				for i := range s.Content.NumPieces() {
					if err := s.Send(wire.Message{ID: wire.AllowedFast, Index: uint32(i)}); err != nil {
						return err
					}
				}
				return s.Send(wire.Message{ID: wire.Choke})
			},
		}),
		plain("has all, later has none", Conduct{Beside: func(s *Session) error { return s.Send(wire.Message{ID: wire.HaveNone}) }}),
		flood("a flood of suggestions", func(*Session) []byte { return wire.Message{ID: wire.Suggest}.Append(nil) }),
	}
}

func extended() []Misdeed {
	ext := func(n uint8, payload []byte) []byte {
		return wire.Message{ID: wire.Extended, Ext: n, Data: payload}.Append(nil)
	}
	var many bytes.Buffer // a dictionary of thousands of extensions
	many.WriteString("d1:md")
	for i := range 9000 {
		fmt.Fprintf(&many, "8:%08di1e", i)
	}
	many.WriteString("ee")
	request := func(piece int) []byte {
		return wire.Metadata{Type: wire.MetadataRequest, Piece: piece}.Append(nil)
	}
	speaks := map[string]uint8{wire.ExtMetadata: 1, wire.ExtPEX: 2}
	return []Misdeed{
		flood("extension bombs: depth", func(*Session) []byte { return ext(0, bytes.Repeat([]byte("l"), 60000)) }),
		flood("extension bombs: width", func(*Session) []byte { return ext(0, many.Bytes()) }),
		flood("extension bombs: a mebibyte", func(*Session) []byte { return ext(0, make([]byte, 1<<20-2)) }),
		flood("a flood of extension handshakes", func(*Session) []byte { return ext(0, wire.ExtendedHandshake{Messages: speaks}.Append(nil)) }),
		flood("lies about the metadata's size", func(*Session) []byte {
			return ext(0, wire.ExtendedHandshake{Messages: speaks, MetadataSize: 1 << 62, ReqQ: 1 << 30}.Append(nil))
		}),
		plain("asks for the metadata over and over", Conduct{
			Greet: func(s *Session) error {
				return s.Send(s.Having(), s.Hello(wire.ExtendedHandshake{Messages: speaks}))
			},
			Beside: func(s *Session) error { return s.Flood(ext(1, request(0))) },
		}),
		plain("asks for metadata that is not there", Conduct{
			Greet: func(s *Session) error {
				return s.Send(s.Having(), s.Hello(wire.ExtendedHandshake{Messages: speaks}))
			},
			Beside: func(s *Session) error { return s.Flood(ext(1, request(1<<30))) },
		}),
		flood("metadata that nobody asked for", func(*Session) []byte {
			return ext(1, wire.Metadata{Type: wire.MetadataData, Size: 1 << 40, Data: make([]byte, 16<<10)}.Append(nil))
		}),
		plain("floods the peer exchange", Conduct{Beside: func(s *Session) error {
			for n := uint32(0); ; {
				var e wire.Exchange
				for range wire.MaxPEX {
					var ip [4]byte
					binary.BigEndian.PutUint32(ip[:], 0x7f630000+n) // 127.99.x.x: nobody is there
					e.Added = append(e.Added, netip.AddrPortFrom(netip.AddrFrom4(ip), 9))
					n++
				}
				if err := s.Write(ext(2, e.Append(nil))); err != nil {
					return err
				}
				if err := s.Pause(10 * time.Millisecond); err != nil {
					return err
				}
			}
		}}),
		flood("a peer exchange that is none", func(*Session) []byte { return ext(2, []byte("d5:added5:abcdee")) }),
		flood("extended messages of numbers we never gave", func(*Session) []byte { return ext(200, make([]byte, 1000)) }),
	}
}

package dht

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"torrentfs/fetch/metainfo"
)

const (
	// maxPacket bounds a packet, in bytes. Honest ones fit in one frame of Ethernet, fragmented ones are rare.
	maxPacket = 4096
	// maxTransaction bounds the transaction id that a query may have us repeat; two to eight bytes are usual.
	maxTransaction = 32
	maxToken       = 128
	maxNodes       = 32  // of an answer and family; BEP 5 has 8
	maxValues      = 256 // peers of an answer

	queryType  = "q"
	answerType = "r"
	errorType  = "e"
)

// message is a KRPC message (BEP 5) with what this package knows of it. What a stranger's packet holds beside that is
// lost in decoding, so that a message encoded again holds nothing that was not looked at.
type message struct {
	Transaction string `bencode:"t"`
	Type        string `bencode:"y"`
	Method      string `bencode:"q"`
	Args        args   `bencode:"a"`
	Answer      answer `bencode:"r"`
	Fault       []any  `bencode:"e"`
	You         string `bencode:"ip"` // the receiver's own address as the sender sees it (BEP 42)
	ReadOnly    int    `bencode:"ro"` // not 0: the sender answers no queries (BEP 43)
}

// args are those of a query.
type args struct {
	ID       string   `bencode:"id"`
	Target   string   `bencode:"target"`
	InfoHash string   `bencode:"info_hash"`
	Token    string   `bencode:"token"`
	Port     int      `bencode:"port"`
	Implied  int      `bencode:"implied_port"` // not 0: the peer's port is that of the packet
	Want     []string `bencode:"want"`         // n4, n6: the families of nodes asked for (BEP 32)
}

// answer is what a node replies.
type answer struct {
	ID     string   `bencode:"id"`
	Nodes  string   `bencode:"nodes"`  // 26 bytes each: id, IPv4 address, port
	Nodes6 string   `bencode:"nodes6"` // 38 bytes each (BEP 32)
	Token  string   `bencode:"token"`
	Values []string `bencode:"values"` // peers, 6 or 18 bytes each
}

// decode reads a stranger's packet. It is an error for what no node has a reason to send.
func decode(b []byte) (message, error) {
	if len(b) > maxPacket {
		return message{}, fmt.Errorf("packet is longer than %d bytes", maxPacket)
	}
	var m message
	// Bytes that follow the message are overlooked: some nodes pad it.
	if _, err := metainfo.DecodePrefix(b, &m); err != nil {
		return message{}, err
	}
	switch m.Type {
	case queryType:
		if len(m.Transaction) > maxTransaction {
			return message{}, errors.New("transaction id is too long")
		}
		if len(m.Args.ID) != idSize {
			return message{}, errors.New("query without an id")
		}
	case answerType, errorType:
	default:
		return message{}, fmt.Errorf("message of type %.10q", m.Type)
	}
	return m, nil
}

// encode is the message in canonical bencoding. Fields that are empty are left out.
func (m *message) encode() []byte {
	b := make(dict, 0, 512).open()
	switch m.Type {
	case queryType:
		b = b.key("a").open()
		b = b.str("id", m.Args.ID)
		if m.Args.Implied != 0 {
			b = b.integer("implied_port", 1)
		}
		b = b.str("info_hash", m.Args.InfoHash)
		if m.Args.Port != 0 {
			b = b.integer("port", m.Args.Port)
		}
		b = b.str("target", m.Args.Target).str("token", m.Args.Token).list("want", m.Args.Want).close()
	case errorType:
		code, text := m.fault()
		b = append(b.key("e"), "li"...)
		b = append(strconv.AppendInt(b, code, 10), 'e')
		b = b.key(text).close()
	}
	b = b.str("ip", m.You)
	if m.Type == queryType {
		b = b.str("q", m.Method)
	}
	if m.Type == answerType {
		a := &m.Answer
		b = b.key("r").open().str("id", a.ID).str("nodes", a.Nodes).str("nodes6", a.Nodes6).
			str("token", a.Token).list("values", a.Values).close()
	}
	if m.ReadOnly != 0 {
		b = b.integer("ro", 1)
	}
	return b.key("t").key(m.Transaction).key("y").key(m.Type).close()
}

// fault is the code and the text of an error message; both can be missing in a stranger's.
func (m *message) fault() (code int64, text string) {
	code = 201
	for i, v := range m.Fault {
		switch v := v.(type) {
		case int64:
			if i == 0 && v >= 0 && v < 1000 {
				code = v
			}
		case string:
			if i == 1 && len(v) <= 100 {
				text = v
			}
		}
	}
	return code, text
}

// dict is bencoding under construction; keys must be added in order.
type dict []byte

func (b dict) open() dict  { return append(b, 'd') }
func (b dict) close() dict { return append(b, 'e') }

// key writes a string, which a key is, and so is many a value.
func (b dict) key(s string) dict {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	return append(append(b, ':'), s...)
}

func (b dict) str(key, s string) dict {
	if s == "" {
		return b
	}
	return b.key(key).key(s)
}

func (b dict) integer(key string, n int) dict {
	b = append(b.key(key), 'i')
	return append(strconv.AppendInt(b, int64(n), 10), 'e')
}

func (b dict) list(key string, s []string) dict {
	if len(s) == 0 {
		return b
	}
	b = append(b.key(key), 'l')
	for _, v := range s {
		b = b.key(v)
	}
	return b.close()
}

const idSize = 20

// contact is a node as others know it.
type contact struct {
	id   [idSize]byte
	addr netip.AddrPort
}

// nodeSize is that of a compact contact of a family, in bytes.
func nodeSize(six bool) int { return idSize + addrSize(six) }

// addrSize is that of a compact address and port of a family, in bytes.
func addrSize(six bool) int {
	if six {
		return 18
	}
	return 6
}

// appendAddr appends an address and port in compact form.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(append(b, a.Addr().AsSlice()...), a.Port())
}

// parseAddr reads a compact address and port, of the family that its length tells.
func parseAddr(s string) (netip.AddrPort, bool) {
	if len(s) != addrSize(false) && len(s) != addrSize(true) {
		return netip.AddrPort{}, false
	}
	ip, _ := netip.AddrFromSlice([]byte(s[:len(s)-2]))
	return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16([]byte(s[len(s)-2:]))), true
}

func (c contact) append(b []byte) []byte { return appendAddr(append(b, c.id[:]...), c.addr) }

// parseNodes reads compact contacts of a family, maxNodes of them at most; a rest too short for one is overlooked.
func parseNodes(s string, six bool, most int) []contact {
	size := nodeSize(six)
	var nodes []contact
	for ; len(s) >= size && len(nodes) < most; s = s[size:] {
		addr, _ := parseAddr(s[idSize:size])
		nodes = append(nodes, contact{[idSize]byte([]byte(s[:idSize])), addr})
	}
	return nodes
}

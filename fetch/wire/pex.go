package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"torrentfs/fetch/metainfo"
)

// MaxPEX is how many addresses of each kind count in one message of the peer exchange, and how many we send (BEP 11).
const MaxPEX = 50

// PEXPause is for how long after a message of the peer exchange no other one counts of the same peer; once a minute is usual
// (BEP 11).
const PEXPause = 20 * time.Second

// Exchange is a message of the peer exchange (BEP 11), the payload of an extended message: peers that its sender has
// connected to and those it has lost.
type Exchange struct {
	Added, Dropped []netip.AddrPort
}

type exchangeDict struct {
	Added    string `bencode:"added"`
	Added6   string `bencode:"added6"`
	Dropped  string `bencode:"dropped"`
	Dropped6 string `bencode:"dropped6"`
}

// ParseExchange reads a message of the peer exchange; addresses beyond MaxPEX of a kind are left out.
func ParseExchange(b []byte) (Exchange, error) {
	var d exchangeDict
	if err := metainfo.Decode(b, &d); err != nil {
		return Exchange{}, fmt.Errorf("%w: peer exchange: %w", ErrMalformed, err)
	}
	return Exchange{
		Added:   append(compact(d.Added, 4), compact(d.Added6, 16)...),
		Dropped: append(compact(d.Dropped, 4), compact(d.Dropped6, 16)...),
	}, nil
}

// compact reads addresses of size bytes and two bytes of port each.
func compact(s string, size int) (addrs []netip.AddrPort) {
	for ; len(s) >= size+2 && len(addrs) < MaxPEX; s = s[size+2:] {
		ip, _ := netip.AddrFromSlice([]byte(s[:size]))
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16([]byte(s[size:]))))
	}
	return addrs
}

// Append appends the message's payload to b, its addresses without flags.
func (e Exchange) Append(b []byte) []byte {
	added, added6 := split(e.Added)
	dropped, dropped6 := split(e.Dropped)
	b = append(b, 'd')
	for _, f := range []struct {
		key   string
		value []byte
	}{
		{"added", added}, {"added.f", make([]byte, len(added)/6)}, {"added6", added6}, {"added6.f", make([]byte, len(added6)/18)},
		{"dropped", dropped}, {"dropped6", dropped6},
	} {
		b = appendString(b, f.key)
		b = appendString(b, string(f.value))
	}
	return append(b, 'e')
}

// split writes addresses in compact form, by family.
func split(addrs []netip.AddrPort) (v4, v6 []byte) {
	for _, a := range addrs {
		dst := &v6
		if a.Addr().Is4() {
			dst = &v4
		}
		*dst = append(*dst, a.Addr().AsSlice()...)
		*dst = binary.BigEndian.AppendUint16(*dst, a.Port())
	}
	return v4, v6
}

package swarm

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// priority is the canonical priority of a connection between two peers (BEP 40). Both come to the same number, so that
// peers with little room agree on whom to spend it on. Between addresses of different families there is none: 0.
func priority(a, b netip.AddrPort) uint32 {
	if !a.IsValid() || !b.IsValid() || a.Addr().BitLen() != b.Addr().BitLen() {
		return 0
	}
	x, y := a.Addr().AsSlice(), b.Addr().AsSlice()
	if bytes.Equal(x, y) {
		x, y = binary.BigEndian.AppendUint16(nil, a.Port()), binary.BigEndian.AppendUint16(nil, b.Port())
	} else {
		mask(x, y)
	}
	if bytes.Compare(x, y) > 0 {
		x, y = y, x
	}
	return crc32.Update(crc32.Checksum(x, castagnoli), castagnoli, y)
}

// mask blurs two addresses that differ: who has many at hand in one network gains less by choosing among them. The nearer
// they are to each other, the more bytes count whole.
func mask(x, y []byte) {
	whole := 2 // of IPv4, a /16
	if len(x) == 16 {
		whole = 6 // of IPv6, a /48
	}
	common := 0
	for x[common] == y[common] {
		common++
	}
	for i := max(whole, common+1); i < len(x); i++ {
		x[i] &= 0x55
		y[i] &= 0x55
	}
}

package dht

import (
	"net/netip"
	"strings"
	"testing"
)

// BenchmarkTake is what a packet that means nothing costs.
func BenchmarkTake(b *testing.B) {
	g, _, _ := lineOn()
	from := netip.MustParseAddrPort("203.0.113.7:7")
	for name, m := range map[string]message{
		"answer nobody asked for": {Type: answerType, Transaction: "abcd", Answer: answer{ID: theirID, Nodes: strings.Repeat("n", 26*8), Values: []string{"abcdef", "abcdef"}}},
		"query":                   {Type: queryType, Transaction: "ab", Method: getPeers, Args: args{ID: theirID, InfoHash: theirID}},
	} {
		b.Run(name, func(b *testing.B) {
			packet := m.encode()
			b.ReportAllocs()
			for b.Loop() {
				g.receive(packet, from)
			}
		})
	}
}

// BenchmarkAnswer is what a query costs with a full table.
func BenchmarkAnswer(b *testing.B) {
	f, w := familyOn(b, false)
	defer f.end()
	var nodes []contact
	for i := range uint32(200) {
		a := ip4(8<<24 + i)
		nodes = append(nodes, contact{secureID(a), netip.AddrPortFrom(a, 1)})
	}
	f.settle(b, nodes...)
	b.Logf("%d nodes", len(f.table()))
	m := message{Type: queryType, Transaction: "ab", Method: getPeers, Args: args{ID: theirID, InfoHash: theirID}}
	from := netip.MustParseAddrPort("203.0.113.7:7")
	b.ReportAllocs()
	for b.Loop() {
		f.asked(&m, from)
		w.take()
		for len(f.greet) > 0 {
			<-f.greet
		}
	}
}

package swarm

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
)

// TestNeighboursShareASeed has four swarms read the same at the same time from one seed, and then from each other: the seed
// sends little more than one copy.
func TestNeighboursShareASeed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := fetchtest.NewContent(16*mebibyte, 256<<10)
		network := fetchtest.NewNetwork()
		const n = 4
		var sides [n]side
		for i := range sides {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 8, 0, byte(i + 1)}), 6881)
			id := [20]byte{'-', 'U', 'T', 19: byte(i)}
			sides[i] = side{newRig(t, content, setup{upload: true, id: id, network: network, addr: addr.Addr()}), addr}
			defer sides[i].accept(network)()
		}
		seed := sides[0].peer(fetchtest.Link{Delay: 10 * time.Millisecond, Rate: 2 * mebibyte}, honest)
		for i, s := range sides {
			s.AddPeers("test", []netip.AddrPort{seed.Addr()})
			for _, o := range sides[:i] {
				s.AddPeers("test", []netip.AddrPort{o.addr})
			}
		}
		time.Sleep(time.Second) // made-up time, in which they meet
		var wg sync.WaitGroup
		for _, s := range sides {
			wg.Go(func() { s.readAll(8 * mebibyte) })
		}
		wg.Wait()
		copies := float64(seed.Blocks()) * (16 << 10) / float64(content.Length)
		t.Logf("%.2f copies", copies)
		if copies > 1.3 {
			t.Errorf("the seed sent %.2f copies", copies)
		}
		for _, s := range sides {
			s.Swarm.Close()
		}
	})
}

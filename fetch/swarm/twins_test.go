package swarm

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/peer"
)

// side is one of two swarms that dial each other.
type side struct {
	*rig
	addr netip.AddrPort
}

// accept takes connections in from a listener until that is closed.
func (s side) accept(network *fetchtest.Network) (stop func()) {
	l := network.Listen(s.addr, fetchtest.Link{Delay: 20 * time.Millisecond, Rate: 8 * mebibyte})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c, err := peer.Receive(context.Background(), nc, func([20]byte) *peer.Torrent { return s.Link() })
			if err == nil {
				s.Accept(c)
			}
		}
	}()
	return func() {
		l.Close()
		<-done
	}
}

// connections is how many connections a swarm has.
func (s side) connections() (n int) {
	s.on(func(l *loop) { n = len(l.members.all) })
	return n
}

// TestSimultaneousDials has two swarms dial each other at moments ever further apart: exactly one connection is to stay,
// the same on both sides, and at once.
func TestSimultaneousDials(t *testing.T) {
	for apart := time.Duration(0); apart <= 100*time.Millisecond; apart += 10 * time.Millisecond {
		for _, larger := range []int{0, 1} {
			bubble(t, func(t *testing.T) {
				content := fetchtest.NewContent(mebibyte, 256<<10)
				network := fetchtest.NewNetwork()
				var sides [2]side
				for i := range sides {
					addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 8, 0, byte(i + 1)}), 6881)
					id := [20]byte{'-', 'U', 'T', 1}
					if i == larger {
						id[3]++
					}
					sides[i] = side{newRig(t, content, setup{upload: true, id: id, network: network, addr: addr.Addr()}), addr}
					defer sides[i].accept(network)()
				}
				sides[0].AddPeers("test", []netip.AddrPort{sides[1].addr})
				time.Sleep(apart)
				sides[1].AddPeers("test", []netip.AddrPort{sides[0].addr})
				time.Sleep(time.Second)
				for i, s := range sides {
					if n := s.connections(); n != 1 {
						t.Errorf("dialled %v apart, the larger id at %d: side %d has %d connections", apart, larger, i, n)
					}
				}
				for _, s := range sides {
					s.Swarm.Close()
				}
			})
		}
	}
}

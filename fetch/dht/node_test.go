package dht

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// testTimeout is far more than anything here takes.
const testTimeout = 60 * time.Second

// node starts a node on a loopback address, closed at the end of the test.
func node(t testing.TB, cfg Config) *Node {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func addrOf(n *Node) string { return n.Addrs()[0].String() }

// find looks a torrent up until peer is found.
func find(t testing.TB, n *Node, infoHash [20]byte, port uint16, peer netip.AddrPort) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	seen := false
	lookup := n.Lookup(infoHash, port, func(peers []netip.AddrPort) {
		if slices.Contains(peers, peer) {
			seen = true
			cancel()
		}
	})
	lookup.Run(ctx)
	if !seen {
		t.Fatalf("%v not found; %+v", peer, n.Stats())
	}
}

// announce has a torrent announced once, to whoever is there.
func announce(t testing.TB, n *Node, infoHash [20]byte, port uint16) {
	t.Helper()
	eventually(t, "somebody to announce to", func() bool {
		return n.look(t.Context(), infoHash, port, func([]netip.AddrPort) {}).nodes > 0
	})
}

// eventually waits for something that other goroutines bring about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestFindEachOther(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		t.Run(ip, func(t *testing.T) {
			listen := netip.AddrPortFrom(netip.MustParseAddr(ip), 0).String()
			first := node(t, Config{Listen: listen})
			boot := []string{addrOf(first)}
			seeder := node(t, Config{Listen: listen, Bootstrap: boot})
			for range 3 {
				node(t, Config{Listen: listen, Bootstrap: boot})
			}
			hash := [20]byte{1, 2, 3}
			announce(t, seeder, hash, 4242)
			late := node(t, Config{Listen: listen, Bootstrap: boot})
			find(t, late, hash, 0, netip.AddrPortFrom(netip.MustParseAddr(ip), 4242))
		})
	}
}

func TestRestartWithoutBootstrap(t *testing.T) {
	first := node(t, Config{})
	boot := []string{addrOf(first)}
	var others []*Node
	for range 3 {
		others = append(others, node(t, Config{Bootstrap: boot}))
	}
	eventually(t, "they know each other", func() bool {
		return !slices.ContainsFunc(others, func(n *Node) bool { return n.Stats().Up < 2 })
	})
	hash := [20]byte{9}
	announce(t, others[0], hash, 4242)
	peer := netip.MustParseAddrPort("127.0.0.1:4242")
	path := filepath.Join(t.TempDir(), "sub", "dht")
	one := node(t, Config{Bootstrap: boot, TablePath: path})
	find(t, one, hash, 0, peer)
	eventually(t, "most nodes in the table", func() bool { return one.Stats().Up >= 3 })
	one.Close()
	first.Close()
	again := node(t, Config{TablePath: path})
	find(t, again, hash, 0, peer)
}

// TestAnyOfAFamily has an address that means any pick the family.
func TestAnyOfAFamily(t *testing.T) {
	for _, ip := range []string{"0.0.0.0", "::"} {
		n := node(t, Config{Listen: netip.AddrPortFrom(netip.MustParseAddr(ip), 0).String()})
		if a := n.Addrs(); len(a) != 1 || a[0].Addr().String() != ip || n.families[0].six != (ip == "::") {
			t.Errorf("%s: the node is at %v", ip, a)
		}
	}
	if n := node(t, Config{Listen: ":0"}); len(n.Addrs()) != 2 {
		t.Errorf("without a host the node is at %v", n.Addrs())
	}
}

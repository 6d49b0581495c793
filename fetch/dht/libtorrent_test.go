package dht

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// network is one of libtorrent nodes on loopback.
type network struct {
	in     io.Writer
	out    *bufio.Scanner
	seeder netip.AddrPort
	hash   [20]byte // of what it seeds
}

// libtorrent starts a network that knows nobody but a bootstrap node.
func libtorrent(t *testing.T, bootstrap string, nodes int) *network {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import libtorrent").Run(); err != nil {
		t.Skip("no libtorrent for python3")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*testTimeout)
	cmd := exec.CommandContext(ctx, python, "-u", "-W", "ignore", "testdata/libtorrent_nodes.py", bootstrap, fmt.Sprint(nodes))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait(); cancel() })
	n := &network{in: in, out: bufio.NewScanner(out)}
	f := strings.Fields(n.line(t, "seeder "))
	n.seeder = netip.MustParseAddrPort(f[1])
	if _, err := hex.Decode(n.hash[:], []byte(f[2])); err != nil {
		t.Fatal(err)
	}
	return n
}

// line returns the next line that begins like this.
func (n *network) line(t *testing.T, prefix string) string {
	t.Helper()
	for n.out.Scan() {
		if strings.HasPrefix(n.out.Text(), prefix) {
			return n.out.Text()
		}
	}
	t.Fatalf("the libtorrent nodes ended without %q", prefix)
	return ""
}

// find has a node of the network look for a peer of a torrent until it is found.
func (n *network) find(t *testing.T, hash [20]byte, peer netip.AddrPort) {
	t.Helper()
	fmt.Fprintf(n.in, "%x\n", hash)
	for !slices.Contains(strings.Fields(n.line(t, "peers ")), peer.String()) {
	}
}

// TestLibtorrent finds and is found in a network of libtorrent nodes; then, with the bootstrap node gone, a restarted
// node finds the swarm by its saved table.
func TestLibtorrent(t *testing.T) {
	boot := node(t, Config{})
	net := libtorrent(t, addrOf(boot), 6)
	path := filepath.Join(t.TempDir(), "dht")
	one := node(t, Config{Listen: "127.0.0.2:0", Bootstrap: []string{addrOf(boot)}, TablePath: path})
	find(t, one, net.hash, 0, net.seeder)

	ours := [20]byte{7}
	announce(t, one, ours, 4242)
	net.find(t, ours, netip.MustParseAddrPort("127.0.0.2:4242"))

	eventually(t, "half of the network in the table", func() bool { return one.Stats().Up >= 4 })
	one.Close()
	boot.Close()
	again := node(t, Config{Listen: "127.0.0.3:0", TablePath: path})
	find(t, again, net.hash, 0, net.seeder)
}

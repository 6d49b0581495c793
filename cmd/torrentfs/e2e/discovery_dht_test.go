package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestDHTOnly mounts by a .torrent and by a magnet link where nothing but the DHT leads to the seeder: a small network of
// libtorrent nodes, each at an address of its own. Then the bootstrap node is gone, and what was saved of the routing
// table leads to another torrent of the same network.
func TestDHTOnly(t *testing.T) {
	t.Parallel()
	needMount(t)
	folder := t.TempDir()
	var shared []torrent
	for i := range 3 {
		path := write(t, filepath.Join(folder, fmt.Sprintf("dht%d.bin", i)), noise(byte(40+i), 300_000))
		shared = append(shared, byLibtorrent(t, path, making{}))
	}
	boot := runClients(t, nil, node("127.0.0.40", ""))
	entry := fmt.Sprintf("127.0.0.40:%d", boot.ports[0])
	nodes := make([]client, 6)
	for i := range nodes {
		nodes[i] = node(fmt.Sprintf("127.0.0.%d", 41+i), entry)
	}
	for _, tt := range shared {
		nodes[0].Torrents = append(nodes[0].Torrents, tt.seeding())
	}
	runClients(t, nil, nodes...)

	dir := t.TempDir()
	joining := []string{"--no-dht=false", "--dht-bootstrap", entry}
	flags := slices.Concat(joining, []string{"--cache-dir", dir})
	first := mountTorrent(t, shared[0], flags...)
	output(t, "cmp", shared[0].original(shared[0].name), first.path(shared[0].name))

	m := startMount(t, nil, t.TempDir(), shared[1].magnet(), joining...) // with a new cache
	output(t, "cmp", shared[1].original(shared[1].name), m.path(shared[1].name))
	m.interrupt()

	first.interrupt() // only now: to know more than the bootstrap node takes it a moment
	for range 20 {
		if savedNodes(t, dir) > 1 {
			break
		}
		first = mountTorrent(t, shared[0], flags...)
		output(t, "ls", first.dir)
		first.interrupt()
	}
	boot.kill()
	m = startMount(t, nil, t.TempDir(), shared[2].magnet(), flags...)
	output(t, "cmp", shared[2].original(shared[2].name), m.path(shared[2].name))
}

// savedNodes is how many nodes of IPv4 a mount with that cache directory has saved.
func savedNodes(t *testing.T, cache string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cache, "state", "dht-nodes"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`5:nodes(\d+):`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no nodes in %q", b)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d nodes saved", n/26)
	return n / 26
}

// node is a libtorrent client in the DHT of loopback. Without an entry it waits for others.
func node(ip, entry string) client {
	return client{Settings: map[string]any{
		"listen_interfaces": ip + ":0", "enable_dht": true, "dht_bootstrap_nodes": entry,
	}}
}

// TestDHTByNodes joins the DHT by a node that the .torrent names (BEP 5), with no bootstrap node alive.
func TestDHTByNodes(t *testing.T) {
	t.Parallel()
	needMount(t)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "nodes.bin"), noise(44, 300_000)), making{})
	seeder := node("127.0.0.55", "")
	seeder.Torrents = []role{tt.seeding()}
	network := runClients(t, nil, seeder)
	b := []byte(output(t, "cat", tt.file)) // of which info is the last key
	b = fmt.Appendf(b[:len(b)-1], "5:nodesll10:127.0.0.55i%deeee", network.ports[0])
	named := write(t, filepath.Join(t.TempDir(), "nodes.torrent"), b)
	// The seeder is in the DHT with itself, which it announces to when somebody else is there.
	m := startMount(t, nil, t.TempDir(), named, "--no-dht=false", "--dht-bootstrap", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
}

// TestDHTByPeer joins the DHT by what a peer says of its node, with no bootstrap node alive. The peer has nothing of the
// torrent; the DHT knows who has.
func TestDHTByPeer(t *testing.T) {
	t.Parallel()
	needMount(t)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "port.bin"), noise(45, 300_000)), making{})
	seeder := node("127.0.0.50", "")
	seeder.Torrents = []role{tt.seeding()}
	boot := runClients(t, nil, seeder)
	idle := node("127.0.0.51", fmt.Sprintf("127.0.0.50:%d", boot.ports[0]))
	idle.Torrents = []role{{File: tt.file, Folder: t.TempDir(), Mode: "upload"}}
	peer := runClients(t, nil, idle)
	m := mountTorrent(t, tt, "--no-dht=false", "--dht-bootstrap", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		"--peer", fmt.Sprintf("127.0.0.51:%d", peer.ports[0]))
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
}

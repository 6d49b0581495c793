package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReadOnlyBehindNAT has a mount behind a NAT, whose port nobody reaches, become a read-only node of the DHT by itself
// (BEP 43), and an ordinary one when somebody reaches it.
func TestReadOnlyBehindNAT(t *testing.T) {
	if os.Getenv(longVar) == "" {
		t.Skip("it takes strangers some minutes not to come: set " + longVar + "=1")
	}
	t.Parallel()
	needMount(t)
	r := newRouter(t)
	const first, nodes = 11, 12
	for i := first; i <= first+nodes; i++ { // the last one is nobody's yet
		output(t, "ip", "-n", r.names[outside], "address", "add", fmt.Sprintf("9.9.9.%d/24", i), "dev", "eth0")
	}
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "nat.bin"), noise(46, 300_000)), making{})
	boot := runClients(t, r.on(outside), node("9.9.9.11", ""))
	entry := fmt.Sprintf("9.9.9.11:%d", boot.ports[0])
	var others []client
	for i := first + 1; i < first+nodes; i++ {
		others = append(others, node(fmt.Sprintf("9.9.9.%d", i), entry))
	}
	others[0].Torrents = []role{tt.seeding()}
	runClients(t, r.on(outside), others...)

	heard := listenTo(t, r.segment, inside)
	cacheDir := t.TempDir()
	m := startMount(t, r.on(inside), t.TempDir(), tt.magnet(), "--listen", ":0", "--no-portmap", "--no-dht=false",
		"--dht-bootstrap", entry, "--cache-dir", cacheDir)
	m.watchdog.Reset(20 * time.Minute)
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	if n := heard.count("read-only query"); n > 0 || heard.count("query") == 0 {
		t.Errorf("%d of %d queries are those of a read-only node from the start", n, heard.count("query"))
	}
	began := time.Now()
	within(t, 15*time.Minute, "the mount is read-only", func() bool {
		return m.ended() || bytes.Contains(m.stderr(), []byte("taking part as a read-only node"))
	})
	t.Logf("read-only after %v", time.Since(began).Round(time.Second))
	ordinary := heard.count("query") - heard.count("read-only query")
	eventually(t, "queries of a read-only node", func() bool { return heard.count("read-only query") > 0 })
	if n := heard.count("query") - heard.count("read-only query"); n > ordinary+1 { // one may have been on its way
		t.Errorf("%d queries without the mark of a read-only node", n-ordinary)
	}

	// A port that is forwarded lets a stranger in, who is answered.
	port := strings.TrimSpace(output(t, "cat", filepath.Join(cacheDir, "state", "port")))
	r.add(fmt.Sprintf("add rule inet miniupnpd prerouting iifname wan udp dport %s dnat ip to 192.168.77.2", port))
	var stranger net.Conn
	r.inside(outside, func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(9, 9, 9, first+nodes)}}
		stranger, err = d.DialContext(t.Context(), "udp4", "9.9.9.9:"+port)
		return err
	})
	defer stranger.Close()
	eventually(t, "an answer to a stranger", func() bool {
		_, _ = stranger.Write([]byte("d1:ad2:id20:iiiiiiiiiiiiiiiiiiiie1:q4:ping1:t2:xy1:y1:qe"))
		_ = stranger.SetReadDeadline(time.Now().Add(time.Second))
		n, err := stranger.Read(make([]byte, 1500))
		return m.ended() || err == nil && n > 0
	})
	marked := heard.count("read-only query")
	within(t, 10*time.Minute, "a query of an ordinary node", func() bool {
		return m.ended() || heard.count("query")-heard.count("read-only query") > ordinary
	})
	if n := heard.count("read-only query"); n > marked+1 {
		t.Errorf("%d queries still have the mark of a read-only node", n-marked)
	}
}

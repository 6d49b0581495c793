package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"

	_ "embed"
)

//go:embed nodes.py
var nodesScript string

// client is what a libtorrent client of nodes.py is made of.
type client struct {
	Settings map[string]any `json:"settings"`
	Torrents []role         `json:"torrents,omitempty"`
	Choosy   bool           `json:"choosy,omitempty"` // slots hold for peers at private addresses too
}

// role is a client's part in a torrent. Mode "seed" trusts the original to be whole, "upload" asks for nothing.
type role struct {
	File   string   `json:"file,omitempty"`
	Magnet string   `json:"magnet,omitempty"`
	Folder string   `json:"folder"`
	Mode   string   `json:"mode,omitempty"`
	Peers  []string `json:"peers,omitempty"` // to connect to

	UploadLimit int `json:"upload_limit,omitempty"` // bytes a second
}

// seeding is the role of who has all of a torrent.
func (tt torrent) seeding(peers ...string) role {
	return role{File: tt.file, Folder: tt.folder, Mode: "seed", Peers: peers}
}

// clients are libtorrent clients in one process.
type clients struct {
	*process
	ports []int
	ask   io.Writer
	reply *bufio.Reader
}

// clientStats is how a libtorrent client is doing.
type clientStats struct {
	Nodes          int      // in its DHT routing table
	Peers          []string // it is connected to
	Uploaded, Done int64    // bytes of payload
}

// runClients starts libtorrent clients, each with the ways to find peers that its settings turn on. wrap, if any, changes
// the command first.
func runClients(t testing.TB, wrap func(*exec.Cmd) *exec.Cmd, all ...client) *clients {
	t.Helper()
	need(t, "libtorrent")
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-I", "-W", "ignore", "-c", nodesScript, string(b))
	if wrap != nil {
		cmd = wrap(cmd)
	}
	ask, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	reply, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	c := &clients{process: start(t, cmd), ask: ask, reply: bufio.NewReader(reply)}
	w.Close()
	t.Cleanup(func() { reply.Close() })
	decode(t, c.line(), &c.ports)
	return c
}

func (c *clients) line() string {
	c.t.Helper()
	s, err := c.reply.ReadString('\n')
	if err != nil {
		c.t.Fatalf("libtorrent: %v\n%s", err, c.stderr())
	}
	return s
}

// stats asks how each client is doing.
func (c *clients) stats() (all []clientStats) {
	c.t.Helper()
	if _, err := io.WriteString(c.ask, "\n"); err != nil {
		c.t.Fatal(err)
	}
	decode(c.t, c.line(), &all)
	return all
}

// magnet is the shortest link to a torrent.
func (tt torrent) magnet() string { return "magnet:?xt=urn:btih:" + tt.hash }

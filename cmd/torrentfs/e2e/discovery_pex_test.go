package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPEXOnly mounts with the address of one peer, which has nothing, and reads what the peer's neighbour has. By the
// .torrent and by a magnet link, whose metadata the peer has.
func TestPEXOnly(t *testing.T) {
	t.Parallel()
	needMount(t)
	t.Run("libtorrent", func(t *testing.T) {
		t.Parallel()
		tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "pex.bin"), noise(50, 300_000)), making{})
		peer := runClients(t, nil, client{
			Settings: map[string]any{"listen_interfaces": "127.0.0.1:0"},
			Torrents: []role{{File: tt.file, Folder: t.TempDir(), Mode: "upload"}},
		})
		addr := fmt.Sprintf("127.0.0.1:%d", peer.ports[0])
		neighbour(t, tt, addr)
		readByPEX(t, tt, tt.file, addr)
		readByPEX(t, tt, tt.magnet(), addr)
		if s := peer.stats()[0]; s.Done != 0 {
			t.Errorf("the peer got %d bytes itself", s.Done)
		}
	})
	t.Run("transmission", func(t *testing.T) {
		t.Parallel()
		tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "pex.bin"), noise(51, 300_000)), making{})
		addr := idleTransmission(t, tt)
		neighbour(t, tt, addr)
		readByPEX(t, tt, tt.file, addr)
	})
}

// neighbour seeds a torrent to whoever has its address, and is connected to the peer at addr when it returns. It has an
// IP address of its own: transmission takes one connection from each.
func neighbour(t testing.TB, tt torrent, addr string) {
	t.Helper()
	c := runClients(t, nil, client{
		Settings: map[string]any{
			"listen_interfaces": "127.0.0.61:0", "outgoing_interfaces": "127.0.0.61", "min_reconnect_time": 1,
		},
		Torrents: []role{tt.seeding(addr)},
	})
	eventually(t, "the seeder is connected to the peer", func() bool { return len(c.stats()[0].Peers) > 0 })
}

// readByPEX mounts source with the one peer at addr, and compares its file.
func readByPEX(t *testing.T, tt torrent, source, addr string) {
	t.Helper()
	m := startMount(t, nil, t.TempDir(), source, "--no-pex=false", "--no-trackers", "--peer", addr)
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	m.interrupt()
}

// idleTransmission is a transmission-daemon that has a torrent, wants it, and may receive nothing.
func idleTransmission(t testing.TB, tt torrent) (addr string) {
	t.Helper()
	need(t, "transmission-daemon")
	home, port := t.TempDir(), freePort(t)
	d := &transmission{}
	settings := transmissionSettings(t, d, port)
	settings["pex-enabled"] = true
	settings["speed-limit-down-enabled"] = true
	settings["speed-limit-down"] = 0
	settings["download-dir"] = home
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "settings.json"), b)
	d.process = start(t, exec.Command("transmission-daemon", "--foreground", "--log-error", "--config-dir", home))
	eventually(t, "transmission-daemon answers", func() bool {
		return d.ended() || d.call("session-get", nil, nil) == nil
	})
	if err := d.call("torrent-add", map[string]any{"filename": tt.file}, nil); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// transmissionSettings are those of a transmission-daemon on loopback that looks for nobody.
func transmissionSettings(t testing.TB, d *transmission, port int) map[string]any {
	rpc := freePort(t)
	d.rpc = fmt.Sprintf("http://127.0.0.1:%d/transmission/rpc", rpc)
	return map[string]any{
		"bind-address-ipv4": "127.0.0.1", "bind-address-ipv6": "::1",
		"dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
		"port-forwarding-enabled": false, "peer-port": port, "rpc-bind-address": "127.0.0.1", "rpc-port": rpc,
	}
}

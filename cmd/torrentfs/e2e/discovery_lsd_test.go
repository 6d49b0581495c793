package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestLSDOnly has two mounts and a seeder on one network segment find each other with nothing but local service
// discovery: one mount has the .torrent, the other a magnet link. When the first has read everything the seeder goes, and
// the second reads from the first.
func TestLSDOnly(t *testing.T) {
	t.Parallel()
	needMount(t)
	for name, seed := range map[string]func(*testing.T, *segment, torrent) (stop func()){
		"transmission": seedLocallyByTransmission, "libtorrent": seedLocallyByLibtorrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSegment(t, 3)
			tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "lsd.bin"), noise(60, 2<<20+7)), making{})
			stop := seed(t, s, tt)
			one := startMount(t, s.on(1), t.TempDir(), tt.file, "--no-lsd=false", "--listen", s.ip(1)+":0")
			output(t, "cmp", tt.original(tt.name), one.path(tt.name))
			two := startMount(t, s.on(2), t.TempDir(), tt.magnet(), "--no-lsd=false", "--listen", s.ip(2)+":0")
			stop()
			output(t, "cmp", tt.original(tt.name), two.path(tt.name))
		})
	}
}

func seedLocallyByTransmission(t *testing.T, s *segment, tt torrent) (stop func()) {
	t.Helper()
	return seedLocally(t, s, 0, tt, true).kill
}

// transmissionPort is where seedLocally listens.
const transmissionPort = 51413

// seedLocally seeds with transmission on a host of a segment, and says so there if it is told to.
func seedLocally(t *testing.T, s *segment, host int, tt torrent, lsd bool) *process {
	t.Helper()
	need(t, "transmission-daemon")
	home, watched := t.TempDir(), t.TempDir()
	output(t, "cp", tt.file, watched) // which it renames there
	settings := map[string]any{
		"bind-address-ipv4": s.ip(host), "dht-enabled": false, "lpd-enabled": lsd, "pex-enabled": false, "utp-enabled": false,
		"port-forwarding-enabled": false, "peer-port": transmissionPort, "rpc-enabled": false, "download-dir": tt.folder,
		"watch-dir-enabled": true, "watch-dir": watched,
	}
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "settings.json"), b)
	return start(t, s.on(host)(exec.Command("transmission-daemon", "--foreground", "--log-info", "--config-dir", home)))
}

func seedLocallyByLibtorrent(t *testing.T, s *segment, tt torrent) (stop func()) {
	t.Helper()
	return runClients(t, s.on(0), client{
		Settings: map[string]any{"listen_interfaces": fmt.Sprintf("%s:0", s.ip(0)), "enable_lsd": true},
		Torrents: []role{tt.seeding()},
	}).kill
}

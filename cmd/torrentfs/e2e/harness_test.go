package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestHarness shows that seeders and tracker work without torrentfs: aria2 finds them and downloads.
func TestHarness(t *testing.T) {
	t.Parallel()
	need(t, "aria2c")
	content := write(t, filepath.Join(t.TempDir(), "sample.bin"), noise(1, 5<<20+123))
	for name, seed := range map[string]func(testing.TB, torrent, seeding) seeder{
		"transmission": seedByTransmission,
		"libtorrent":   seedByLibtorrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTracker(t)
			tt := byTransmission(t, content, making{trackers: []string{tr.url()}})
			tr.serve(tt)
			s := seed(t, tt, seeding{})
			tr.awaitSeeders(tt, 1)
			dir := t.TempDir()
			outputOf(t, exec.Command("aria2c", "--dir="+dir, "--seed-time=0", "--no-conf", "--enable-dht=false",
				fmt.Sprintf("--listen-port=%d", freePort(t)), "--bt-enable-lpd=false", "--enable-peer-exchange=false", "--summary-interval=0", tt.file))
			output(t, "cmp", content, filepath.Join(dir, "sample.bin"))
			if got := s.uploaded(); got < 5<<20 {
				t.Errorf("the seeder says that it gave %d bytes", got)
			}
		})
	}
}

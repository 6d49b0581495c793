package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestTiers finds a seeder through the tracker of the second tier: nobody listens where the first should be.
func TestTiers(t *testing.T) {
	t.Parallel()
	tr := newTracker(t)
	dead := fmt.Sprintf("http://127.0.0.1:%d/announce", freePort(t))
	path := write(t, filepath.Join(t.TempDir(), "tiers.bin"), noise(14, 300_000))
	tt := byTransmission(t, path, making{trackers: []string{dead, tr.url()}})
	tr.serve(tt)
	seedByLibtorrent(t, tt, seeding{})
	tr.awaitSeeders(tt, 1)
	m := mountTorrent(t, tt)
	output(t, "cmp", path, m.path(tt.name))
}

// TestTrackerRefuses shows a person why the tracker gives no peers, in the tracker's own words.
func TestTrackerRefuses(t *testing.T) {
	t.Parallel()
	tr := newTracker(t)
	path := write(t, filepath.Join(t.TempDir(), "refused.bin"), noise(15, 1000))
	tr.serve()
	m := mountTorrent(t, byTransmission(t, path, making{trackers: []string{tr.url()}}))
	eventually(t, "the log tells what the tracker says", func() bool {
		return strings.Contains(string(m.stderr()), "Requested download is not authorized for use with this tracker")
	})
}

// TestNoTrackers keeps a mount from asking the tracker.
func TestNoTrackers(t *testing.T) {
	t.Parallel()
	tr := newTracker(t)
	path := write(t, filepath.Join(t.TempDir(), "unasked.bin"), noise(16, 300_000))
	tt := byTransmission(t, path, making{trackers: []string{tr.url()}})
	tr.serve(tt)
	s := seedByLibtorrent(t, tt, seeding{})
	tr.awaitSeeders(tt, 1)
	m := mountTorrent(t, tt, "--no-trackers", "--peer", s.addr())
	output(t, "cmp", path, m.path(tt.name))
	if _, others, err := tr.scrape(tt); err != nil || others != 0 {
		t.Errorf("the tracker knows %d downloads, %v", others, err)
	}
}

// TestAnnounced shows that the tracker is told when a mount begins and when it ends.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	tr := newTracker(t)
	path := write(t, filepath.Join(t.TempDir(), "announced.bin"), noise(17, 300_000))
	tt := byTransmission(t, path, making{trackers: []string{tr.url()}})
	tr.serve(tt)
	m := mountTorrent(t, tt)
	known := func(n int) func() bool {
		return func() bool {
			_, others, err := tr.scrape(tt)
			return err == nil && others == n
		}
	}
	eventually(t, "the tracker knows the mount", known(1))
	m.interrupt()
	eventually(t, "the tracker has forgotten the mount", known(0))
}

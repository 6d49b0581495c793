package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
)

// The settings of other clients that have them take and make encrypted connections alone.
const transmissionEncrypts = 2

var libtorrentEncrypts = map[string]any{
	"out_enc_policy": 0, "in_enc_policy": 0, "allowed_enc_level": 2, "prefer_rc4": true, // forced, forced, RC4
}

// TestEncryptedSeeders mounts from clients that require encryption, and requires it of clients that don't.
func TestEncryptedSeeders(t *testing.T) {
	t.Parallel()
	needMount(t)
	path := write(t, filepath.Join(t.TempDir(), "hidden.bin"), noise(41, 2<<20+5))
	for _, c := range []struct {
		name, policy string
		required     bool // by the other client
	}{
		{"required there", "allow", true},
		{"required there, preferred here", "prefer", true},
		{"required here", "require", false},
		{"required on both sides", "require", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, client := range []string{"transmission", "libtorrent"} {
				t.Run(client, func(t *testing.T) {
					t.Parallel()
					tt := byTransmission(t, path, making{})
					var addr string
					if client == "transmission" {
						settings := map[string]any{"download-dir": tt.folder}
						if c.required {
							settings["encryption"] = transmissionEncrypts
						}
						d := startTransmission(t, tt, 0, settings)
						d.awaitAll(tt)
						addr = d.addr()
					} else {
						s := seeding{}
						if c.required {
							s.settings = libtorrentEncrypts
						}
						addr = seedByLibtorrent(t, tt, s).addr()
					}
					m := mountTorrent(t, tt, "--encryption", c.policy, "--peer", addr)
					output(t, "cmp", path, m.path(tt.name))
				})
			}
		})
	}
}

// TestEncryptedSeed has clients that require encryption download from `torrentfs seed`, and others when that requires it.
func TestEncryptedSeed(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "hidden.bin"), noise(42, 2<<20+5))
	for _, c := range []struct {
		policy   string
		required bool // by the other client
	}{{"allow", true}, {"require", false}, {"require", true}} {
		t.Run(fmt.Sprintf("%s, required there %v", c.policy, c.required), func(t *testing.T) {
			t.Parallel()
			t.Run("transmission, dialled", func(t *testing.T) {
				t.Parallel()
				tt, dir := byTransmission(t, path, making{}), t.TempDir()
				settings := map[string]any{"download-dir": dir}
				if c.required {
					settings["encryption"] = transmissionEncrypts
				}
				d := startTransmission(t, tt, 0, settings)
				seedTorrent(t, tt, "--encryption", c.policy, "--peer", d.addr())
				d.awaitAll(tt)
				output(t, "cmp", path, filepath.Join(dir, tt.name))
			})
			t.Run("libtorrent, which dials", func(t *testing.T) {
				t.Parallel()
				tt, dir, port := byTransmission(t, path, making{}), t.TempDir(), freePort(t)
				seedTorrent(t, tt, "--encryption", c.policy, "--listen", fmt.Sprintf("127.0.0.1:%d", port))
				options := map[string]any{"torrent": tt.file, "folder": dir, "peer": []any{"127.0.0.1", port}}
				if c.required {
					options["settings"] = libtorrentEncrypts
				}
				outputOf(t, libtorrent(t, "fetch", options))
				output(t, "cmp", path, filepath.Join(dir, tt.name))
			})
		})
	}
}

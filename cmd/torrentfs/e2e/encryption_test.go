package e2e

import (
	"path/filepath"
	"testing"
)

// demand is what another client demands of its connections.
type demand int

const (
	anything  demand = iota // as the client comes
	encrypted               // everything encrypted
	greeting                // the handshake encrypted, what follows in plaintext
)

// transmissionEncrypts has transmission take and make encrypted connections alone.
const transmissionEncrypts = 2

// libtorrentDemands are the settings with which libtorrent demands it.
func libtorrentDemands(d demand) map[string]any {
	const forced, plaintext, rc4 = 0, 1, 2
	settings := map[string]any{"out_enc_policy": forced, "in_enc_policy": forced, "allowed_enc_level": rc4, "prefer_rc4": true}
	switch d {
	case anything:
		return nil
	case greeting:
		settings["allowed_enc_level"] = plaintext
	}
	return settings
}

// aria2Demands are the flags with which aria2 demands it; it offers what is above the least, too.
var aria2Demands = map[demand][]string{
	encrypted: {"--bt-force-encryption=true", "--bt-require-crypto=true", "--bt-min-crypto-level=arc4"},
	greeting:  {"--bt-require-crypto=true", "--bt-min-crypto-level=plain"},
}

// TestEncryptedSeeders mounts from clients that require encryption, and requires it of clients that don't.
func TestEncryptedSeeders(t *testing.T) {
	t.Parallel()
	needMount(t)
	path := write(t, filepath.Join(t.TempDir(), "hidden.bin"), noise(41, 2<<20+5))
	for _, c := range []struct {
		name, policy string
		demand       demand // of the other client
	}{
		{"required there", "allow", encrypted},
		{"required there, preferred here", "prefer", encrypted},
		{"of the greeting alone there", "allow", greeting},
		{"of the greeting alone there, preferred here", "prefer", greeting},
		{"required here", "require", anything},
		{"required on both sides", "require", encrypted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, client := range []string{"transmission", "libtorrent"} {
				if c.demand == greeting && client == "transmission" {
					continue // it has no such setting
				}
				t.Run(client, func(t *testing.T) {
					t.Parallel()
					tt := byTransmission(t, path, making{})
					var addr string
					if client == "transmission" {
						settings := map[string]any{"download-dir": tt.folder}
						if c.demand == encrypted {
							settings["encryption"] = transmissionEncrypts
						}
						d := startTransmission(t, tt, 0, settings)
						d.awaitAll(tt)
						addr = d.addr()
					} else {
						addr = seedByLibtorrent(t, tt, seeding{settings: libtorrentDemands(c.demand)}).addr()
					}
					m := mountTorrent(t, tt, "--encryption", c.policy, "--peer", addr)
					output(t, "cmp", path, m.path(tt.name))
				})
			}
		})
	}
}

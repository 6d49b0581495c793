package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	_ "embed"
)

// torrent is a .torrent file and the original of what it shares.
type torrent struct {
	file   string // path of the .torrent
	hash   string // info-hash in hex
	folder string // where the original lies, as a download client would have laid it out
	name   string // of the shared file or folder
}

// original gives the path of a shared file, by its path in the mount.
func (tt torrent) original(path string) string { return filepath.Join(tt.folder, path) }

// making is what a test asks of a torrent; the zero value leaves all to the program that makes it.
type making struct {
	piece    int            // piece length in bytes
	trackers []string       // announce URLs, each a tier
	hybrid   bool           // libtorrent only: v1 and v2 in one, padded between files
	info     map[string]any // libtorrent only: unknown keys for the info dictionary
}

//go:embed swarm.py
var libtorrentScript string

// libtorrent is a command that runs a verb of swarm.py.
func libtorrent(t testing.TB, verb string, options map[string]any) *exec.Cmd {
	t.Helper()
	need(t, "libtorrent")
	b, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command("/usr/bin/python3", "-I", "-c", libtorrentScript, verb, string(b))
}

// byLibtorrent makes a torrent of a file or folder with libtorrent.
func byLibtorrent(t testing.TB, path string, m making) torrent {
	t.Helper()
	out := filepath.Join(t.TempDir(), "libtorrent.torrent")
	cmd := libtorrent(t, "create", map[string]any{
		"path": path, "out": out, "piece_length": m.piece, "trackers": m.trackers, "v1_only": !m.hybrid, "info": m.info,
	})
	var made struct{ Hash string }
	decode(t, outputOf(t, cmd), &made)
	return torrent{file: out, hash: made.Hash, folder: filepath.Dir(path), name: filepath.Base(path)}
}

// byTransmission makes a torrent of a file or folder with transmission-create.
func byTransmission(t testing.TB, path string, m making) torrent {
	t.Helper()
	need(t, "transmission-create", "transmission-show")
	out := filepath.Join(t.TempDir(), "transmission.torrent")
	args := []string{"-o", out}
	if m.piece > 0 {
		args = append(args, "-s", strconv.Itoa(m.piece>>10))
	}
	for _, url := range m.trackers {
		args = append(args, "-t", url)
	}
	output(t, "transmission-create", append(args, path)...)
	return torrent{file: out, hash: shownHash(t, out), folder: filepath.Dir(path), name: filepath.Base(path)}
}

var hashLine = regexp.MustCompile(`(?m)^\s*Hash(?: v1)?: ([0-9a-f]{40})$`)

// shownHash is the info-hash that transmission-show gives for a .torrent.
func shownHash(t testing.TB, file string) string {
	t.Helper()
	need(t, "transmission-show")
	shown := output(t, "transmission-show", file)
	m := hashLine.FindStringSubmatch(shown)
	if m == nil {
		t.Fatalf("transmission-show gives no hash:\n%s", shown)
	}
	return m[1]
}

func decode(t testing.TB, s string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), v); err != nil {
		t.Fatalf("%v in %q", err, s)
	}
}

// noise gives n reproducible bytes that don't compress or repeat.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// write makes a file and the folders above it.
func write(t testing.TB, path string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

package e2e

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMetadata mounts magnet links whose metadata comes from clients of every make, the content after it.
func TestMetadata(t *testing.T) {
	t.Parallel()
	needMount(t)
	for name, seed := range map[string]func(testing.TB, torrent, seeding) seeder{
		"transmission": seedByTransmission, "libtorrent": seedByLibtorrent, "aria2": seedByAria2, "torrentfs": seedByMount,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "metadata.bin"), noise(70, 500_000)), making{
				info: map[string]any{"x-several-parts": strings.Repeat("metadata ", 10_000)},
			})
			s := seed(t, tt, seeding{})
			m := startMount(t, nil, t.TempDir(), tt.magnet(), "--peer", s.addr())
			output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		})
	}
}

// TestMetadataFromWhoDialsUs mounts a magnet link by which nobody can be found; libtorrent, which seeds the torrent, dials us.
func TestMetadataFromWhoDialsUs(t *testing.T) {
	t.Parallel()
	needMount(t)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "caller.bin"), noise(74, 500_000)), making{})
	for name, d := range map[string]demand{"in plaintext": anything, "encrypted": encrypted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			m := startMount(t, nil, t.TempDir(), tt.magnet(), "--no-wait", "--listen", addr)
			settings := map[string]any{"listen_interfaces": "127.0.0.1:0"}
			maps.Copy(settings, libtorrentDemands(d))
			runClients(t, nil, client{Settings: settings, Torrents: []role{tt.seeding(addr)}})
			eventually(t, "the link is resolved", func() bool {
				_, err := os.Stat(m.path(tt.name))
				return err == nil
			})
			output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		})
	}
}

// TestMetadataForOthers has libtorrent, which knows nothing but a magnet link, get metadata and content from a mount.
func TestMetadataForOthers(t *testing.T) {
	t.Parallel()
	needMount(t)
	want := noise(73, 500_000)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "given.bin"), want), making{
		info: map[string]any{"x-several-parts": strings.Repeat("metadata ", 10_000)},
	})
	folder := t.TempDir()
	runClients(t, nil, client{
		Settings: map[string]any{"listen_interfaces": "127.0.0.1:0"},
		Torrents: []role{{Magnet: tt.magnet(), Folder: folder, Peers: []string{seedByMount(t, tt, seeding{}).addr()}}},
	})
	eventually(t, "libtorrent has all of it", func() bool {
		got, err := os.ReadFile(filepath.Join(folder, tt.name))
		return err == nil && bytes.Equal(got, want)
	})
}

// aria2 is an aria2c that seeds one torrent.
type aria2 struct {
	*process
	port int
}

func seedByAria2(t testing.TB, tt torrent, _ seeding) seeder {
	t.Helper()
	need(t, "aria2c")
	a := &aria2{port: freePort(t)}
	a.process = start(t, exec.Command("aria2c", "--no-conf", "--dir="+tt.folder, "--seed-ratio=0", "--check-integrity=true",
		"--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false", "--interface=127.0.0.1",
		fmt.Sprintf("--listen-port=%d", a.port), "--summary-interval=0", tt.file))
	eventually(t, "aria2 listens", func() bool {
		nc, err := net.Dial("tcp4", a.addr())
		if err == nil {
			nc.Close()
		}
		return err == nil || a.ended()
	})
	return a
}

func (a *aria2) addr() string    { return fmt.Sprintf("127.0.0.1:%d", a.port) }
func (a *aria2) uploaded() int64 { return -1 } // it does not say

// mountSeeder is a mount that has read everything.
type mountSeeder struct {
	*mount
	port int
}

func seedByMount(t testing.TB, tt torrent, _ seeding) seeder {
	t.Helper()
	s := &mountSeeder{port: freePort(t)}
	s.mount = mountTorrent(t, tt, "--peer", seedByLibtorrent(t, tt, seeding{}).addr(), "--listen", s.addr())
	output(t, "cmp", tt.original(tt.name), s.path(tt.name))
	return s
}

func (s *mountSeeder) addr() string    { return fmt.Sprintf("127.0.0.1:%d", s.port) }
func (s *mountSeeder) uploaded() int64 { return -1 } // it does not say

// TestLargeMetadata gets an info dictionary of 5 MB by a magnet link, from libtorrent and from the mount that got it there;
// the second time it is remembered, and needs nobody.
func TestLargeMetadata(t *testing.T) {
	t.Parallel()
	tt := hugeTorrent(t)
	port, dir := freePort(t), t.TempDir()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	one := startMount(t, nil, t.TempDir(), tt.magnet(), "--peer", seedByLibtorrent(t, tt, seeding{}).addr(), "--listen", addr, "--cache-dir", dir)
	sameEnds(t, tt, one)
	two := startMount(t, nil, t.TempDir(), tt.magnet(), "--peer", addr)
	sameEnds(t, tt, two)
	two.interrupt()
	one.interrupt()
	sameEnds(t, tt, startMount(t, nil, t.TempDir(), tt.magnet(), "--cache-dir", dir))
}

const (
	hugePiece  = 16 << 10
	hugePieces = 5 << 20 / sha1.Size
)

// hugeTorrent is a torrent with as many pieces as make 5 MB of hashes. All but the first and the last are holes.
func hugeTorrent(t testing.TB) torrent {
	t.Helper()
	tt := torrent{file: filepath.Join(t.TempDir(), "huge.torrent"), folder: t.TempDir(), name: "huge.bin"}
	end := noise(71, hugePiece)
	f, err := os.Create(tt.original(tt.name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, (hugePieces - 1) * hugePiece} {
		if _, err := f.WriteAt(end, off); err != nil {
			t.Fatal(err)
		}
	}
	hole, full := sha1.Sum(make([]byte, hugePiece)), sha1.Sum(end)
	var info bytes.Buffer
	fmt.Fprintf(&info, "d6:lengthi%de4:name%d:%s12:piece lengthi%de6:pieces%d:", hugePieces*hugePiece, len(tt.name), tt.name,
		hugePiece, hugePieces*sha1.Size)
	info.Write(full[:])
	for range hugePieces - 2 {
		info.Write(hole[:])
	}
	info.Write(full[:])
	info.WriteByte('e')
	hash := sha1.Sum(info.Bytes())
	tt.hash = hex.EncodeToString(hash[:])
	write(t, tt.file, []byte("d4:info"+info.String()+"e"))
	return tt
}

// sameEnds compares the beginning and the end of a file in a mount with the original.
func sameEnds(t *testing.T, tt torrent, m *mount) {
	t.Helper()
	for _, from := range []string{"0", fmt.Sprint((hugePieces - 4) * hugePiece)} {
		output(t, "cmp", "--ignore-initial="+from, "--bytes="+fmt.Sprint(4*hugePiece), tt.original(tt.name), m.path(tt.name))
	}
}

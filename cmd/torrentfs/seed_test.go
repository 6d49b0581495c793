package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"torrentfs/fetch"
)

// offline keeps tests off the network.
var offline = []string{"--listen=127.0.0.1:0", "--no-dht", "--no-lsd"}

// TestSeedSayings shows how seeding begins and ends.
func TestSeedSayings(t *testing.T) {
	t.Parallel()
	folder, out := makeContent(t), filepath.Join(t.TempDir(), "x.torrent")
	if got := runProgram(t, "create", folder, "-o", out); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	r := startProgram(t, "msg=seeding", append(offline, "seed", out, filepath.Dir(folder))...)
	r.signal(unix.SIGINT)
	r.end()
	for _, want := range []string{`name="My data"`, "listen=127.0.0.1:", `msg=ended uploaded="0 B"`} {
		if !strings.Contains(r.output.String(), want) {
			t.Errorf("no %q in\n%s", want, r.output)
		}
	}
}

// TestSeedRefuses seeds what is not there, or not right.
func TestSeedRefuses(t *testing.T) {
	t.Parallel()
	folder, out := makeContent(t), filepath.Join(t.TempDir(), "x.torrent")
	if got := runProgram(t, "create", folder, "-o", out, "--piece-size", "16KiB"); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	refused := func(path, says string) {
		t.Helper()
		got := runProgram(t, append(offline, "seed", out, path)...)
		if got.code != exitFailure || !strings.Contains(got.stderr, says) {
			t.Errorf("%+v\nwant %q", got, says)
		}
	}
	refused(t.TempDir(), "no such file")
	refused(folder+"-nowhere", "no such file")
	f, err := os.OpenFile(filepath.Join(folder, "a.bin"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0}, 100_000); err != nil {
		t.Fatal(err)
	}
	refused(folder, "1 of 23 pieces can't be read or differ")
	refused(folder, folder+"/a.bin differs from the torrent\n")
	if os.Geteuid() != 0 { // who may read everything
		if err := f.Chmod(0); err != nil {
			t.Fatal(err)
		}
		refused(folder, "a.bin: permission denied\n")
		if err := f.Chmod(0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(5); err != nil {
		t.Fatal(err)
	}
	refused(folder, "has 5 bytes, not the 300001 of the torrent")
}

func TestRenderSeeding(t *testing.T) {
	s := &seeding{name: "film\x1b.mkv", pieces: 7}
	var stats fetch.Stats
	stats.Connected, stats.UpRate, stats.Uploaded = 1, 2e6, 3<<20
	if got, want := s.render(stats, 7, 100), `seeding  1 peer  up 2.0 MB/s  total 3.0 MiB  film\x1b.mkv`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := s.render(stats, 6, 100), `seeding 6 of 7 pieces  1 peer  up 2.0 MB/s  total 3.0 MiB  film\x1b.mkv`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.render(stats, 7, 12); got != "seeding  1 p" {
		t.Errorf("got %q", got)
	}
}

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// makeContent makes a folder with a few files and returns its path.
func makeContent(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "My data")
	for path, length := range map[string]int{"a.bin": 300_001, "B.bin": 7, "sub/c.bin": 70_000} {
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, slices.Repeat([]byte(path), length/len(path)+1)[:length], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestCreate(t *testing.T) {
	t.Parallel()
	folder, out := makeContent(t), filepath.Join(t.TempDir(), "out.torrent")
	got := runProgram(t, "create", folder, "-o", out, "--piece-size", "32KiB", "--name", "data", "--comment", "two words",
		"--tracker", "http://a.example/announce", "--tracker", "udp://b.example:80", "--web-seed", "https://w.example/x/", "--private", "--json")
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	made, err := metainfo.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	var told createdJSON
	if err := json.Unmarshal([]byte(got.stdout), &told); err != nil {
		t.Fatal(err)
	}
	if want := (createdJSON{out, "data", made.InfoHash.String(), 32 << 10, 12, 370_008, told.Magnet}); told != want {
		t.Errorf("it tells %+v, want %+v", told, want)
	}
	if m, err := metainfo.ParseMagnet(told.Magnet); err != nil || m.InfoHash != made.InfoHash || m.Name != "data" {
		t.Errorf("the link %s: %v", told.Magnet, err)
	}
	if made.Name != "data" || made.Comment != "two words" || !made.Private || made.Created.IsZero() ||
		!slices.EqualFunc(made.Trackers, [][]string{{"http://a.example/announce"}, {"udp://b.example:80"}}, slices.Equal[[]string]) ||
		!slices.Equal(made.WebSeeds, []string{"https://w.example/x/"}) {
		t.Errorf("the torrent says %+v", made)
	}

	got = runProgram(t, "create", folder, "-o", out)
	if got.code != exitFailure || !strings.Contains(got.stderr, "--force") {
		t.Errorf("with a torrent in the way: %+v", got)
	}
	if again, err := metainfo.Load(out); err != nil || again.InfoHash != made.InfoHash {
		t.Errorf("a torrent in the way was changed: %v", err)
	}
	got = runProgram(t, "create", folder, "-o", out, "--force")
	if got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	if made, err = metainfo.Load(out); err != nil || made.Name != "My data" || made.Private {
		t.Errorf("--force has not replaced it: %v", err)
	}
	if want := regexp.MustCompile(`^wrote \S+: My data, 361 KiB in \d+ pieces of 16KiB\nmagnet:\?xt=urn:btih:` + made.InfoHash.String() + `&dn=My%20data\n$`); !want.MatchString(got.stdout) {
		t.Errorf("it tells %q", got.stdout)
	}
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) != 1 {
		t.Errorf("it leaves %v behind", left)
	}
}

// TestCreateNames makes torrents without saying where to put them.
func TestCreateNames(t *testing.T) {
	t.Parallel()
	folder, dir := makeContent(t), t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"My data.torrent": {link}, "a.bin.torrent": {folder + "/a.bin"}, "other.torrent": {"--name", "other", folder},
	} {
		cmd := command(append([]string{"create"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		if _, err := metainfo.Load(filepath.Join(dir, want)); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestCreateRefuses puts the torrent where it must not be.
func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	folder := makeContent(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		out, path, says string
	}{
		{folder, folder, "is a directory"},
		{folder + "/x.torrent", folder, "would lie in what it describes"},
		{link + "/sub/x.torrent", folder, "would lie in what it describes"},
		{folder + "/x.torrent", link, "would lie in what it describes"},
		{folder + "/a.bin", folder + "/a.bin", "would lie in what it describes"},
		{"/dev/null", folder, "no ordinary file"},
		{folder + "-nowhere/x.torrent", folder, "no such file"},
		{folder + ".torrent", folder + "-nowhere", "no such file"},
		{folder + strings.Repeat("x", 256), folder, "file name too long"},
	} {
		got := runProgram(t, "create", test.path, "--force", "-o", test.out)
		if got.code != exitFailure || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%s into %s: %+v", test.path, test.out, got)
		}
	}
	if err := filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if filepath.Ext(path) == ".torrent" {
			t.Errorf("%s was left", path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestCreateAsTransmission compares info-hashes with transmission-create's.
func TestCreateAsTransmission(t *testing.T) {
	t.Parallel()
	theirs, err := exec.LookPath("transmission-create")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("transmission-create is not installed (make setup)")
		}
		t.Skip("transmission-create is not installed (make setup)")
	}
	folder := makeContent(t)
	for _, path := range []string{folder, folder + "/a.bin"} {
		for _, private := range []bool{false, true} {
			for _, kib := range []int{16, 64, 1024} {
				dir := t.TempDir()
				args := []string{"-s", strconv.Itoa(kib), "-t", "http://a.example/announce", "-o", dir + "/theirs.torrent", path}
				ours := []string{"create", "--piece-size", strconv.Itoa(kib) + "KiB", "--tracker", "http://a.example/announce", "-o", dir + "/ours.torrent", path}
				if private {
					args, ours = append([]string{"-p"}, args...), append(ours, "--private")
				}
				if out, err := exec.Command(theirs, args...).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if got := runProgram(t, ours...); got.code != exitOK {
					t.Fatalf("%+v", got)
				}
				want, err := metainfo.Load(dir + "/theirs.torrent")
				if err != nil {
					t.Fatal(err)
				}
				got, err := metainfo.Load(dir + "/ours.torrent")
				if err != nil {
					t.Fatal(err)
				}
				if got.InfoHash != want.InfoHash {
					t.Errorf("%s, %d KiB, private %v: info-hash %v, transmission's is %v", path, kib, private, got.InfoHash, want.InfoHash)
				}
			}
		}
	}
}

// TestCreateOnTerminal shows a bar, and takes it away.
func TestCreateOnTerminal(t *testing.T) {
	folder := makeContent(t)
	master, slave := openTerminal(t, 100)
	cmd := command("create", folder, "-o", filepath.Join(t.TempDir(), "x.torrent"))
	cmd.Env = append(cmd.Env, "CI=", "NO_COLOR=", "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown := newLines()
	_, _ = master.WriteTo(shown) // ends with EIO when the program does
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := shown.String(); !regexp.MustCompile(`(?s)\[[#.]+\] +[\d.]+% .*\r\x1b\[Kwrote [^\x1b]*$`).MatchString(got) {
		t.Errorf("it shows %q", got)
	}
}

// TestCreateOddNames warns of names that others may not keep, and shares them.
func TestCreateOddNames(t *testing.T) {
	t.Parallel()
	folder, out := makeContent(t), filepath.Join(t.TempDir(), "x.torrent")
	for _, name := range []string{"a\nb", "\xff", "3\t", "4\t", "5\t", "6\t"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(".", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	got := runProgram(t, "create", folder, "-o", out)
	if got.code != exitOK || !strings.HasPrefix(got.stderr, "left out: 1 link to folders\nwarning: 6 names ") || !strings.Contains(got.stderr, "\n  \\xff\n") ||
		!strings.HasSuffix(got.stderr, "\n  and 1 more\n") {
		t.Errorf("%+v", got)
	}
	r := startProgram(t, "msg=seeding", append(offline, "seed", out, folder)...)
	r.signal(unix.SIGINT)
	r.end()
}

// TestCreateOutputs writes to a long name, to what a link leads to, and to standard output.
func TestCreateOutputs(t *testing.T) {
	t.Parallel()
	folder, dir := makeContent(t), t.TempDir()
	long := filepath.Join(dir, strings.Repeat("x", 255))
	if got := runProgram(t, "create", folder, "-o", long); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(long, link); err != nil {
		t.Fatal(err)
	}
	if got := runProgram(t, "create", folder, "-o", link, "--name", "other", "--force"); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	if made, err := metainfo.Load(long); err != nil || made.Name != "other" {
		t.Errorf("a link is replaced, not what it leads to: %v", err)
	}
	got := runProgram(t, "create", folder, "-o", "-")
	if made, err := metainfo.Parse([]byte(got.stdout)); err != nil || made.Name != "My data" || got.code != exitOK ||
		!strings.HasPrefix(got.stderr, "wrote to standard output: My data, ") {
		t.Errorf("%v %+v", err, got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left are %v %v", left, err)
	}
}

// TestCreateFailsLate leaves nothing behind.
func TestCreateFailsLate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := runProgram(t, "create", t.TempDir(), "-o", filepath.Join(dir, "x"))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 || got.code != exitFailure {
		t.Errorf("left are %v %v of %+v", left, err, got)
	}
}

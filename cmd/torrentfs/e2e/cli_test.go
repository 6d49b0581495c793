package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestRefusals shows what the program says, and with which exit code, when it can't do what it was asked to.
func TestRefusals(t *testing.T) {
	t.Parallel()
	needMount(t)
	dir := t.TempDir()
	empty, full := filepath.Join(dir, "empty"), filepath.Join(dir, "full")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(full, "file"), []byte("not a torrent"))
	good := byTransmission(t, write(t, filepath.Join(dir, "good.bin"), noise(8, 1000)), making{}).file

	for _, c := range []struct {
		args []string
		code int
		says []string // each somewhere in what it writes to standard error
	}{
		{[]string{"mount", good, filepath.Join(dir, "nowhere")}, 1, []string{"nowhere", "mkdir"}},
		{[]string{"mount", good, file}, 1, []string{file, "not a directory"}},
		{[]string{"mount", good, full}, 1, []string{full, "not empty", "--allow-non-empty"}},
		{[]string{"mount", file, empty}, 1, []string{file}},
		{[]string{"mount", filepath.Join(dir, "no.torrent"), empty}, 1, []string{"no.torrent"}},
		{[]string{"mount", good}, 2, []string{"MOUNTPOINT"}},
		{[]string{"mount", "--no-such-flag", good, empty}, 2, []string{"--no-such-flag"}},
		{[]string{"info", file}, 1, []string{file}},
		{[]string{"unmount", empty}, 1, []string{empty}},
		{[]string{"no-such-verb"}, 2, []string{"no-such-verb"}},
	} {
		t.Run(strings.Join(c.args[:1], " ")+" "+c.says[0], func(t *testing.T) {
			t.Parallel()
			p := start(t, exec.Command(binary(t), c.args...))
			if code := p.exit(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(string(p.stderr()), want) {
					t.Errorf("it says\n%s\nwithout %q", p.stderr(), want)
				}
			}
		})
	}
}

// TestKilledMount kills a mount the hard way: its readers get an error, and mounting there again works or tells how
// to make it work.
func TestKilledMount(t *testing.T) {
	t.Parallel()
	m, path := lonely(t, "--read-timeout", "1h")
	cat := blockedCat(t, path)
	m.kill()
	if code := cat.exit(); code != 1 {
		t.Errorf("cat ended with %v, want exit code 1", cat.cmd.ProcessState)
	}
	again := start(t, exec.Command(binary(t), m.cmd.Args[1:]...))
	eventually(t, "the second mount stands or gives up", func() bool {
		_, err := os.Stat(path)
		return again.ended() || err == nil
	})
	if !again.ended() {
		again.signal(syscall.SIGINT)
		again.exit()
		return
	}
	if said := string(again.stderr()); !strings.Contains(said, "unmount") {
		t.Errorf("it doesn't say how to clear the dead mount:\n%s", said)
	}
	outputOf(t, exec.Command(binary(t), "unmount", m.dir))
	if mounted(t, m.dir) {
		t.Error("unmount has not cleared the dead mount")
	}
}

// TestNonEmpty mounts over a directory that has something in it, which comes back afterwards.
func TestNonEmpty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hidden := write(t, filepath.Join(dir, "hidden"), []byte("below"))
	tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "above.bin"), noise(8, 1000)), making{})
	m := startMount(t, nil, dir, tt.file, "--allow-non-empty")
	if got := listing(t, dir); len(got) != 1 || got[0] != "f 1000 above.bin" {
		t.Errorf("the mount shows %q", got)
	}
	m.interrupt()
	output(t, "cat", hidden)
}

// TestSeveralTorrents mounts three torrents at one place, two of them of the same name.
func TestSeveralTorrents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var flags, sources []string
	for i, name := range []string{"one/same.bin", "two/same.bin", "three/other.bin"} {
		tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), name), noise(byte(10+i), 100_000+i)), making{})
		flags = append(flags, "--peer", seedByLibtorrent(t, tt, seeding{}).addr())
		sources = append(sources, tt.file)
	}
	startMount(t, nil, dir, sources[2], append(flags, sources[:2]...)...)
	got := listing(t, dir)
	if len(got) != 3 {
		t.Fatalf("the mount shows %q", got)
	}
	for _, line := range got {
		name := strings.SplitN(line, " ", 3)[2]
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		which := byte(10 + len(b) - 100_000)
		if string(b) != string(noise(which, len(b))) {
			t.Errorf("%s differs from its original", name)
		}
	}
}

// TestDaemon starts a mount in the background and ends it by the unmount verb.
func TestDaemon(t *testing.T) {
	t.Parallel()
	needMount(t)
	dir := t.TempDir()
	want := noise(13, 500_000)
	tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "daemon.bin"), want), making{})
	s := seedByLibtorrent(t, tt, seeding{})
	log := filepath.Join(t.TempDir(), "log")
	t.Cleanup(func() {
		if mounted(t, dir) {
			_ = exec.Command("fusermount3", "-u", "-z", dir).Run() // its process ends with it
		}
		if t.Failed() {
			b, _ := os.ReadFile(log)
			t.Logf("the daemon's log:\n%s", b)
		}
	})
	args := slices.Concat([]string{"mount"}, isolated(t), []string{"--daemon", "--log-file", log, "--peer", s.addr(), tt.file, dir})
	output(t, binary(t), args...)
	if !mounted(t, dir) {
		t.Fatal("it has returned before the mount was usable")
	}
	output(t, "cmp", tt.original(tt.name), filepath.Join(dir, tt.name))
	output(t, binary(t), "unmount", dir)
	if mounted(t, dir) {
		t.Error("it is still mounted")
	}
}

// TestDemo runs the demonstration that needs nobody.
func TestDemo(t *testing.T) {
	t.Parallel()
	needMount(t)
	cmd := exec.Command(binary(t), "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	outputOf(t, cmd)
}

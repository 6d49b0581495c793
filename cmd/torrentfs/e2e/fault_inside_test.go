package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nested makes a folder with a file in a folder of its own, and seeds it.
func nested(t *testing.T, seed byte) (torrent, seeder) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "outer")
	write(t, filepath.Join(root, "inner", "file"), noise(seed, 2<<20+1))
	write(t, filepath.Join(root, "another"), noise(seed+1, 1<<20+1))
	tt := byLibtorrent(t, root, making{})
	return tt, seedByLibtorrent(t, tt, seeding{})
}

// TestFaultMountedOverItself mounts over the directory in which the .torrent lies, the process works and its log is written.
func TestFaultMountedOverItself(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	tt, s := nested(t, 100)
	dir := t.TempDir()
	output(t, "cp", tt.file, filepath.Join(dir, "here.torrent"))
	log := filepath.Join(dir, "log")
	inside := func(cmd *exec.Cmd) *exec.Cmd {
		wrapped := exec.Command("bash", append([]string{"-c", `exec 9>log; exec "$0" "$@" 2> >(exec tee >(exec cat >&2) >&9)`, cmd.Path}, cmd.Args[1:]...)...)
		wrapped.Env, wrapped.Dir = cmd.Env, dir
		return wrapped
	}
	m := startMount(t, inside, dir, "here.torrent", "--allow-non-empty", "--peer", s.addr())
	output(t, "diff", "-r", tt.original(tt.name), m.path(tt.name))
	if _, err := os.Stat(log); !os.IsNotExist(err) {
		t.Errorf("the log below the mount: %v", err)
	}
	m.interrupt()
	output(t, "cmp", tt.file, filepath.Join(dir, "here.torrent"))
	eventually(t, "the log has gone on below the mount", func() bool {
		b, err := os.ReadFile(log)
		return err == nil && bytes.Contains(b, []byte("msg=unmounted"))
	})
}

// TestFaultMountInMount mounts a torrent at a folder of another one's mount, with its cache and what it exports there too: none of
// it hangs, and the mount that has another in it ends with that.
func TestFaultMountInMount(t *testing.T) {
	t.Parallel()
	outer, outerSeed := nested(t, 102)
	inner, innerSeed := nested(t, 104)
	o := startMount(t, nil, t.TempDir(), outer.file, "--peer", outerSeed.addr())
	place := o.path(filepath.Join(outer.name, "inner"))

	refused := start(t, exec.Command(binary(t), slices.Concat([]string{"mount"}, isolated(t), []string{inner.file, place})...))
	if code := refused.exit(); code != 1 || !strings.Contains(string(refused.stderr()), "--allow-non-empty") {
		t.Errorf("over files of another mount: exit code %d, %s", code, refused.stderr())
	}
	elsewhere := t.TempDir()
	i := startMount(t, nil, place, inner.file, "--allow-non-empty", "--peer", innerSeed.addr(), "--cache-dir", elsewhere)
	output(t, "diff", "-r", inner.original(inner.name), i.path(inner.name))
	output(t, "cmp", outer.original(filepath.Join(outer.name, "another")), o.path(filepath.Join(outer.name, "another")))

	export := start(t, exec.Command(binary(t), "cache", "export", "--cache-dir", elsewhere, inner.file, o.path(outer.name)))
	if code := export.exit(); code != 1 || !strings.Contains(string(export.stderr()), "read-only file system") {
		t.Errorf("exported into a mount: exit code %d, %s", code, export.stderr())
	}
	i.interrupt()
	output(t, "diff", "-r", outer.original(outer.name), o.path(outer.name))

	// A mount whose cache would be in another one goes without.
	i = startMount(t, nil, place, inner.file, "--allow-non-empty", "--peer", innerSeed.addr(), "--cache-dir", o.path(outer.name))
	output(t, "diff", "-r", inner.original(inner.name), i.path(inner.name))
	if !bytes.Contains(i.stderr(), []byte("level=WARN")) {
		t.Errorf("nothing is said of the cache:\n%s", i.stderr())
	}
	o.interrupt()
	i.awaitEnd()
}

// TestFaultPlacesBelowTheMountpoint has a mount keep its cache or its log below its own mountpoint, which is refused.
func TestFaultPlacesBelowTheMountpoint(t *testing.T) {
	t.Parallel()
	needMount(t)
	tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "file.bin"), noise(106, 1000)), making{})
	dir := t.TempDir()
	for flag, args := range map[string][]string{
		"--cache-dir": {"--cache-dir", filepath.Join(dir, "cache")},
		"--log-file":  {"--daemon", "--cache-dir", t.TempDir(), "--log-file", filepath.Join(dir, "log")},
	} {
		p := start(t, exec.Command(binary(t), slices.Concat([]string{"mount", "--no-dht", "--no-lsd"}, args, []string{tt.file, dir})...))
		if code := p.exit(); code != 2 || !strings.Contains(string(p.stderr()), flag) {
			t.Errorf("%s: exit code %d, %s", flag, code, p.stderr())
		}
		if mounted(t, dir) {
			t.Errorf("%s: it is mounted", flag)
		}
	}
	if left := listing(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

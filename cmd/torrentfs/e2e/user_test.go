package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOrdinaryUser mounts, reads and unmounts as a user who isn't root.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("every other test has run as an ordinary user already")
	}
	needMount(t)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	as := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "HOME=/nonexistent", "XDG_CACHE_HOME=", "XDG_RUNTIME_DIR=")
		return cmd
	}
	if err := as(exec.Command("sh", "-c", ": <> /dev/fuse")).Run(); err != nil {
		missing(t, "/dev/fuse is not for ordinary users here (make setup as root)")
	}
	home := t.TempDir()
	if err := os.Chmod(filepath.Dir(home), 0o755); err != nil { // it is for this user alone
		t.Fatal(err)
	}
	dir := filepath.Join(home, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{home, dir} {
		if err := os.Chown(path, int(nobody.Uid), int(nobody.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	original := write(t, filepath.Join(home, "shared", "file.bin"), noise(6, 3<<20+5))
	tt := byTransmission(t, original, making{})
	source := filepath.Join(home, "file.torrent")
	output(t, "install", "-m", "644", tt.file, source)
	s := seedByLibtorrent(t, tt, seeding{})

	m := startMount(t, as, dir, source, "--cache-dir", filepath.Join(home, "cache"), "--peer", s.addr())
	outputOf(t, as(exec.Command("cmp", original, filepath.Join(dir, tt.name))))
	owner := outputOf(t, as(exec.Command("stat", "--format=%u %g", filepath.Join(dir, tt.name))))
	if strings.TrimSpace(owner) != "65534 65534" {
		t.Errorf("the file belongs to %s", owner)
	}
	if err := exec.Command("cat", filepath.Join(dir, tt.name)).Run(); err == nil {
		t.Error("another user could read the mount without --allow-other")
	}
	outputOf(t, as(exec.Command(binary(t), "unmount", dir)))
	m.awaitEnd()
}

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asUser runs a command as a user who is not root.
func asUser(id uint32, cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	cmd.Dir = "/"
	return cmd
}

// TestFaultOtherUsers has another user look into a mount: without --allow-other it is closed to them, with it they may read, and
// do nothing else.
func TestFaultOtherUsers(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can act for another user")
	}
	const other = 65533
	root := filepath.Join(t.TempDir(), "for all")
	write(t, filepath.Join(root, "data"), noise(108, 1<<20+1))
	script := write(t, filepath.Join(root, "script"), []byte("#!/bin/sh\necho ran\n"))
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	tt := byLibtorrent(t, root, making{})
	s := seedByLibtorrent(t, tt, seeding{})
	for _, c := range []struct {
		name  string
		flags []string
		// What each command line says to the other user in /bin/sh, "" for success, in the folder of the torrent.
		says map[string]string
	}{
		{"closed", nil, map[string]string{
			`ls "$0"`: "Permission denied", `cat "$0/data"`: "Permission denied", `stat "$0"`: "Permission denied",
		}},
		{"open", []string{"--allow-other"}, map[string]string{
			`ls -l "$0"`: "", `cmp "$0/data" "$1/data"`: "", `test "$("$0/script")" = ran`: "", `test -r "$0/data" -a ! -w "$0/data"`: "",
			`"$0/data"`: "Permission denied", `echo > "$0/data"`: "Read-only file system", `rm -f "$0/data"`: "Read-only file system",
			`touch "$0/new"`: "Read-only file system", `chmod 777 "$0/data"`: "Read-only file system",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, above := range []string{filepath.Dir(dir), filepath.Dir(filepath.Dir(root))} {
				if err := os.Chmod(above, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			m := startMount(t, nil, dir, tt.file, append(c.flags, "--peer", s.addr())...)
			output(t, "diff", "-r", root, m.path(tt.name))
			for line, want := range c.says {
				p := start(t, asUser(other, exec.Command("sh", "-c", line, m.path(tt.name), root)))
				code := p.exit()
				if said := string(p.stderr()); (code == 0) != (want == "") || !strings.Contains(said, want) {
					t.Errorf("%s: exit code %d, %s; want %q", line, code, said, want)
				}
			}
			m.interrupt()
		})
	}
}

// TestFaultAllowOtherByAnyUser mounts with --allow-other as a user who is not root: that takes a line in fuse.conf, which the
// program tells of where it is missing.
func TestFaultAllowOtherByAnyUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can change fuse.conf")
	}
	needMount(t)
	need(t, "unshare", "setpriv")
	want := noise(109, 1<<20+1)
	tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "theirs.bin"), want), making{})
	s := seedByLibtorrent(t, tt, seeding{})
	home := t.TempDir()
	if err := os.Chmod(filepath.Dir(home), 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, "install", "-m", "644", tt.file, filepath.Join(home, "t.torrent"))
	output(t, "install", "-m", "644", tt.original(tt.name), filepath.Join(home, "original"))
	output(t, "install", "-d", "-o", "65534", filepath.Join(home, "mnt"), filepath.Join(home, "cache"))
	// What fuse.conf says here is for this process and those below it alone, and so is the mount.
	const script = `
set -e
cd "$1"; printf '%s\n' "$2" > fuse.conf; chmod 644 fuse.conf; mount --bind fuse.conf /etc/fuse.conf
as() { id=$1; shift; setpriv --reuid "$id" --regid "$id" --clear-groups "$@"; }
as 65534 "$0" mount --daemon --allow-other --no-dht --no-lsd --listen 127.0.0.1:0 --cache-dir cache --peer "$3" t.torrent mnt
trap 'as 65534 "$0" unmount mnt' EXIT
as 65533 cmp original mnt/theirs.bin
`
	run := func(conf string) *process {
		return start(t, exec.Command("unshare", "-m", "sh", "-c", script, binary(t), home, conf, s.addr()))
	}
	p := run("# user_allow_other")
	if code := p.exit(); code != 1 || !strings.Contains(string(p.stderr()), "user_allow_other") || !strings.Contains(string(p.stderr()), "/etc/fuse.conf") {
		t.Errorf("without user_allow_other: exit code %d, %s", code, p.stderr())
	}
	p = run("user_allow_other")
	if code := p.exit(); code != 0 {
		t.Errorf("with user_allow_other: exit code %d, %s", code, p.stderr())
	}
}

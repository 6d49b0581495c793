package fs

import (
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMountErrors(t *testing.T) {
	needFUSE(t)
	dir := t.TempDir()
	file, full := filepath.Join(dir, "file"), filepath.Join(dir, "full")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(full, "sub"), 0o777); err != nil {
		t.Fatal(err)
	}
	live := startServer(t, serverOptions{}, 0)
	for _, c := range []struct {
		name, dir string
		opt       serverOptions
		parts     []string
	}{
		{"missing", filepath.Join(dir, "no"), serverOptions{}, []string{"does not exist", "mkdir -p"}},
		{"missing parent", filepath.Join(dir, "no/no"), serverOptions{}, []string{"does not exist", "mkdir -p"}},
		{"file", file, serverOptions{}, []string{"not a directory"}},
		{"in a file", file + "/x", serverOptions{}, []string{"not a directory"}},
		{"not empty", full, serverOptions{}, []string{"not empty", "--allow-non-empty"}},
		{"mounted", live.dir, serverOptions{}, []string{"already", "torrentfs unmount " + live.dir}},
		{"mounted, not empty", live.dir, serverOptions{AllowNonEmpty: true}, []string{"already"}},
	} {
		_, r := tryServer(t, serverConfig{Dir: c.dir, Options: c.opt})
		for _, part := range append(c.parts, c.dir) {
			if !strings.Contains(r.Error, part) {
				t.Errorf("%s: the error %q lacks %q", c.name, r.Error, part)
			}
		}
	}
	if _, r := tryServer(t, serverConfig{Dir: full, Options: serverOptions{AllowNonEmpty: true}}); r.Error != "" {
		t.Errorf("not empty, and allowed to be: %s", r.Error)
	}
}

func TestMountWithoutTheHelper(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Mount(t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "apt install fuse3") {
		t.Error(err)
	}
}

// What the helper says becomes part of the error, and what others log meanwhile is still logged.
func TestTheHelpersWordsAreInTheError(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\necho 'fusermount3: too many FUSE filesystems mounted; mount_max=N can be set' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bin, helper), []byte(script), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	var logged strings.Builder
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	_, err := connect(t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "too many FUSE filesystems") || strings.Contains(err.Error(), "exit status") {
		t.Error(err)
	}
	if logged.Len() != 0 || log.Writer() != io.Writer(&logged) {
		t.Errorf("logged %q", logged.String())
	}
}

// An ordinary user mounts, reads and unmounts through the helper.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests are an ordinary user's")
	}
	needFUSE(t)
	const nobody = 65534
	dir := publicDir(t)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cred := &syscall.Credential{Uid: nobody, Gid: nobody}
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		return cmd
	}
	binary := readableBinary(t)
	cfg := serverConfig{Dir: dir, Options: serverOptions{ReadTimeout: patient}, Gate: 1 << 20}
	cfg.Torrents = append(cfg.Torrents, single(1, "file", 1<<20), single(2, "far", 4<<20))
	s, r := startUser(t, binary, cfg, cred)
	if strings.Contains(r.Error, "/dev/fuse") {
		t.Skip(r.Error)
	}
	if r.Error != "" {
		t.Fatal(r.Error)
	}
	if out, err := as("cat", filepath.Join(dir, "file")).Output(); err != nil || len(out) != 1<<20 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	waiting := as("cat", filepath.Join(dir, "far"))
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	ended := start(waiting.Wait)
	s.until("a blocked read", blocked)
	s.tell("unmount")
	if r := soon(t, "unmounted", start(s.receive)); r.Error != "" || !r.Done {
		t.Errorf("%+v", r)
	}
	if err := soon(t, "cat ends", ended); err == nil {
		t.Error("cat succeeded")
	}

	if _, r := startUser(t, binary, serverConfig{Dir: "/usr", Options: serverOptions{AllowNonEmpty: true}}, cred); !strings.Contains(r.Error, "a directory that you own") {
		t.Errorf("somebody else's directory: %q", r.Error)
	}
	if conf, err := os.ReadFile(fuseConf); err != nil || !confAllowsOther(conf) {
		_, r := startUser(t, binary, serverConfig{Dir: dir, Options: serverOptions{AllowOther: true}}, cred)
		if !strings.Contains(r.Error, "user_allow_other") {
			t.Errorf("allow other: %q", r.Error)
		}
	}
}

// publicDir returns a directory that every user can reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readableBinary returns a copy of the test's program that every user may run.
func readableBinary(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(publicDir(t), "fs.test")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

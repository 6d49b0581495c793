package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a pseudo-terminal of so many columns.
func openTerminal(t *testing.T, columns uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// onTerminal mounts a torrent with a terminal as stdout and stderr, lets a reader block, ends the mount when ready
// shows, and returns all that was shown.
func onTerminal(t *testing.T, columns uint16, ready string, env ...string) string {
	t.Helper()
	needFUSE(t)
	dir, torrent := t.TempDir(), makeTorrent(t)
	master, slave := openTerminal(t, columns)
	cmd := command("mount", "--listen=127.0.0.1:0", "--no-dht", "--no-lsd", torrent, dir)
	cmd.Env = append(append(cmd.Env, "CI=", "NO_COLOR=", "TERM=xterm"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown := newLines()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = master.WriteTo(shown) // ends with EIO when the program does
		shown.end()
	}()
	reading := make(chan struct{})
	if shown.await("mounted") {
		go func() {
			defer close(reading)
			_, _ = os.ReadFile(filepath.Join(dir, "folder", "a"))
		}()
	} else {
		close(reading)
	}
	if !shown.await(ready) {
		t.Errorf("%q is not shown", ready)
	}
	if _, err := master.WriteString("\x03"); err != nil { // Ctrl-C
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	<-reading
	<-copied
	return shown.String()
}

func TestStatusLineOnTerminal(t *testing.T) {
	shown := onTerminal(t, 100, "reads wait for a peer")
	if !strings.Contains(shown, "\x1b[2m0 peers  down 0 B/s  reads wait for a peer  cache ") {
		t.Errorf("no status line in %q", shown)
	}
	// What stays on the screen when each status line is cleared again is a log line or nothing.
	left := regexp.MustCompile(`\r\x1b\[K\x1b\[2m[^\r\n]*\x1b\[0m(\^C)?\r\x1b\[K`)
	for left.MatchString(shown) {
		shown = left.ReplaceAllString(shown, clearLine)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(shown, "\r\n"), "\r\n") {
		line = strings.ReplaceAll(line, clearLine, "")
		if !regexp.MustCompile(`^\d\d:\d\d:\d\d [^\r\x1b]+$`).MatchString(line) {
			t.Errorf("garbled: %q", line)
		}
	}
	if !regexp.MustCompile(`\d unmounted `).MatchString(shown) {
		t.Errorf("it does not end well: %q", shown)
	}
}

func TestNarrowTerminal(t *testing.T) {
	shown := onTerminal(t, 24, "down 0 B/s")
	if strings.Contains(shown, "reads wait for") {
		t.Errorf("too wide: %q", shown)
	}
}

func TestNoColor(t *testing.T) {
	if shown := onTerminal(t, 100, "reads wait for a peer", "NO_COLOR=1"); strings.Contains(shown, "\x1b[2m") {
		t.Errorf("colours in %q", shown)
	}
}

func TestNoStatusLine(t *testing.T) {
	for _, env := range []string{"CI=true", "TERM=dumb"} {
		if shown := onTerminal(t, 100, "msg=mounted", env); strings.Contains(shown, "\x1b") {
			t.Errorf("%s: control sequences in %q", env, shown)
		}
	}
}

// TestForeground asks jobs of a shell whether the terminal is theirs.
func TestForeground(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{`"$0"`: "true", `"$0" & wait`: "false"} {
		master, slave := openTerminal(t, 80)
		cmd := exec.Command("sh", "-c", "set -m; "+script, self)
		cmd.Env = append(os.Environ(), asProgram+"=foreground")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		shown := newLines()
		_, _ = master.WriteTo(shown) // until the last process has ended
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if got := strings.TrimSpace(shown.String()); got != want {
			t.Errorf("%s: %q, want %s", script, got, want)
		}
	}
}

package fs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"bazil.org/fuse"
	"golang.org/x/sys/unix"
)

// helper is the program that mounts and unmounts for ordinary users, and the only one bazil.org/fuse knows of.
const helper = "fusermount3"

const fuseConf = "/etc/fuse.conf"

var errNoHelper = errors.New(helper + " not found: install the package fuse3 (Debian, Ubuntu: apt install fuse3)")

// check finds what would make mounting at dir fail, or succeed to nobody's joy, and returns dir absolute and
// with its symbolic links resolved. Newer versions of the helper mount over a directory with files in it
// without asking, so that is checked here as well.
func check(dir string, opt Options) (string, error) {
	if _, err := exec.LookPath(helper); err != nil {
		return "", errNoHelper
	}
	if _, err := os.Stat("/dev/fuse"); errors.Is(err, os.ErrNotExist) {
		return "", errors.New("/dev/fuse does not exist: load the kernel's fuse module (modprobe fuse), or start the container with --device /dev/fuse")
	}
	if opt.AllowOther && os.Geteuid() != 0 {
		if conf, err := os.ReadFile(fuseConf); err == nil && !confAllowsOther(conf) {
			return "", errors.New("letting other users in needs the line user_allow_other in " + fuseConf + ": have root add it, or mount without --allow-other")
		}
	}
	path, err := resolve(dir)
	if err != nil {
		return "", err
	}
	if err := clearDead(path, dir, opt.Logger); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("mountpoint %s does not exist: create it with mkdir -p %s", dir, dir)
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("mountpoint %s: permission denied: choose a directory of your own; if it is a mount of another user, only that user can see into it", dir)
	case err != nil:
		return "", fmt.Errorf("mountpoint %s: %w", dir, err)
	case !info.IsDir():
		return "", fmt.Errorf("mountpoint %s is not a directory: give an empty directory", dir)
	}
	if !opt.AllowNonEmpty {
		if err := checkEmpty(path, dir); err != nil {
			return "", err
		}
	}
	return path, nil
}

// clearDead unmounts what a torrentfs that was killed has left at path, and refuses one that lives; dir is what the user
// calls path.
func clearDead(path, dir string, log *slog.Logger) error {
	for {
		if m, ok := mountedAt(path); !ok || m.fsType != fsType {
			return nil
		}
		switch err := ping(path); {
		case err == nil:
			return fmt.Errorf("a torrentfs is mounted at %s already: unmount it first with `torrentfs unmount %s`, or mount elsewhere", dir, dir)
		case errors.Is(err, errSilent):
			return fmt.Errorf("a torrentfs is mounted at %s already and does not answer: its process is stopped or hangs; unmount it with `torrentfs unmount %s`, or mount elsewhere", dir, dir)
		case !errors.Is(err, syscall.ENOTCONN):
			return fmt.Errorf("mountpoint %s: %w", dir, err)
		}
		if err := detach(context.Background(), path); err != nil {
			return fmt.Errorf("mountpoint %s is a dead mount, left by a process that is gone: clear it with `torrentfs unmount %s` or `%s -u %s` (%w)",
				dir, dir, helper, dir, err)
		}
		log.Info("cleared a dead mount, left by a process that is gone", "mountpoint", dir)
	}
}

var errSilent = errors.New("no answer")

// ping asks a mount whether anybody serves it, and waits for the answer for a moment only. The kernel may still answer
// other questions for one that is dead.
func ping(path string) error {
	answer := make(chan error, 1)
	go func() { answer <- unix.Statfs(path, new(unix.Statfs_t)) }() // where nobody answers, only the end of the process ends it
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-timer.C:
		return errSilent
	}
}

// checkEmpty makes sure that mounting hides nothing; dir is what the user calls path.
func checkEmpty(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("mountpoint %s: %w", dir, err)
	}
	defer f.Close()
	switch _, err := f.Readdirnames(1); {
	case err == nil:
		return fmt.Errorf("mountpoint %s is not empty: choose an empty directory, or hide what it holds with --allow-non-empty", dir)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return fmt.Errorf("mountpoint %s: %w", dir, err)
	}
}

// confAllowsOther says whether a fuse.conf lets ordinary users use allow_other.
func confAllowsOther(conf []byte) bool {
	for line := range bytes.Lines(conf) {
		if string(bytes.TrimSpace(line)) == "user_allow_other" {
			return true
		}
	}
	return false
}

// resolve returns dir absolute and without symbolic links, not looking into dir itself: that may be a dead
// mount, or one whose process hangs.
func resolve(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	for links := 0; err == nil && links < 40; links++ {
		target, linkErr := os.Readlink(path)
		if linkErr != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
	}
	if err != nil {
		return "", err
	}
	if path == "/" {
		return path, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("mountpoint %s does not exist: create it with mkdir -p %s", dir, dir)
	}
	if err != nil {
		return "", fmt.Errorf("mountpoint %s: %w", dir, err)
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// connecting serialises connect, which borrows the process's standard logger.
var connecting sync.Mutex

// connect mounts by way of the helper. What the helper says goes to the standard logger only, so it is caught
// there to become part of the error; what others log meanwhile is passed on.
func connect(dir string, options []fuse.MountOption) (*fuse.Conn, error) {
	connecting.Lock()
	defer connecting.Unlock()
	var caught bytes.Buffer
	logger := log.Writer()
	log.SetOutput(&caught)
	conn, err := fuse.Mount(dir, options...)
	log.SetOutput(logger)

	var said []string
	for lines := bufio.NewScanner(&caught); lines.Scan(); {
		line := lines.Text()
		if _, after, ok := strings.Cut(line, "mount helper error: "); ok {
			said = append(said, strings.TrimPrefix(after, helper+": "))
		} else if !strings.Contains(line, "mount helper ") {
			_, _ = io.WriteString(logger, line+"\n")
		}
	}
	if err == nil {
		return conn, nil
	}
	if len(said) > 0 {
		return nil, fmt.Errorf("can't mount at %s: %s says: %s%s", dir, helper, strings.Join(said, "; "), advice(said[0]))
	}
	return nil, fmt.Errorf("can't mount at %s: %w", dir, err)
}

// advice says what to do about a message of the helper, where the message doesn't.
func advice(said string) string {
	for _, a := range []struct{ in, advice string }{
		{"no write access", "give a directory that you own"},
		{"not owned by user", "give a directory that you own"},
		{"Operation not permitted", "a container needs --device /dev/fuse --cap-add SYS_ADMIN"},
		{"Permission denied", "your user must be allowed to open /dev/fuse"},
		{"mount_max", "unmount some first"},
	} {
		if strings.Contains(said, a.in) {
			return " (" + a.advice + ")"
		}
	}
	return ""
}

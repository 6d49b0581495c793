package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a busy mount is tried again before it is detached lazily.
const patience = 2 * time.Second

// Unmount fails all reads with EIO, those that wait at once, and unmounts. A mount that stays busy for a short
// while, or until ctx ends, is detached from the tree of files lazily; programs that still hold its files open
// get errors from them. Unmount returns when the tree is served no more, and nil if it was unmounted already.
func (t *Tree) Unmount(ctx context.Context) error {
	t.abort()
	m, ok := mountedAt(t.dir)
	switch {
	case ok && m.device == t.device, t.device == "", !legible(): // without a descriptor left for the table, it is there still
		if err := detach(ctx, t.dir); err != nil {
			return err
		}
	case ok && mounted(mounts(), t.device): // with nothing at dir, a mount of that number is another one: numbers come back
		return fmt.Errorf("can't unmount %s: another mount (%s) covers it; unmount that one first", t.dir, m.fsType)
	}
	t.end()
	<-t.done
	return nil
}

// end brings serving to its end after the mount has left the tree of files. A connection lives on while a
// program holds a file of it open, or while another mount namespace has a copy: it is aborted if the kernel
// lets us, and left to the end of the process if not.
func (t *Tree) end() {
	t.abort()
	if !t.servedWithin(grace) {
		abortConnection(t.device)
		if !t.servedWithin(grace) {
			t.log.Warn("unmounted, but files of it are still open elsewhere", "dir", t.dir)
			t.finish(nil)
		}
	}
}

func (t *Tree) servedWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.served:
		return true
	case <-timer.C:
		return false
	}
}

// Unmount unmounts the torrentfs mounted at dir, by whatever process, dead or alive. A mount that stays busy
// for a short while is detached lazily, and its process ends.
func Unmount(dir string) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	m, ok := mountedAt(dir)
	switch {
	case !ok:
		return fmt.Errorf("nothing is mounted at %s", dir)
	case m.fsType != fsType:
		return fmt.Errorf("what is mounted at %s is not a torrentfs but %s: use umount(8) if you want it unmounted", dir, m.fsType)
	}
	return detach(context.Background(), dir)
}

// detach unmounts dir, at last lazily. It outlasts the end of ctx, but not for long.
func detach(ctx context.Context, dir string) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := umount(dir, false)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
			continue
		case <-timeout.C:
		case <-ctx.Done():
		}
		again.Stop()
		return umount(dir, true)
	}
}

// umount unmounts dir, once; lazily means now, in the eyes of new openers, and with an end to its connection
// where the caller may bring that about. The error of a busy mount is EBUSY. Root needs no helper.
func umount(dir string, lazily bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazily {
			flags |= unix.MNT_DETACH | unix.MNT_FORCE // force aborts the connection
		}
		err := unix.Unmount(dir, flags)
		if !errors.Is(err, syscall.EPERM) { // root of a container may need the helper after all
			return umountError(dir, err)
		}
	}
	args := []string{"-u", "--", dir}
	if lazily {
		args = []string{"-u", "-z", "--", dir}
	}
	cmd := exec.Command(helper, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	output, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return errNoHelper
	case bytes.Contains(output, []byte("Device or resource busy")):
		return umountError(dir, syscall.EBUSY)
	default:
		said := strings.TrimSpace(string(output))
		return fmt.Errorf("can't unmount %s: %s: %w", dir, said, err)
	}
}

func umountError(dir string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("can't unmount %s: %w", dir, err)
}

// abortConnection ends the FUSE connection of a device for good, as far as the kernel's control file system is
// there and lets us.
func abortConnection(device string) {
	_, minor, ok := strings.Cut(device, ":")
	if !ok {
		return
	}
	file := filepath.Join("/sys/fs/fuse/connections", minor, "abort")
	if f, err := os.OpenFile(file, os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString("1")
		f.Close()
	}
}

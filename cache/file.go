package cache

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// blockSize is what file systems allocate and free by, mostly.
const blockSize = 4096

// openRegular opens a file by its own name: no symbolic link is followed, no pipe waited for.
func openRegular(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, how|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, errNotRegular)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isReadOnly says whether err means that we may not write here, which still leaves reading.
func isReadOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// isFull says whether err means that there is no room.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// isAt says whether path still names f.
func isAt(f *os.File, path string) bool {
	there, err := os.Lstat(path)
	if err != nil {
		return false
	}
	here, err := f.Stat()
	return err == nil && os.SameFile(here, there)
}

// flock changes our lock on f, without waiting; false when somebody else's lock is in the way. A file system without
// locks grants every one: they only spare processes each other's downloads.
func flock(f *os.File, how int) bool {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			return !errors.Is(err, unix.EWOULDBLOCK)
		}
	}
}

// allocated returns the bytes that f takes on disk.
func allocated(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return onDisk(st)
}

// onDisk returns the bytes a file takes on disk.
func onDisk(st os.FileInfo) int64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return st.Size()
}

// freeSpace returns the bytes free for us in the file system of dir, and its size.
func freeSpace(dir string) (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	block := int64(st.Bsize) //nolint:unconvert // it is unsigned elsewhere
	return int64(st.Bavail) * block, int64(st.Blocks) * block, nil
}

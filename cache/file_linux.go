package cache

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// punchHole frees the blocks of [off, off+n); it reads as zeros from then on.
func punchHole(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// adviceStep is how much is asked for at a time, in bytes: of more than the device reads in one go the kernel ignores the
// rest.
const adviceStep = 256 << 10

// willNeed has the kernel read [off, off+n) ahead.
func willNeed(f *os.File, off, n int64) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for end := off + n; off < end; off += adviceStep {
			if unix.Fadvise(int(fd), off, min(adviceStep, end-off), unix.FADV_WILLNEED) != nil {
				return
			}
		}
	})
}

// openDirect opens data, which path names, for writing past the page cache; nil where that can't be.
func openDirect(path string, data *os.File) *os.File {
	f, err := openRegular(path, os.O_WRONLY|unix.O_DIRECT)
	if err != nil {
		return nil
	}
	if !isAt(data, path) { // changed under us; upkeep will notice
		f.Close()
		return nil
	}
	return f
}

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

// willNeed has the kernel read [off, off+n) ahead. Should f be closed meanwhile, the advice is lost or misplaced,
// which harms nobody.
func willNeed(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_WILLNEED)
}

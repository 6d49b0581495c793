package cache

import (
	"os"

	"golang.org/x/sys/unix"
)

// punchHole frees the blocks of [off, off+n); it reads as zeros from then on.
func punchHole(f *os.File, off, n int64) error {
	return ignoringEINTR(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// willNeed has the kernel read [off, off+n) ahead.
func willNeed(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_WILLNEED)
}

// cloneRange makes [to, to+n) of dst share the blocks of [from, from+n) of src. Offsets have to be multiples of the
// block size, and n as well unless it ends with the file.
func cloneRange(dst *os.File, to int64, src *os.File, from, n int64) error {
	return ignoringEINTR(func() error {
		return unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
			Src_fd: int64(src.Fd()), Src_offset: uint64(from), Src_length: uint64(n), Dest_offset: uint64(to),
		})
	})
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

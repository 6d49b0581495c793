package fs

import (
	"context"
	"syscall"
)

// errno maps the failure of a read to what the kernel is told; req is the context of the kernel's request.
//
// A request that the kernel interrupted gives EINTR. Everything else, a time-out and an unmount among them, is EIO: a program can do
// nothing about the finer reason, and an errno with a meaning of its own (ENOENT, EAGAIN) would mislead it. The reason is logged.
func errno(req context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case req.Err() != nil:
		return syscall.EINTR
	default:
		return syscall.EIO
	}
}

package fs

import (
	"context"
	"syscall"
)

// errno maps the failure of a read to what the kernel is told; req is the context of the kernel's request.
//
// An interrupted request gives context.Canceled itself, unwrapped: bazil.org/fuse turns that value alone into EINTR, and only
// for a request that the kernel did interrupt. Everything else, a time-out and an unmount among them, is EIO: a program can do
// nothing about the finer reason, and an errno with a meaning of its own (ENOENT, EAGAIN) would mislead it. The reason is logged.
func errno(req context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case req.Err() != nil:
		return context.Canceled
	default:
		return syscall.EIO
	}
}

package fs

import (
	"context"
	"syscall"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// readOnly is the part of a node that every node shares: nothing can be changed. The kernel refuses most
// attempts by itself, the mount being read-only, unless root remounts it writable.
//
// The answer ENOSYS is for good: the kernel doesn't ask again, which saves a round trip for every file listed,
// opened or closed. Programs see ENOTSUP for extended attributes, and success for fsync.
type readOnly struct{}

var errReadOnly = syscall.EROFS

func (readOnly) Setattr(context.Context, *fuse.SetattrRequest, *fuse.SetattrResponse) error {
	return errReadOnly
}

func (readOnly) Symlink(context.Context, *fuse.SymlinkRequest) (fusefs.Node, error) {
	return nil, errReadOnly
}

func (readOnly) Link(context.Context, *fuse.LinkRequest, fusefs.Node) (fusefs.Node, error) {
	return nil, errReadOnly
}

func (readOnly) Remove(context.Context, *fuse.RemoveRequest) error { return errReadOnly }

func (readOnly) Mkdir(context.Context, *fuse.MkdirRequest) (fusefs.Node, error) {
	return nil, errReadOnly
}

func (readOnly) Create(context.Context, *fuse.CreateRequest, *fuse.CreateResponse) (fusefs.Node, fusefs.Handle, error) {
	return nil, nil, errReadOnly
}

func (readOnly) Rename(context.Context, *fuse.RenameRequest, fusefs.Node) error { return errReadOnly }

func (readOnly) Mknod(context.Context, *fuse.MknodRequest) (fusefs.Node, error) {
	return nil, errReadOnly
}

func (readOnly) Setxattr(context.Context, *fuse.SetxattrRequest) error { return errReadOnly }

func (readOnly) Removexattr(context.Context, *fuse.RemovexattrRequest) error { return errReadOnly }

func (readOnly) Getxattr(context.Context, *fuse.GetxattrRequest, *fuse.GetxattrResponse) error {
	return syscall.ENOSYS
}

func (readOnly) Listxattr(context.Context, *fuse.ListxattrRequest, *fuse.ListxattrResponse) error {
	return syscall.ENOSYS
}

func (readOnly) Fsync(context.Context, *fuse.FsyncRequest) error { return syscall.ENOSYS }

func (readOnly) Poll(context.Context, *fuse.PollRequest, *fuse.PollResponse) error {
	return syscall.ENOSYS
}

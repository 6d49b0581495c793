package fs

import (
	"context"
	"sync/atomic"
	"time"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
	"bazil.org/fuse/fuseutil"
)

// A notice is a text of this program's own, shown as a file. It is made anew for every look at it, so the
// kernel keeps nothing of it.
type notice struct {
	readOnly
	name  string // as shown
	inode uint64
	text  atomic.Pointer[func() []byte]
}

func (n *notice) Attr(_ context.Context, a *fuse.Attr) error {
	s := stat{inode: n.inode, mode: 0o444, links: 1, size: int64(len((*n.text.Load())())), mtime: time.Now()}
	s.fill(a)
	a.Valid = 0
	return nil
}

// Open takes the text as it is now. Reads go past the page cache and find its end by themselves, whatever
// length was told before.
func (n *notice) Open(_ context.Context, req *fuse.OpenRequest, resp *fuse.OpenResponse) (fusefs.Handle, error) {
	if !req.Flags.IsReadOnly() {
		return nil, errReadOnly
	}
	resp.Flags |= fuse.OpenDirectIO
	return &noticeHandle{(*n.text.Load())()}, nil
}

// A noticeHandle is an open notice.
type noticeHandle struct{ text []byte }

func (h *noticeHandle) Read(_ context.Context, req *fuse.ReadRequest, resp *fuse.ReadResponse) error {
	fuseutil.HandleRead(req, resp, h.text)
	return nil
}

package fs

import (
	"sync/atomic"
	"time"

	"bazil.org/fuse"
)

// A notice is a text of this program's own, shown as a file. It is made anew for every look at it, so the
// kernel keeps nothing of it.
type notice struct {
	name  string // as shown
	inode uint64
	text  atomic.Pointer[func() []byte]
}

func (n *notice) attr(a *fuse.Attr) {
	s := stat{inode: n.inode, mode: 0o444, links: 1, size: int64(len((*n.text.Load())())), mtime: time.Now()}
	s.fill(a)
	a.Valid = 0
}

// open takes the text as it is now. Reads go past the page cache and find its end by themselves, whatever
// length was told before.
func (n *notice) open(_ *fuse.OpenRequest, resp *fuse.OpenResponse) opened {
	resp.Flags |= fuse.OpenDirectIO
	return text((*n.text.Load())())
}

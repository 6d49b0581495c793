package fs

import (
	"sync/atomic"
	"syscall"

	"bazil.org/fuse"
)

// A file is a file of a torrent.
type file struct {
	stat
	tree    *Tree
	content Content
	path    string // in the torrent
	begin   int64  // of its first byte in the torrent
	piece   int64  // length of a piece
	walk    *walk  // of the torrent
	next    int64  // where in the torrent the file begins that follows; -1: none does
	reach   int64  // where the files end that follow each other without a gap

	late atomic.Pointer[lateRead] // the newest
}

func (f *file) attr(a *fuse.Attr) { f.fill(a) }

// open keeps what the kernel has cached: the content never changes. A program that asks for direct reads gets
// them from the kernel's plain code for that; otherwise a read that waits could not even be killed.
func (f *file) open(req *fuse.OpenRequest, resp *fuse.OpenResponse) opened {
	resp.Flags |= fuse.OpenKeepCache
	if req.Flags&syscall.O_DIRECT != 0 {
		resp.Flags |= fuse.OpenDirectIO
	}
	return newHandle(f)
}

// view returns bytes of the file that are at hand in one stretch, until release is called. After the end of the mount
// there are none.
func (f *file) view(off, n int64) (data []byte, release func(), ok bool) {
	if f.tree.life.Err() != nil {
		return nil, nil, false
	}
	return f.content.View(f.begin+off, n)
}

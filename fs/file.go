package fs

import (
	"context"
	"sync/atomic"
	"syscall"
	"time"

	"bazil.org/fuse"
)

const (
	// echo is for how long after a read timed out the kernel's second attempt at it is expected.
	echo = time.Second
	// echoTimeout is what such an attempt gets: time for data that is at hand by now, not for peers.
	echoTimeout = 100 * time.Millisecond
)

// A file is a file of a torrent.
type file struct {
	stat
	tree    *Tree
	content Content
	path    string // in the torrent
	begin   int64  // of its first byte in the torrent
	piece   int64  // length of a piece

	late atomic.Pointer[lateRead] // the newest
}

// A lateRead is a read that timed out. Where the kernel read ahead for a program, it answers the failure by
// reading the one page that the program waits for once more, and that would take the whole time again.
type lateRead struct {
	off, n int64
	at     time.Time
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

// read fills p from the file's offset off, within the mount's time limit, and says in the log why it can't.
func (f *file) read(ctx context.Context, p []byte, off int64) error {
	if err := f.tree.life.Err(); err != nil {
		return err
	}
	limit := f.tree.readTimeout
	l := f.late.Load()
	again := l != nil && off < l.off+l.n && l.off < off+int64(len(p)) && time.Since(l.at) < echo
	if again {
		limit = min(limit, echoTimeout)
	}
	req := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(f.tree.life, cancel)()
	err := f.content.ReadAt(ctx, p, f.begin+off)
	if err == nil || again || req.Err() != nil || f.tree.life.Err() != nil {
		return err
	}
	f.tree.log.Warn("read failed", "file", f.path, "offset", off, "bytes", len(p), "error", err)
	if ctx.Err() != nil {
		f.late.Store(&lateRead{off, int64(len(p)), time.Now()})
	}
	return err
}

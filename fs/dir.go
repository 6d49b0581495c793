package fs

import (
	"slices"
	"time"

	"bazil.org/fuse"
)

// A dir is a directory of a torrent. It doesn't change once the torrent is shown.
type dir struct {
	stat
	children map[string]node
	listing  text
}

func (d *dir) attr(a *fuse.Attr) { d.fill(a) }

func (d *dir) lookup(name string) (child node, valid time.Duration) {
	return d.children[name], lasting
}

// open lets the kernel keep the listing.
func (d *dir) open(_ *fuse.OpenRequest, resp *fuse.OpenResponse) opened {
	resp.Flags |= fuse.OpenKeepCache | fuse.OpenCacheDir
	return d.listing
}

// list returns the listing of a directory as the kernel reads it, itself and its parent first, the others in an order.
func list(children map[string]node, self, parent uint64, order func(a, b fuse.Dirent) int) (listing text) {
	entries := make([]fuse.Dirent, 0, 2+len(children))
	entries = append(entries,
		fuse.Dirent{Inode: self, Type: fuse.DT_Dir, Name: "."},
		fuse.Dirent{Inode: parent, Type: fuse.DT_Dir, Name: ".."})
	for name, n := range children {
		e := fuse.Dirent{Name: name}
		switch n := n.(type) {
		case *dir:
			e.Inode, e.Type = n.inode, fuse.DT_Dir
		case *file:
			e.Inode, e.Type = n.inode, fuse.DT_File
		case *notice:
			e.Inode, e.Type = n.inode, fuse.DT_File
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries[2:], order)
	for _, e := range entries {
		listing = fuse.AppendDirent(listing, e)
	}
	return listing
}

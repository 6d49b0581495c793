package fs

import (
	"context"
	"slices"
	"strings"
	"syscall"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// A dir is a directory of a torrent. It doesn't change once the torrent is shown.
type dir struct {
	readOnly
	stat
	children map[string]fusefs.Node
	entries  []fuse.Dirent // sorted by name, after . and ..
}

func (d *dir) Attr(_ context.Context, a *fuse.Attr) error {
	d.fill(a)
	return nil
}

func (d *dir) Lookup(_ context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	n, ok := d.children[req.Name]
	if !ok {
		return nil, syscall.ENOENT
	}
	resp.EntryValid = lasting
	return n, nil
}

// Open lets the kernel keep the listing.
func (d *dir) Open(_ context.Context, _ *fuse.OpenRequest, resp *fuse.OpenResponse) (fusefs.Handle, error) {
	resp.Flags |= fuse.OpenKeepCache | fuse.OpenCacheDir
	return d, nil
}

func (d *dir) ReadDirAll(context.Context) ([]fuse.Dirent, error) { return d.entries, nil }

// list returns the entries of a directory, itself and its parent first, the others by name.
func list(children map[string]fusefs.Node, self, parent uint64) []fuse.Dirent {
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
	slices.SortFunc(entries[2:], func(a, b fuse.Dirent) int { return strings.Compare(a.Name, b.Name) })
	return entries
}

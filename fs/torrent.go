package fs

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"bazil.org/fuse"

	"torrentfs/fetch/metainfo"
)

// Add shows a torrent at the root: its file, or its folder. A name that is taken already gets a number, as in
// "name (2).ext", in the order of the calls. A torrent can be added once.
func (t *Tree) Add(mi *metainfo.Torrent, c Content) error {
	b := builder{
		tree: t, meta: mi, content: c, mtime: mtime(mi.Created, t.root.made), inode: firstInode(mi.InfoHash),
		walk: newWalk(t, c, mi.PieceLength),
	}
	b.top = dir{stat: stat{inode: rootInode}, children: make(map[string]node, 1)}
	for i := range mi.Files {
		if err := b.add(&mi.Files[i]); err != nil {
			return err
		}
	}
	if len(b.top.children) == 0 { // nothing but padding
		b.top.children[mi.Name] = b.newDir()
	}
	node, ok := b.top.children[mi.Name]
	if !ok || len(b.top.children) != 1 {
		return fmt.Errorf("torrent %s: its files are not all in %q", mi.InfoHash, mi.Name)
	}
	b.list(&b.top)
	b.link()
	return t.root.add(mi, node, b.files)
}

// A builder makes the nodes of one torrent.
type builder struct {
	tree    *Tree
	meta    *metainfo.Torrent
	content Content
	mtime   time.Time
	walk    *walk
	inode   uint64 // of the next node
	files   int
	full    []*file // that are not empty, in the order of the torrent

	top      dir    // stands for the root
	last     *dir   // where the file before went, and
	lastPath string // its path: files of one directory mostly follow each other
}

func (b *builder) add(f *metainfo.File) error {
	if f.Padding {
		return nil
	}
	parent, base := &b.top, f.Path
	if i := strings.LastIndexByte(f.Path, '/'); i >= 0 {
		var err error
		if parent, err = b.dir(f.Path[:i]); err != nil {
			return err
		}
		base = f.Path[i+1:]
	}
	if _, taken := parent.children[base]; taken || base == "" {
		return fmt.Errorf("torrent %s: no place for the file %q", b.meta.InfoHash, f.Path)
	}
	mode := os.FileMode(0o444)
	if f.Executable {
		mode = 0o555
	}
	b.files++
	n := &file{
		stat:    stat{inode: b.number(), mode: mode, links: 1, size: f.Length, mtime: b.mtime},
		tree:    b.tree,
		content: b.content,
		path:    f.Path,
		begin:   f.Offset,
		piece:   b.meta.PieceLength,
		walk:    b.walk,
	}
	parent.children[base] = n
	if n.size > 0 {
		b.full = append(b.full, n)
	}
	return nil
}

// dir returns the directory at path, made with its parents where it isn't there yet.
func (b *builder) dir(path string) (*dir, error) {
	if b.last != nil && b.lastPath == path {
		return b.last, nil
	}
	d, end := &b.top, -1
	for name := range strings.SplitSeq(path, "/") {
		end += 1 + len(name)
		switch child := d.children[name].(type) {
		case nil:
			if name == "" {
				return nil, fmt.Errorf("torrent %s: bad path %q", b.meta.InfoHash, path)
			}
			sub := b.newDir()
			d.children[name] = sub
			d.links++
			d = sub
		case *dir:
			d = child
		default:
			return nil, fmt.Errorf("torrent %s: %q is both a file and a directory", b.meta.InfoHash, path[:end])
		}
	}
	b.last, b.lastPath = d, path
	return d, nil
}

// number gives the next node its number.
func (b *builder) number() uint64 {
	b.inode++
	return b.inode - 1
}

// link has each file know what follows it. Where a whole piece lies between two, because what is there is not shown, a walk
// from one to the other would fetch it.
func (b *builder) link() {
	slices.SortStableFunc(b.full, func(a, b *file) int { return cmp.Compare(a.begin, b.begin) })
	for i, f := range slices.Backward(b.full) {
		f.next, f.reach = -1, f.begin+f.size
		if i+1 == len(b.full) {
			continue
		}
		if next := b.full[i+1]; next.begin-f.reach < f.piece {
			f.next, f.reach = next.begin, max(f.reach, next.reach)
		}
	}
}

func (b *builder) newDir() *dir {
	return &dir{
		stat:     stat{inode: b.number(), mode: os.ModeDir | 0o555, links: 2, mtime: b.mtime},
		children: make(map[string]node),
	}
}

// list makes the listings of all directories below d.
func (b *builder) list(d *dir) {
	for _, n := range d.children {
		if sub, ok := n.(*dir); ok {
			sub.listing = list(sub.children, sub.inode, d.inode, func(a, b fuse.Dirent) int { return cmp.Compare(a.Inode, b.Inode) })
			b.list(sub)
		}
	}
}

// mtime is when a torrent was created if it says so in earnest, or else when it was mounted.
func mtime(created, mounted time.Time) time.Time {
	if created.Unix() <= 0 || created.After(mounted.AddDate(1, 0, 0)) {
		return mounted
	}
	return created
}

package fs

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"bazil.org/fuse"

	"torrentfs/fetch/metainfo"
)

// brief is how long the kernel may keep what it learnt of a node that may change.
const brief = time.Second

// A root is the root of the tree, the one directory that changes: torrents and notices come and go.
type root struct {
	made time.Time

	mu       sync.RWMutex // over what follows
	children map[string]node
	listing  text // nil: to be made again
	torrents map[metainfo.Hash]string
	notices  map[string]*notice
	dirs     uint32
	bytes    int64 // of all torrents
	files    int
}

func newRoot(made time.Time) *root {
	return &root{
		made:     made,
		children: make(map[string]node),
		torrents: make(map[metainfo.Hash]string),
		notices:  make(map[string]*notice),
	}
}

// statfs shows a full disk that holds all the torrents' bytes.
func (r *root) statfs(resp *fuse.StatfsResponse) {
	const block = 4096
	r.mu.RLock()
	defer r.mu.RUnlock()
	resp.Bsize, resp.Frsize = block, block
	resp.Blocks = uint64(r.bytes+block-1) / block
	resp.Files = uint64(r.files)
	resp.Namelen = maxName
}

func (r *root) attr(a *fuse.Attr) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := stat{inode: rootInode, mode: os.ModeDir | 0o555, links: 2 + r.dirs, mtime: r.made}
	s.fill(a)
	a.Valid = brief
}

func (r *root) lookup(name string) (child node, valid time.Duration) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	child = r.children[name]
	if _, ok := child.(*notice); ok {
		return child, brief
	}
	return child, lasting
}

func (r *root) open(*fuse.OpenRequest, *fuse.OpenResponse) opened {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listing == nil {
		r.listing = list(r.children, rootInode, rootInode, func(a, b fuse.Dirent) int { return strings.Compare(a.Name, b.Name) })
	}
	return r.listing
}

// add shows a torrent's file or folder under its name, or under one near it if that is taken.
func (r *root) add(t *metainfo.Torrent, n node, files int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name, ok := r.torrents[t.InfoHash]; ok {
		return fmt.Errorf("torrent %s is mounted already, as %q", t.InfoHash, name)
	}
	name := r.free(t.Name, !t.MultiFile)
	r.children[name] = n
	r.torrents[t.InfoHash] = name
	r.listing = nil
	r.bytes += t.Length
	r.files += files
	if t.MultiFile {
		r.dirs++
	}
	return nil
}

// setNotice shows a notice, changes its text or, where text is nil, removes it.
func (r *root) setNotice(name string, text func() []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.notices[name]
	switch {
	case ok && text != nil:
		n.text.Store(&text)
		return
	case ok:
		delete(r.notices, name)
		delete(r.children, n.name)
	case text != nil:
		n = &notice{name: r.free(name, true), inode: noticeInode(name)}
		n.text.Store(&text)
		r.notices[name] = n
		r.children[n.name] = n
	}
	r.listing = nil
}

// maxName is the longest file name in bytes.
const maxName = 255

// free returns name, or the first of "name (2)", "name (3)"... that is not taken. The number stands before a
// file's extension.
func (r *root) free(name string, isFile bool) string {
	if _, taken := r.children[name]; !taken {
		return name
	}
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); isFile && i > 0 && len(name)-i <= 16 {
		stem, ext = name[:i], name[i:]
	}
	for number := 2; ; number++ {
		tail := fmt.Sprintf(" (%d)%s", number, ext)
		cut := min(len(stem), maxName-len(tail))
		for cut < len(stem) && !utf8.RuneStart(stem[cut]) {
			cut--
		}
		if n := stem[:cut] + tail; r.children[n] == nil {
			return n
		}
	}
}

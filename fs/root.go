package fs

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"

	"torrentfs/fetch/metainfo"
)

// brief is how long the kernel may keep what it learnt of a node that may change.
const brief = time.Second

// A root is the root of the tree, the one directory that changes: torrents and notices come and go.
type root struct {
	readOnly
	made time.Time

	mu       sync.RWMutex // over what follows
	children map[string]fusefs.Node
	entries  []fuse.Dirent // nil: to be made again
	torrents map[metainfo.Hash]string
	notices  map[string]*notice
	dirs     uint32
	bytes    int64 // of all torrents
	files    int
}

func newRoot(made time.Time) *root {
	return &root{
		made:     made,
		children: make(map[string]fusefs.Node),
		torrents: make(map[metainfo.Hash]string),
		notices:  make(map[string]*notice),
	}
}

func (r *root) Root() (fusefs.Node, error) { return r, nil }

// Statfs shows a full disk that holds all the torrents' bytes.
func (r *root) Statfs(_ context.Context, _ *fuse.StatfsRequest, resp *fuse.StatfsResponse) error {
	const block = 4096
	r.mu.RLock()
	defer r.mu.RUnlock()
	resp.Bsize, resp.Frsize = block, block
	resp.Blocks = uint64(r.bytes+block-1) / block
	resp.Files = uint64(r.files)
	resp.Namelen = maxName
	return nil
}

func (r *root) Attr(_ context.Context, a *fuse.Attr) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := stat{inode: rootInode, mode: os.ModeDir | 0o555, links: 2 + r.dirs, mtime: r.made}
	s.fill(a)
	a.Valid = brief
	return nil
}

func (r *root) Lookup(_ context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, ok := r.children[req.Name]
	if !ok {
		return nil, syscall.ENOENT
	}
	resp.EntryValid = lasting
	if _, ok := n.(*notice); ok {
		resp.EntryValid = brief
	}
	return n, nil
}

func (r *root) ReadDirAll(context.Context) ([]fuse.Dirent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries == nil {
		r.entries = list(r.children, rootInode, rootInode)
	}
	return r.entries, nil
}

// add shows a torrent's file or folder under its name, or under one near it if that is taken.
func (r *root) add(t *metainfo.Torrent, n fusefs.Node, files int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name, ok := r.torrents[t.InfoHash]; ok {
		return fmt.Errorf("torrent %s is mounted already, as %q", t.InfoHash, name)
	}
	name := r.free(t.Name, !t.MultiFile)
	r.children[name] = n
	r.torrents[t.InfoHash] = name
	r.entries = nil
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
		n = &notice{name: r.free(name, true), inode: inode(metainfo.Hash{}, name)}
		n.text.Store(&text)
		r.notices[name] = n
		r.children[n.name] = n
	}
	r.entries = nil
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

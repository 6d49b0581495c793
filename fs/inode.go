package fs

import (
	"crypto/sha1"
	"encoding/binary"
	"os"
	"time"

	"bazil.org/fuse"

	"torrentfs/fetch/metainfo"
)

// lasting is how long the kernel may keep what it learnt of a node that never changes.
const lasting = 24 * time.Hour

// rootInode is the number of every mount's root.
const rootInode = 1

// maxNodes is how many files and directories a torrent can have at most: a .torrent of more would be too large to be read.
const maxNodes = 1 << 24

// firstInode is where the numbers of a torrent's files and directories begin. They follow each other in the order of the
// torrent, since cp, tar and others read the files of a directory in the order of these numbers. A node has the same
// number in every mount, whatever else is mounted and under whatever name. Numbers fit in 53 bits, which every program can
// hold, also one that knows only floating-point numbers. Those of two torrents might overlap, with a probability of 1 in 10^10
// for torrents of 100,000 files; the kernel tells nodes apart by other means, and programs ask for the number only
// where a file has several links.
func firstInode(torrent metainfo.Hash) uint64 {
	const most = 1<<53 - maxNodes
	return rootInode + 1 + binary.BigEndian.Uint64(torrent[:])%(most-rootInode-1)
}

// noticeInode is the number of a notice.
func noticeInode(name string) uint64 {
	return firstInode(metainfo.Hash(sha1.Sum([]byte(name))))
}

// stat is what a node tells about itself.
type stat struct {
	inode uint64
	mode  os.FileMode
	links uint32
	size  int64
	mtime time.Time
}

func (s *stat) fill(a *fuse.Attr) {
	a.Valid = lasting
	a.Inode = s.inode
	a.Mode = s.mode
	a.Nlink = s.links
	a.Size = uint64(s.size)
	a.Blocks = (a.Size + 511) / 512
	a.Atime, a.Mtime, a.Ctime = s.mtime, s.mtime, s.mtime
	a.Uid, a.Gid = uint32(os.Getuid()), uint32(os.Getgid())
}

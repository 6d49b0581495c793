package fs

import (
	"encoding/binary"
	"hash/fnv"
	"io"
	"os"
	"time"

	"bazil.org/fuse"

	"torrentfs/fetch/metainfo"
)

// lasting is how long the kernel may keep what it learnt of a node that never changes.
const lasting = 24 * time.Hour

// rootInode is the number of every mount's root.
const rootInode = 1

// inode numbers a file or directory by the torrent and its path there, so that it has the same number in every
// mount, whatever else is mounted and under whatever name. Numbers fit in 53 bits, which every program can
// hold, also one that knows only floating-point numbers. Two files might share one, with a probability of
// 1 in 10^6 among 100,000; the kernel tells nodes apart by other means, and programs ask for the number only
// where a file has several links.
func inode(torrent metainfo.Hash, path string) uint64 {
	h := fnv.New128a()
	h.Write(torrent[:])
	_, _ = io.WriteString(h, path)
	n := binary.BigEndian.Uint64(h.Sum(nil)) >> 11
	return max(n, rootInode+1)
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

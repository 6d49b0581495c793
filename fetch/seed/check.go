package seed

import (
	"hash"
	"os"

	"torrentfs/fetch/metainfo"
)

// checkStep is how many bytes are read at once: they are still in the processor's cache when they are hashed.
const checkStep = 256 << 10

// checker hashes one piece after the other without keeping any. It holds the file that it read last open.
type checker struct {
	store *Store
	hash  hash.Hash
	buf   []byte
	open  *os.File
	file  int // the index of the open file
}

// right reads a piece and says whether it is the torrent's.
func (c *checker) right(piece int) bool {
	c.hash.Reset()
	if !c.store.parts(piece, c.add) {
		return false
	}
	var sum metainfo.Hash
	c.hash.Sum(sum[:0])
	return sum == c.store.torrent.Pieces[piece]
}

// add hashes n bytes of a file from begin on.
func (c *checker) add(file int, begin, n int64) bool {
	padding := c.store.torrent.Files[file].Padding
	if padding {
		clear(c.buf)
	} else if !c.turnTo(file) {
		return false
	}
	for n > 0 {
		p := c.buf[:min(n, int64(len(c.buf)))]
		if !padding {
			if k, _ := c.open.ReadAt(p, begin); k < len(p) {
				return false
			}
		}
		c.hash.Write(p)
		begin += int64(len(p))
		n -= int64(len(p))
	}
	return true
}

func (c *checker) turnTo(file int) bool {
	if c.open != nil && c.file == file {
		return true
	}
	c.close()
	f, err := os.Open(c.store.paths[file])
	if err != nil {
		return false
	}
	c.open, c.file = f, file
	return true
}

func (c *checker) close() {
	if c.open != nil {
		c.open.Close()
		c.open = nil
	}
}

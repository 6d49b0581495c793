package metainfo

import (
	"crypto/sha256"
	"time"
)

// Torrent is what a .torrent file or an info dictionary says, checked and ready for use. It doesn't change
// once parsed.
type Torrent struct {
	Name        string // safe name of the single file or the root folder
	InfoHash    Hash
	Info        []byte // the raw bytes of the info dictionary
	PieceLength int64  // bytes
	Pieces      [][20]byte
	Length      int64  // bytes in all, padding included
	Files       []File // in torrent order, padding files included
	MultiFile   bool
	Private     bool      // BEP 27
	Created     time.Time // zero when not given
	Comment     string
	CreatedBy   string
	Trackers    [][]string // tiers (BEP 12); announce alone gives one tier of one
	WebSeeds    []string   // BEP 19; those of multi-file torrents end with a slash
	Nodes       []string   // host:port (BEP 5)
}

// InfoHashV2 is the version 2 info-hash of a hybrid torrent (BEP 52), the SHA-256 of Info. It reports false for
// a torrent of version 1 alone.
func (t *Torrent) InfoHashV2() (hash [32]byte, ok bool) {
	version, ok := value(t.Info).member("meta version")
	if !ok {
		return hash, false
	}
	if n, _ := version.integer(); n != 2 {
		return hash, false
	}
	return sha256.Sum256(t.Info), true
}

// File is one file of a torrent. A symbolic link (BEP 47) to another file follows that file and shares its
// bytes; one to a directory or to nothing is left out. So Offset, and Offset+Length, never decrease.
type File struct {
	Path       string // slash-separated, every component safe and unique as mounted; for multi-file torrents begins with Torrent.Name + "/"
	Offset     int64  // of its first byte in the torrent
	Length     int64
	Padding    bool // BEP 47: never shown, its path is not unique
	Executable bool // BEP 47 attr x
	// RawPath is the path with the components that the torrent gives, where they are others than those of Path and a file
	// system can have them: where the content may lie that the torrent was made of. Empty: the same. As safe as Path, but
	// for showing: it may have control characters and not be UTF-8.
	RawPath string
}

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"torrentfs/cache"
	"torrentfs/fetch/metainfo"
)

// storeFlags say where things are kept from one run to the next.
type storeFlags struct {
	dir string // "": the default
}

func (f *storeFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.dir, "cache-dir", "",
		"keep downloads in `DIR` (default torrentfs in the user's caches)")
}

// open returns the directory that the flags name. Nothing is made in it yet.
func (f *storeFlags) open() (storeDir, error) {
	if f.dir != "" {
		dir, err := absolute(f.dir)
		return storeDir(dir), err
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: %w; name one with --cache-dir", err)
	}
	return storeDir(filepath.Join(base, "torrentfs")), nil
}

// openOrNone is open for verbs that can do without: it warns where no directory is to be found.
func (f *storeFlags) openOrNone(log *slog.Logger) storeDir {
	dir, err := f.open()
	if err != nil {
		log.Warn("nothing is kept for another run", "err", err)
	}
	return dir
}

// storeDir is the directory of all that is kept from one run to the next: pieces, torrents, and what the network side
// wants to find again. The empty one keeps nothing.
type storeDir string

// pieces is where the cache keeps pieces.
func (d storeDir) pieces() cache.Dir { return cache.Dir(d) }

// present tells of which torrents there are pieces.
func (d storeDir) present() map[metainfo.Hash]bool {
	present := make(map[metainfo.Hash]bool)
	entries, _ := d.pieces().List() // what can't be listed can't be used either
	for _, e := range entries {
		present[e.InfoHash] = true
	}
	return present
}

// torrents is where torrents are remembered.
func (d storeDir) torrents() library {
	if d == "" {
		return ""
	}
	return library(filepath.Join(string(d), "torrents"))
}

// state is where the network side may keep what it learnt.
func (d storeDir) state() string {
	if d == "" {
		return ""
	}
	return filepath.Join(string(d), "state")
}

// specOf describes a torrent to the cache.
func specOf(t *metainfo.Torrent) cache.Spec {
	return cache.Spec{
		InfoHash:    t.InfoHash,
		Name:        t.Name,
		PieceLength: t.PieceLength,
		Length:      t.Length,
		Hashes:      t.Pieces,
	}
}

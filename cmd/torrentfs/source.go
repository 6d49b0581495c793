package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"torrentfs/fetch/metainfo"
)

// sourceHelp says in the help of a verb what a SOURCE is.
const sourceHelp = "SOURCE is a .torrent file."

// kind is what a SOURCE argument names.
type kind int

const (
	torrentFile kind = iota
	magnetLink
	infoHash
	torrentURL
	otherURL
)

// kindOf tells what arg names. A file that exists is a file, whatever else its name looks like.
func kindOf(arg string) kind {
	if strings.HasPrefix(strings.ToLower(arg), "magnet:") {
		return magnetLink
	}
	if _, err := os.Lstat(arg); err == nil {
		return torrentFile
	}
	if scheme, _, ok := strings.Cut(arg, "://"); ok && !strings.Contains(scheme, "/") {
		switch strings.ToLower(scheme) {
		case "http", "https":
			return torrentURL
		}
		return otherURL
	}
	if _, err := metainfo.ParseHash(arg); err == nil {
		return infoHash
	}
	return torrentFile
}

// openSource returns the torrent that arg names. It may wait for a network; ctx ends the wait.
func openSource(ctx context.Context, arg string) (*metainfo.Torrent, error) {
	switch kindOf(arg) {
	case torrentFile:
		return openFile(arg)
	case magnetLink:
		return nil, notSupported("magnet links", arg)
	case infoHash:
		return nil, notSupported("bare info-hashes", arg)
	case torrentURL:
		return nil, notSupported("http(s) URLs", arg)
	case otherURL:
		return nil, openOtherURL(arg)
	}
	panic("unreachable")
}

// openSources returns the torrents that args name, each torrent once: a torrent named again is passed to again,
// with the argument that named it first.
func openSources(ctx context.Context, args []string, again func(arg, first string)) ([]*metainfo.Torrent, error) {
	var torrents []*metainfo.Torrent
	first := make(map[metainfo.Hash]string)
	for _, arg := range args {
		t, err := openSource(ctx, arg)
		if err != nil {
			return nil, err
		}
		if arg0, ok := first[t.InfoHash]; ok {
			again(arg, arg0)
			continue
		}
		first[t.InfoHash] = arg
		torrents = append(torrents, t)
	}
	return torrents, nil
}

func openFile(path string) (*metainfo.Torrent, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: no such file, and nothing else that names a torrent", shellQuote(path))
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory; name a .torrent file in it", shellQuote(path))
	}
	return metainfo.Load(path)
}

func notSupported(what, arg string) error {
	return fmt.Errorf("%s: %s are not supported yet; download the .torrent file and name that", printable(arg), what)
}

func openOtherURL(arg string) error {
	if u, err := url.Parse(arg); err == nil && strings.EqualFold(u.Scheme, "file") {
		return fmt.Errorf("%s: name the file itself: %s", printable(arg), shellQuote(u.Path))
	}
	return fmt.Errorf("%s: of URLs, only http and https can name a torrent", printable(arg))
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"torrentfs/fetch/metainfo"
)

// sourceHelp says in the help of a verb what a SOURCE is.
const sourceHelp = `SOURCE is a .torrent file, a magnet link, a bare info-hash, or the http or https URL of a .torrent file.
What had to be looked for is remembered: the next time it is there at once, offline too.`

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

// source is what a SOURCE argument says.
type source struct {
	arg    string
	kind   kind
	magnet metainfo.Magnet // of a bare info-hash too; of other kinds nothing
	// torrent is nil while it is not known.
	torrent *metainfo.Torrent
}

// parseSource reads an argument, and the torrent that it names if that takes no network.
func parseSource(arg string, known library) (source, error) {
	s := source{arg: arg, kind: kindOf(arg)}
	var err error
	switch s.kind {
	case torrentFile:
		s.torrent, err = openFile(arg)
	case magnetLink:
		s.magnet, err = metainfo.ParseMagnet(arg)
	case infoHash:
		s.magnet.InfoHash, err = metainfo.ParseHash(arg)
	case otherURL:
		err = openOtherURL(arg)
	}
	if err == nil && (s.kind == magnetLink || s.kind == infoHash) {
		if t, err := known.get(s.magnet.InfoHash); err == nil { // or else it is looked for anew
			s.torrent = withLink(t, s.magnet)
		}
	}
	return s, err
}

// parseSources is parseSource for several. A torrent named again is left out and passed to again, with the argument
// that named it first.
func parseSources(args []string, known library, again func(arg, first string)) ([]source, error) {
	var sources []source
	first := make(map[metainfo.Hash]string)
	for _, arg := range args {
		s, err := parseSource(arg, known)
		if err != nil && len(args) > 1 && s.kind == magnetLink { // other errors name it
			err = fmt.Errorf("%s: %w", cut(printable(arg), 70), err)
		}
		if err != nil {
			return nil, err
		}
		if hash, ok := s.hash(); ok {
			if arg0, ok := first[hash]; ok {
				again(arg, arg0)
				continue
			}
			first[hash] = arg
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// hash returns the info-hash; of a URL that was not downloaded it is not known.
func (s *source) hash() (metainfo.Hash, bool) {
	if s.torrent != nil {
		return s.torrent.InfoHash, true
	}
	return s.magnet.InfoHash, s.kind == magnetLink || s.kind == infoHash
}

// label names the source to a person.
func (s *source) label() string {
	switch {
	case s.torrent != nil:
		return printable(s.torrent.Name)
	case s.magnet.Name != "":
		return printable(s.magnet.Name)
	case s.kind == magnetLink:
		return s.magnet.InfoHash.String()
	}
	return printable(s.arg)
}

// shown returns the torrent with those of its files that are to be shown: all, unless a magnet link selects some
// (BEP 53). Indices that the torrent does not have select nothing; ok is false when that leaves no file.
func (s *source) shown() (t *metainfo.Torrent, ok bool) {
	if s.magnet.Select == nil {
		return s.torrent, true
	}
	selected := *s.torrent
	selected.Files = nil
	for i, f := range s.torrent.Files {
		if slices.ContainsFunc(s.magnet.Select, func(r metainfo.Range) bool { return r.First <= i && i <= r.Last }) {
			selected.Files = append(selected.Files, f)
			ok = ok || !f.Padding
		}
	}
	if !ok {
		return s.torrent, false
	}
	return &selected, true
}

// withLink adds to a torrent what a magnet link knows of its swarm.
func withLink(t *metainfo.Torrent, m metainfo.Magnet) *metainfo.Torrent {
	more := *t
	for _, tracker := range m.Trackers {
		if !slices.ContainsFunc(t.Trackers, func(tier []string) bool { return slices.Contains(tier, tracker) }) {
			more.Trackers = append(slices.Clip(more.Trackers), []string{tracker})
		}
	}
	for _, seed := range m.WebSeeds {
		if !slices.Contains(t.WebSeeds, seed) {
			more.WebSeeds = append(slices.Clip(more.WebSeeds), seed)
		}
	}
	return &more
}

// almostHash matches what was probably meant as an info-hash.
var almostHash = regexp.MustCompile(`^[0-9A-Za-z]{28,44}$`)

func openFile(path string) (*metainfo.Torrent, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		hint := "nothing else that names a torrent"
		if almostHash.MatchString(path) {
			hint = fmt.Sprintf("no info-hash, which has 40 hexadecimal or 32 base32 digits: these are %d characters", len(path))
		}
		return nil, fmt.Errorf("%s: no such file, and %s", shellQuote(path), hint)
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory; name a .torrent file in it", shellQuote(path))
	}
	return metainfo.Load(path)
}

func openOtherURL(arg string) error {
	if u, err := url.Parse(arg); err == nil && strings.EqualFold(u.Scheme, "file") {
		return fmt.Errorf("%s: name the file itself: %s", printable(arg), shellQuote(u.Path))
	}
	return fmt.Errorf("%s: of URLs, only http and https can name a torrent", printable(arg))
}

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"torrentfs/fetch/metainfo"
)

// A library is a directory that remembers torrents by their info-hash, so that they can be mounted again without
// whatever named them first: offline, or by the bare info-hash. The empty one remembers nothing.
//
// Its files are believed no more than a stranger's: the info dictionary must hash to the info-hash.
type library string

const (
	// libraryLimit bounds the library in bytes. Torrents with pieces in the cache are remembered beyond it.
	libraryLimit = 64 << 20
	// maxRecord is the size in bytes of the largest file that is read: the info dictionary grows by a third.
	maxRecord = 2 * metainfo.MaxSize
)

// record is what the library's file of a torrent says.
type record struct {
	Info      []byte     `json:"info"` // the raw info dictionary
	Trackers  [][]string `json:"trackers,omitempty"`
	WebSeeds  []string   `json:"web_seeds,omitempty"`
	Nodes     []string   `json:"nodes,omitempty"`
	Created   int64      `json:"created,omitempty"` // in seconds since 1970
	CreatedBy string     `json:"created_by,omitempty"`
	Comment   string     `json:"comment,omitempty"`
	URL       string     `json:"url,omitempty"` // of the .torrent, if that is how it came
}

const (
	recordExt = ".json"
	partExt   = ".part"
)

func (l library) path(hash metainfo.Hash) string {
	return filepath.Join(string(l), hash.String()+recordExt)
}

// get returns a torrent, or an error that is fs.ErrNotExist when it is not remembered.
func (l library) get(hash metainfo.Hash) (*metainfo.Torrent, error) {
	r, err := l.read(hash)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	_ = os.Chtimes(l.path(hash), now, now) // only prune looks at it
	return r.torrent(hash)
}

func (l library) read(hash metainfo.Hash) (*record, error) {
	if l == "" {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(l.path(hash))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return nil, err
	}
	r, err := parseRecord(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.path(hash), err)
	}
	return r, nil
}

func parseRecord(b []byte) (*record, error) {
	r := new(record)
	return r, json.Unmarshal(b, r)
}

func (r *record) torrent(hash metainfo.Hash) (*metainfo.Torrent, error) {
	t, err := metainfo.ParseInfo(r.Info)
	if err == nil && t.InfoHash != hash {
		err = errors.New("it is another torrent")
	}
	if err != nil {
		return nil, fmt.Errorf("what is remembered of torrent %v is damaged: %w", hash, err)
	}
	t.Trackers, t.WebSeeds, t.Nodes = r.Trackers, r.WebSeeds, r.Nodes
	t.CreatedBy, t.Comment = r.CreatedBy, r.Comment
	if r.Created != 0 {
		t.Created = time.Unix(r.Created, 0).UTC()
	}
	return t, nil
}

// put remembers a torrent, and the URL of its .torrent unless that is empty. What was known of its swarm before is not
// forgotten.
func (l library) put(t *metainfo.Torrent, url string) error {
	if l == "" {
		return nil
	}
	if old, err := l.read(t.InfoHash); err == nil {
		url = cmp.Or(url, old.URL)
		t = withLink(t, metainfo.Magnet{Trackers: slices.Concat(old.Trackers...), WebSeeds: old.WebSeeds})
	}
	r := record{
		Info: t.Info, Trackers: t.Trackers, WebSeeds: t.WebSeeds, Nodes: t.Nodes,
		CreatedBy: t.CreatedBy, Comment: t.Comment, URL: url,
	}
	if !t.Created.IsZero() {
		r.Created = t.Created.Unix()
	}
	b, err := json.Marshal(&r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(l), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(l), t.InfoHash.String()+".*"+partExt) // of mode 0600: trackers' addresses may hold keys
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), l.path(t.InfoHash))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// byURL returns the torrent that the .torrent file at a URL was when it was had last, or fs.ErrNotExist.
func (l library) byURL(url string) (*metainfo.Torrent, error) {
	for _, b := range l.list() {
		if r, err := l.read(b.hash); err == nil && r.URL == url {
			return r.torrent(b.hash)
		}
	}
	return nil, fs.ErrNotExist
}

// forget removes a torrent; false if it was not remembered.
func (l library) forget(hash metainfo.Hash) (bool, error) {
	if l == "" {
		return false, nil
	}
	err := os.Remove(l.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// book is one file of the library.
type book struct {
	hash metainfo.Hash
	size int64 // bytes on disk
	used time.Time
}

// list returns all that is remembered, last used first. A library that can't be read remembers nothing.
func (l library) list() []book {
	if l == "" {
		return nil
	}
	entries, _ := os.ReadDir(string(l))
	var books []book
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), recordExt)
		hash, err := metainfo.ParseHash(digits)
		if !ok || err != nil || digits != hash.String() {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			books = append(books, book{hash, (info.Size() + 4095) &^ 4095, info.ModTime()})
		}
	}
	slices.SortFunc(books, func(a, b book) int { return b.used.Compare(a.used) })
	return books
}

// prune forgets the torrents used longest ago beyond limit bytes, but for those that needed says are needed, and removes
// what a crash left half written. It returns the bytes that remain.
func (l library) prune(limit int64, needed func() map[metainfo.Hash]bool) (size int64) {
	var keep map[metainfo.Hash]bool
	for _, b := range l.list() {
		size += b.size
		if size <= limit {
			continue
		}
		if keep == nil {
			keep = needed()
		}
		if keep[b.hash] {
			continue
		}
		if gone, _ := l.forget(b.hash); gone {
			size -= b.size
		}
	}
	if l == "" {
		return 0
	}
	entries, _ := os.ReadDir(string(l))
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasSuffix(e.Name(), partExt) && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(string(l), e.Name()))
		}
	}
	return size
}

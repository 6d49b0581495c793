package metainfo

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxPathDepth bounds the number of components of a file's path.
const maxPathDepth = 255

// bencodeFile is one entry of the list files in the info dictionary of a multi-file torrent, as it is written
// there. Entries are many, so they are read without bencode-go, which takes microseconds and kilobytes for each.
type bencodeFile struct {
	length      int64 // -1 when absent
	path        []string
	pathUTF8    []string
	attr        string   // BEP 47
	symlinkPath []string // BEP 47
}

func readFile(v value) bencodeFile {
	f := bencodeFile{length: -1}
	for key, member := range v.members() {
		switch string(key) {
		case "length":
			if n, ok := member.integer(); ok {
				f.length = n
			}
		case "path":
			f.path = member.strings()
		case "path.utf-8":
			f.pathUTF8 = member.strings()
		case "attr":
			attr, _ := member.str()
			f.attr = string(attr)
		case "symlink path":
			f.symlinkPath = member.strings()
		}
	}
	return f
}

// parseFiles sets Files, Length and MultiFile. A list of files counts more than a length, as elsewhere.
func (t *Torrent) parseFiles(info value, bi bencodeInfo) error {
	if list, ok := info.member("files"); ok && list.isList() {
		t.MultiFile = true
		if err := t.parseList(list); err != nil {
			return err
		}
	} else {
		if bi.Length < 0 {
			return errors.New("torrent has neither files nor a valid length")
		}
		t.Length = bi.Length
		t.Files = []File{{Path: t.Name, Length: bi.Length, Executable: strings.Contains(bi.Attr, "x")}}
	}
	if t.Length == 0 {
		return errors.New("torrent has no content: its files are empty")
	}
	return nil
}

// entry is a file on its way from the list to Files.
type entry struct {
	File
	components []string // safe
	place      name     // in the tree
	target     []string // of a symbolic link, safe, from the root folder (BEP 47)
}

func (t *Torrent) parseList(list value) error {
	var entries []entry
	for v := range list.elements() {
		e, err := t.parseFile(readFile(v))
		if err != nil {
			return fmt.Errorf("file %d: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return errors.New("torrent has an empty list of files")
	}
	uniqueNames(entries)
	for i, e := range entries {
		entries[i].Path = t.Name + "/" + strings.Join(e.components, "/")
	}
	entries = resolveLinks(entries)
	t.Files = make([]File, len(entries))
	for i, e := range entries {
		t.Files[i] = e.File
	}
	return nil
}

// uniqueNames renames files so that no two, and no file and folder, share a path. Padding is not shown, so it
// doesn't count.
func uniqueNames(entries []entry) {
	t := newTree(len(entries))
	for i, e := range entries {
		if !e.Padding {
			entries[i].place = t.addDir(e.components)
		}
	}
	var left []int
	for i, e := range entries {
		if !e.Padding && !t.claim(e.place) {
			left = append(left, i)
		}
	}
	for _, i := range left {
		e := entries[i]
		e.components[len(e.components)-1] = t.rename(e.place)
	}
}

// parseFile checks one entry and lays it behind the files before it.
func (t *Torrent) parseFile(f bencodeFile) (entry, error) {
	e := entry{
		File: File{
			Offset:     t.Length,
			Length:     f.length,
			Padding:    strings.Contains(f.attr, "p"),
			Executable: strings.Contains(f.attr, "x"),
		},
		components: f.path,
	}
	if len(f.pathUTF8) > 0 {
		e.components = f.pathUTF8
	}
	switch {
	case len(e.components) == 0 && e.Padding:
		e.components = []string{".pad", fmt.Sprint(f.length)}
	case len(e.components) == 0:
		return entry{}, errors.New("it has no path")
	case len(e.components) > maxPathDepth:
		return entry{}, fmt.Errorf("its path has more than %d components", maxPathDepth)
	}
	e.Padding = e.Padding || legacyPadding(e.components)
	if strings.Contains(f.attr, "l") {
		// A link takes no bytes of the torrent, whatever its length says.
		e.Length = 0
		e.target = f.symlinkPath
		for i, c := range e.target {
			e.target[i] = safeName(c)
		}
	}
	if e.Length < 0 {
		return entry{}, fmt.Errorf("%.80q has no valid length", strings.Join(e.components, "/"))
	}
	if e.Length > math.MaxInt64-t.Length {
		return entry{}, errors.New("the sum of all lengths is too large")
	}
	t.Length += e.Length
	for i, c := range e.components {
		e.components[i] = safeName(c)
	}
	return e, nil
}

// legacyPadding recognises padding made before BEP 47 had an attribute for it, by BitComet and by libtorrent.
func legacyPadding(components []string) bool {
	last := components[len(components)-1]
	if strings.HasPrefix(last, "_____padding_file_") {
		return true
	}
	return len(components) == 2 && components[0] == ".pad" && strings.Trim(last, "0123456789") == ""
}

// maxLinks bounds how many links are followed one after the other, so that a circle of them has an end.
const maxLinks = 8

// resolveLinks puts each symbolic link that leads to a file behind that file, as another name of its bytes,
// and leaves out the others.
func resolveLinks(entries []entry) []entry {
	if !slices.ContainsFunc(entries, entry.isLink) {
		return entries
	}
	byPath := make(map[string]int, len(entries))
	for i, e := range entries {
		if !e.Padding {
			byPath[strings.Join(e.components, "/")] = i
		}
	}
	linksTo := make(map[int][]entry)
	for _, e := range entries {
		at, ok := 0, e.isLink()
		for end, n := e, 0; ok && end.isLink(); n++ {
			at, ok = byPath[strings.Join(end.target, "/")]
			end, ok = entries[at], ok && n < maxLinks
		}
		if ok {
			linksTo[at] = append(linksTo[at], e)
		}
	}
	var kept []entry
	for i, e := range entries {
		if e.isLink() {
			continue
		}
		kept = append(kept, e)
		for _, link := range linksTo[i] {
			link.Offset, link.Length, link.Executable = e.Offset, e.Length, e.Executable
			kept = append(kept, link)
		}
	}
	return kept
}

func (e entry) isLink() bool { return len(e.target) > 0 }

package metainfo

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
)

const (
	// maxPathDepth bounds the number of components of a file's path.
	maxPathDepth = 255
	// maxLinks bounds how many symbolic links are followed one after the other, so that a circle has an end.
	maxLinks = 8
)

// bencodeFile is one entry of the list files in the info dictionary of a multi-file torrent, as it is written
// there. Entries are many, so they are read in place: bencode-go takes microseconds and kilobytes for each.
type bencodeFile struct {
	length      int64  // -1 when absent
	path        value  // a list, or nil
	attr        []byte // BEP 47
	symlinkPath value  // BEP 47; a list, or nil
}

func readFile(v value) bencodeFile {
	f := bencodeFile{length: -1}
	var pathUTF8 value
	for key, member := range v.members() {
		switch string(key) {
		case "length":
			if n, ok := member.integer(); ok {
				f.length = n
			}
		case "path":
			f.path = nonEmptyList(member)
		case "path.utf-8":
			pathUTF8 = nonEmptyList(member)
		case "attr":
			f.attr, _ = member.str()
		case "symlink path":
			f.symlinkPath = nonEmptyList(member)
		}
	}
	if pathUTF8 != nil {
		f.path = pathUTF8
	}
	return f
}

func nonEmptyList(v value) value {
	if !v.isList() || len(v) == len("le") {
		return nil
	}
	return v
}

func (f bencodeFile) has(attr byte) bool { return bytes.IndexByte(f.attr, attr) >= 0 }

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

func (t *Torrent) parseList(list value) error {
	links := make(map[int]string) // of the files that are symbolic links, the path of the target
	var path []byte
	for v := range list.elements() {
		f := readFile(v)
		if f.path == nil && f.has('p') {
			f.path = fmt.Appendf(nil, "l4:.pad%se", appendString(nil, fmt.Append(nil, f.length)))
		}
		var err error
		var raw string
		if path, raw, err = appendPath(append(path[:0], t.Name...), f.path); err != nil {
			return fmt.Errorf("file %d: %w", len(t.Files)+1, err)
		}
		file := File{
			Path:       string(path),
			Offset:     t.Length,
			Length:     f.length,
			Padding:    !f.has('l') && (f.has('p') || legacyPadding(path[len(t.Name):])),
			Executable: f.has('x'),
			RawPath:    raw,
		}
		if f.has('l') {
			file.Length = 0 // a link takes no bytes of the torrent, whatever its length says
			if target, _, err := appendPath([]byte(t.Name), f.symlinkPath); err == nil {
				links[len(t.Files)] = string(target)
			}
		}
		if file.Length < 0 {
			return fmt.Errorf("file %d: %.80q has no valid length", len(t.Files)+1, file.Path)
		}
		if file.Length > math.MaxInt64-t.Length {
			return fmt.Errorf("file %d: the sum of all lengths is too large", len(t.Files)+1)
		}
		t.Length += file.Length
		t.Files = append(t.Files, file)
	}
	if len(t.Files) == 0 {
		return errors.New("torrent has an empty list of files")
	}
	t.makePathsUnique()
	if len(links) > 0 {
		t.resolveLinks(links)
	}
	return nil
}

// appendPath appends the components of a path to dst, each made safe and behind a slash. raw is the same path with what can
// be a name on disk left as it is, or empty if nothing differs.
func appendPath(dst []byte, list value) (_ []byte, raw string, err error) {
	n, root, differs := 0, len(dst), false
	if list != nil {
		for component := range list.elements() {
			if n++; n > maxPathDepth {
				return dst, "", fmt.Errorf("its path has more than %d components", maxPathDepth)
			}
			s, _ := component.str() // what is no string has an empty name
			begin := len(dst) + 1
			dst = appendName(append(dst, '/'), s)
			differs = differs || isName(s) && !bytes.Equal(dst[begin:], s)
		}
	}
	if n == 0 {
		return dst, "", errors.New("it has no path")
	}
	if differs {
		raw = rawPath(dst[:root], list)
	}
	return dst, raw, nil
}

// rawPath is the path that appendPath makes, but for the components that can be names on disk as they are.
func rawPath(root []byte, list value) string {
	path := bytes.Clone(root)
	for component := range list.elements() {
		s, _ := component.str()
		path = append(path, '/')
		if isName(s) {
			path = append(path, s...)
		} else {
			path = appendName(path, s)
		}
	}
	return string(path)
}

// legacyPadding recognises padding made before BEP 47 had an attribute for it, by BitComet and by libtorrent.
// The path begins with a slash.
func legacyPadding(path []byte) bool {
	number, ok := bytes.CutPrefix(path, []byte("/.pad/"))
	return ok && len(bytes.Trim(number, "0123456789")) == 0 ||
		bytes.HasPrefix(path[bytes.LastIndexByte(path, '/')+1:], []byte("_____padding_file_"))
}

// makePathsUnique renames files so that no two, and no file and folder, share a path. Padding is not shown, so
// it doesn't count.
func (t *Torrent) makePathsUnique() {
	names := tree{taken: make(map[name]int, len(t.Files)), last: make(map[name]int)}
	places := make([]name, len(t.Files))
	for i, f := range t.Files {
		if !f.Padding {
			places[i] = names.enter(f.Path[len(t.Name)+1:])
		}
	}
	var left []int
	for i, f := range t.Files {
		if !f.Padding && !names.claim(places[i]) {
			left = append(left, i)
		}
	}
	if len(left) == 0 {
		return
	}
	raw := make(map[string]int, len(t.Files)) // how many files have a path to begin with
	for _, f := range t.Files {
		if !f.Padding {
			raw[f.rawPath()]++
		}
	}
	for _, i := range left {
		f := &t.Files[i]
		path := f.rawPath()
		f.Path = f.Path[:len(f.Path)-len(places[i].base)] + names.rename(places[i])
		f.RawPath = ""
		if raw[path] == 1 { // else it is a path that another file has
			f.RawPath = path
		}
	}
}

func (f *File) rawPath() string { return cmp.Or(f.RawPath, f.Path) }

// resolveLinks puts each symbolic link that leads to a file behind that file, as another name of its bytes,
// and leaves out the others. A target is given from the root folder (BEP 47).
func (t *Torrent) resolveLinks(links map[int]string) {
	byPath := make(map[string]int, len(t.Files))
	for i, f := range t.Files {
		if !f.Padding {
			byPath[f.Path] = i
		}
	}
	linksTo := make(map[int][]int)
	for i := range t.Files {
		at, isLink, ok := i, true, true
		for n := 0; isLink && ok && n <= maxLinks; n++ {
			var target string
			if target, isLink = links[at]; isLink {
				at, ok = byPath[target]
			}
		}
		if ok && !isLink && at != i {
			linksTo[at] = append(linksTo[at], i)
		}
	}
	var kept []File
	for i, f := range t.Files {
		if _, isLink := links[i]; isLink {
			continue
		}
		kept = append(kept, f)
		for _, link := range linksTo[i] {
			alias := f
			alias.Path, alias.RawPath = t.Files[link].Path, t.Files[link].RawPath
			kept = append(kept, alias)
		}
	}
	t.Files = kept
}

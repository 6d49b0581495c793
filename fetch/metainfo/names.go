package metainfo

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest file name, in bytes, that Linux takes.
const maxName = 255

// safeName makes s fit to be one component of a path, and changes nothing that a file system can show: spaces,
// leading dots and every script stay. It is never empty, "." or "..", holds no slash and no control character,
// is valid UTF-8 and at most 255 bytes long; what was wrong with it is replaced by underscores or, at the end,
// cut, where a file's extension is kept.
func safeName(s string) string {
	if strings.ContainsFunc(s, unsafeRune) || !utf8.ValidString(s) {
		s = strings.Map(func(r rune) rune {
			if unsafeRune(r) {
				return '_'
			}
			return r
		}, strings.ToValidUTF8(s, "_"))
	}
	switch s {
	case "", ".":
		return "_"
	case "..":
		return "__"
	}
	if len(s) > maxName {
		stem, ext := splitExt(s)
		s = cut(stem, maxName-len(ext)) + ext
	}
	return s
}

func unsafeRune(r rune) bool { return r == '/' || unicode.IsControl(r) }

// splitExt splits a name before the dot of its extension. What is too long to be an extension is none, and
// neither is all of a name such as ".profile".
func splitExt(s string) (stem, ext string) {
	i := strings.LastIndexByte(s, '.')
	if i <= 0 || len(s)-i > 16 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cut shortens s to at most n bytes without splitting a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// A name is a place in the tree of a torrent: a component within a directory, which is a number, 0 being the
// root. Looking names up a component at a time keeps the work linear in the length of all paths.
type name struct {
	dir  int
	base string
}

// tree gives each file of a torrent a path of its own. Directories keep their names, so all are entered first,
// and so does the first of the files with one path; what is left over then becomes "name (2).ext" and so on.
type tree struct {
	dirs  map[name]int
	files map[name]bool
	last  map[name]int // the last number given out for a name
}

func newTree(files int) *tree {
	return &tree{dirs: make(map[name]int), files: make(map[name]bool, files), last: make(map[name]int)}
}

// addDir enters the directories on the path of a file and returns its place.
func (t *tree) addDir(components []string) name {
	dir := 0
	for _, base := range components[:len(components)-1] {
		n := name{dir, base}
		next, ok := t.dirs[n]
		if !ok {
			next = len(t.dirs) + 1
			t.dirs[n] = next
		}
		dir = next
	}
	return name{dir, components[len(components)-1]}
}

// claim takes a place for a file, and reports whether it was free.
func (t *tree) claim(n name) bool {
	if _, isDir := t.dirs[n]; isDir || t.files[n] {
		return false
	}
	t.files[n] = true
	return true
}

// rename takes the next free place for a file that can't have its own, and returns its name there.
func (t *tree) rename(n name) string {
	stem, ext := splitExt(n.base)
	// Room for the longest number (there are fewer files than maxTokens), whatever the number: so that two
	// families of names, told apart by their stems, never meet and no name is tried twice.
	stem = cut(stem, maxName-len(ext)-len(" (9999999)"))
	family := name{n.dir, stem + ext}
	for number := max(t.last[family], 1) + 1; ; number++ {
		n.base = fmt.Sprintf("%s (%d)%s", stem, number, ext)
		if t.claim(n) {
			t.last[family] = number
			return n.base
		}
	}
}

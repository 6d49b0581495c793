package metainfo

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest file name, in bytes, that Linux takes.
const maxName = 255

// safeName makes s fit to be one component of a path, and changes nothing that a file system can show: spaces,
// leading dots and every script stay. The result is never empty, "." or "..", holds no slash and no control
// character, is valid UTF-8 and at most 255 bytes long; what was wrong became underscores or, past the end, was
// cut off, though not the extension of a file.
func safeName(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unsafeRune) {
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

// isName says whether b can be the name of a file on disk as it is.
func isName(b []byte) bool {
	return 0 < len(b) && len(b) <= maxName && bytes.IndexByte(b, '/') < 0 && bytes.IndexByte(b, 0) < 0 &&
		string(b) != "." && string(b) != ".."
}

func unsafeRune(r rune) bool { return r == '/' || unicode.IsControl(r) }

// appendName appends safeName(b) to dst, and allocates nothing for the usual name, of which there are many.
func appendName(dst, b []byte) []byte {
	for _, c := range b {
		if c < ' ' || c > '~' || c == '/' {
			return append(dst, safeName(string(b))...)
		}
	}
	if len(b) > maxName || len(b) <= len("..") {
		return append(dst, safeName(string(b))...)
	}
	return append(dst, b...)
}

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

// name is a place in the tree of a torrent: a component within a folder, which is a number, 0 being the root.
// With one step for each component, looking up is linear in the length of a path however deep it is.
type name struct {
	folder int
	base   string
}

// tree gives each file of a torrent a path of its own. Folders keep their names, so they are entered first, and
// so does the first of the files with one path; what is left over then becomes "name (2).ext" and so on.
type tree struct {
	taken   map[name]int // the number of a folder, 0 for a file
	folders int
	last    map[name]int // the last number given out for a name
}

// enter makes the folders on the path of a file and returns the file's place.
func (t *tree) enter(path string) name {
	folder := 0
	for {
		base, rest, isFolder := strings.Cut(path, "/")
		n := name{folder, base}
		if !isFolder {
			return n
		}
		if folder = t.taken[n]; folder == 0 {
			t.folders++
			folder = t.folders
			t.taken[n] = folder
		}
		path = rest
	}
}

// claim takes a place for a file, and reports whether it was free. All folders have been entered.
func (t *tree) claim(n name) bool {
	if _, taken := t.taken[n]; taken {
		return false
	}
	t.taken[n] = 0
	return true
}

// rename takes the next free place for a file that can't have its own, and returns its name there.
func (t *tree) rename(n name) string {
	stem, ext := splitExt(n.base)
	// Room for the longest number (there are fewer files than maxTokens), whatever the number: so that two
	// families of names, told apart by their stems, never meet and no name is tried twice.
	stem = cut(stem, maxName-len(ext)-len(" (9999999)"))
	family := name{n.folder, stem + ext}
	for number := max(t.last[family], 1) + 1; ; number++ {
		n.base = fmt.Sprintf("%s (%d)%s", stem, number, ext)
		if t.claim(n) {
			t.last[family] = number
			return n.base
		}
	}
}

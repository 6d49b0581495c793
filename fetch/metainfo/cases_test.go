package metainfo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// bstr is s in bencoding.
func bstr(s string) string { return fmt.Sprintf("%d:%s", len(s), s) }

// blist is a list of values that are in bencoding already.
func blist(values ...string) string { return "l" + strings.Join(values, "") + "e" }

// strs is a list of strings.
func strs(list ...string) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(bstr(s))
	}
	return "l" + b.String() + "e"
}

// bdict is a dictionary of keys in turn with values that are in bencoding already, sorted. A key given again
// replaces the one before it, and an empty value takes it away.
func bdict(pairs ...string) string {
	m := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != "" {
			b.WriteString(bstr(k) + m[k])
		}
	}
	return "d" + b.String() + "e"
}

// hashes is n piece hashes.
func hashes(n int) string { return bstr(strings.Repeat("#", 20*n)) }

// single is the info dictionary of a file of one piece, with changes as bdict takes them.
func single(pairs ...string) string {
	return bdict(append([]string{"length", "i16384e", "name", "4:name", "piece length", "i16384e", "pieces", hashes(1)}, pairs...)...)
}

// torrent is a .torrent file with this info dictionary, and other keys as bdict takes them.
func torrent(info string, pairs ...string) string {
	return bdict(append([]string{"info", info}, pairs...)...)
}

// bfile is an entry of the list of files with this path; one of 100 bytes unless length is among the pairs.
func bfile(path string, pairs ...string) string {
	return bdict(append([]string{"length", "i100e", "path", strs(strings.Split(path, "/")...)}, pairs...)...)
}

// multi is a .torrent of these entries, of up to 16 KiB in all.
func multi(files ...string) string {
	return torrent(single("length", "", "name", "1:r", "files", blist(files...)))
}

// names is a .torrent of files of 100 bytes with these paths, in which slashes separate components.
func names(paths ...string) string {
	var files []string
	for _, p := range paths {
		files = append(files, bfile(p))
	}
	return multi(files...)
}

// single-component paths that hold slashes themselves
func oneName(name string) string { return multi(bfile("", "path", strs(name))) }

// sized is a .torrent of one file of this length and piece length, with the piece hashes that makes.
func sized(length, pieceLength int64) string {
	return torrent(single("length", fmt.Sprintf("i%de", length), "piece length", fmt.Sprintf("i%de", pieceLength),
		"pieces", hashes(int((length-1)/pieceLength+1))))
}

// badTorrent is a .torrent, good, odd or bad, and what is to become of it.
type badTorrent struct {
	name string
	data string
	// want is the files as mounted, space-separated, each "path:offset+length" and P for padding, X for
	// executable; or, if err is set, a part of the error.
	want string
	err  string
	// strict says why this is rejected even though libtorrent or transmission open it.
	strict string
	// plain says that other clients show the very same paths.
	plain bool
}

func ok(name, data, want string) badTorrent { return badTorrent{name: name, data: data, want: want} }
func bad(name, data, err string) badTorrent { return badTorrent{name: name, data: data, err: err} }

func strict(name, data, err, why string) badTorrent {
	return badTorrent{name: name, data: data, err: err, strict: why}
}

const (
	onePiece   = "name:0+16384"
	ambiguous  = "which of two values counts is anybody's guess, so one info-hash would name two different trees"
	canonical  = "bencoding has one form for a number; a client that encodes the dictionary again gets another info-hash"
	unlimited  = "such depth is no torrent but an attack on recursive decoders"
	junk       = "transmission 3.00 skips any bytes it does not understand; what it skips is part of the info-hash or no torrent at all"
	transSigns = "transmission does not look at signs and sizes"
)

func badTorrents() []badTorrent {
	return slices.Concat(notTorrents(), bencodings(), structures(), numbers(), paths(), duplicates(), attributes(), details())
}

// notTorrents are what people give in place of a torrent.
func notTorrents() []badTorrent {
	return []badTorrent{
		bad("nothing", "", "it is empty"),
		bad("web page", "<!DOCTYPE html><html>", "it is a web page"),
		bad("web page after blanks", "\r\n\t <html>", "it is a web page"),
		bad("web page after a byte order mark", "\ufeff<html>", "it is a web page"),
		bad("gzip", "\x1f\x8b\x08\x00\x00", "compressed with gzip"),
		bad("magnet link", "magnet:?xt=urn:btih:", "it holds a magnet link"),
		bad("zip", "PK\x03\x04", `begins with "PK\x03\x04"`),
		bad("text", "hello", `begins with "hello"`),
		bad("integer", "i1e", "not a torrent file"),
		bad("list", "le", "not a torrent file"),
		bad("string", "4:info", "not a torrent file"),
		bad("zeros", strings.Repeat("\x00", 100), "not a torrent file"),
		bad("byte order mark", "\ufeff"+torrent(single()), "not a torrent file"),
		strict("leading newline", "\n"+torrent(single()), "not a torrent file", junk),
		bad("fast resume", bdict("file-format", "22:libtorrent resume file", "info-hash", bstr(strings.Repeat("h", 20))), "no info dictionary"),
	}
}

// bencodings are at odds with BEP 3's bencoding.
func bencodings() []badTorrent {
	extra := func(v string) string { return torrent(single(), "x", v) }
	inInfo := func(v string) string { return torrent(single("x", v)) }
	return []badTorrent{
		ok("plain", torrent(single()), onePiece),
		ok("trailing newline", torrent(single())+"\n", onePiece),
		ok("trailing zero", torrent(single())+"\x00", onePiece),
		ok("trailing value", torrent(single())+"de", onePiece),
		ok("trailing junk", torrent(single())+"<!-- ad -->", onePiece),
		bad("only d", "d", "ends in the middle"),
		bad("no end", "d4:info"+single(), "ends in the middle"),
		bad("no end of info", "d4:info"+strings.TrimSuffix(single(), "e"), "ends in the middle"),
		bad("key without value", "d4:infoe", `unexpected character 'e'`),
		bad("integer as key", "di1ei2e4:info"+single()+"e", "key is not a string"),
		bad("list as key", "dle1:a4:info"+single()+"e", "key is not a string"),
		bad("dictionary as key", "dde1:a4:info"+single()+"e", "key is not a string"),
		strict("character between values", extra("x"), "unexpected character 'x'", junk),
		strict("blank between values", "d 4:info"+single()+"e", "key is not a string", junk),
		strict("minus as a value", extra("-1:a"), "unexpected character '-'", junk),

		ok("zero", extra("i0e"), onePiece),
		ok("minus one", extra("i-1e"), onePiece),
		ok("largest 64-bit integer", extra("i9223372036854775807e"), onePiece),
		ok("smallest 64-bit integer", extra("i-9223372036854775808e"), onePiece),
		ok("unsigned 64-bit integer", extra("i18446744073709551615e"), onePiece),
		ok("integer of 20 digits", extra("i99999999999999999999e"), onePiece),
		ok("negative integer of 20 digits", extra("i-99999999999999999999e"), onePiece),
		bad("integer of 21 digits", extra("i100000000000000000000e"), "integer is not canonical"),
		bad("endless integer", extra("i"+strings.Repeat("9", 100_000)+"e"), "integer without end"),
		strict("leading zero", extra("i03e"), "integer is not canonical", canonical),
		strict("two zeros", extra("i00e"), "integer is not canonical", canonical),
		strict("minus zero", extra("i-0e"), "integer is not canonical", canonical),
		strict("minus leading zero", extra("i-01e"), "integer is not canonical", canonical),
		strict("plus", extra("i+1e"), "integer is not canonical", canonical),
		strict("blank in an integer", extra("i 1e"), "integer is not canonical", canonical),
		bad("two minuses", extra("i--1e"), "integer is not canonical"),
		strict("empty integer", extra("ie"), "integer is not canonical", canonical),
		bad("only a minus", extra("i-e"), "integer is not canonical"),
		bad("fraction", extra("i1.5e"), "integer is not canonical"),
		bad("exponent", extra("i1e5e"), "without a colon"),
		bad("hexadecimal", extra("i0x10e"), "integer is not canonical"),
		bad("integer at the end of the file", "d1:xi12", "integer without end"),

		ok("empty string", extra("0:"), onePiece),
		ok("string length with a leading zero", extra("01:a"), onePiece),
		bad("string past the end", "d1:x5:ab", "longer than what is left"),
		bad("string just past the end", "d1:x3:ab", "longer than what is left"),
		bad("string length of 2^31", extra("2147483648:a"), "longer than what is left"),
		bad("string length of 2^63-1", extra("9223372036854775807:a"), "longer than what is left"),
		bad("string length of 2^63", extra("9223372036854775808:a"), "longer than what is left"),
		bad("string length of 2^64+1", extra("18446744073709551617:a"), "longer than what is left"),
		ok("string length of 5000 zeros", extra(strings.Repeat("0", 5000)+":"), onePiece),
		ok("string length of 5000 zeros and a digit", torrent(single(), "comment", strings.Repeat("0", 5000)+"1:x"), onePiece),
		bad("string length without colon", extra("1a"), "without a colon"),
		bad("string length at the end of the file", "d1:x1", "ends in the middle"),

		ok("depth 100", extra(strings.Repeat("l", 99)+strings.Repeat("e", 99)), onePiece),
		strict("depth 101", extra(strings.Repeat("l", 100)+strings.Repeat("e", 100)), "nested deeper", unlimited),
		strict("dictionaries to depth 101", extra(strings.Repeat("d0:", 100)+"0:"+strings.Repeat("e", 100)), "nested deeper", unlimited),
		bad("a million lists", "d1:x"+strings.Repeat("l", 1_000_000), "nested deeper"),
		bad("a million dictionaries", "d1:x"+strings.Repeat("d0:", 1_000_000), "nested deeper"),
		bad("more values than any torrent has", "d1:xl"+strings.Repeat("0:", maxTokens)+"ee", "more than"),

		ok("unsorted keys", "d1:x1:y4:info"+single()+"e", onePiece),
		ok("unsorted keys in info", "d4:infod6:pieces"+hashes(1)+"12:piece lengthi16384e4:name4:name6:lengthi16384eee", onePiece),
		strict("duplicate key", "d4:info"+single()+"1:x0:1:x0:e", `duplicate key "x"`, ambiguous),
		strict("duplicate info", "d4:info"+single()+"4:info"+single()+"e", `duplicate key "info"`, ambiguous),
		strict("duplicate key in info", "d4:infod6:lengthi16384e6:lengthi1e4:name4:name12:piece lengthi16384e6:pieces"+hashes(1)+"ee", `duplicate key "length"`, ambiguous),
		strict("duplicate key among unsorted ones", "d1:z0:1:a0:4:info"+single()+"1:z0:e", `duplicate key "z"`, ambiguous),
		strict("duplicate key in a file", multi("d6:lengthi100e4:path"+strs("a")+"4:path"+strs("b")+"e"), `duplicate key "path"`, ambiguous),
		strict("duplicate key deep in what is not read", extra("ld1:ale1:aleee"), `duplicate key "a"`, ambiguous),
		strict("duplicate empty key", extra("d0:0:0:0:e"), `duplicate key ""`, ambiguous),
		ok("same key in dictionaries side by side", extra("ld1:a0:ed1:a0:ee"), onePiece),
		ok("same key in dictionaries inside each other", extra("d1:ad1:ad1:a0:eee"), onePiece),
		ok("keys that differ in case", torrent(single("Length", "i1e", "LENGTH", "i2e", "Name", "5:other", "PIECES", "0:")), onePiece),
		bad("key in the wrong case", torrent(single("length", "", "Length", "i16384e")), "neither files nor a valid length"),
		ok("unknown keys in info", inInfo("d1:ali1e1:xde1:ze1:bi-7ee"), onePiece),
		ok("keys with zero bytes and no text", torrent(single("\x00\xff", "0:"), "\xfe\x00", "0:"), onePiece),
	}
}

// structures are well-formed bencoding of the wrong shape.
func structures() []badTorrent {
	return []badTorrent{
		bad("empty dictionary", "de", "no info dictionary"),
		bad("info is a string", torrent("1:x"), "no info dictionary"),
		bad("info is a list", torrent("le"), "no info dictionary"),
		bad("info is an integer", torrent("i1e"), "no info dictionary"),
		bad("info is empty", torrent("de"), "piece length is 0"),
		bad("info in another case", bdict("Info", single()), "no info dictionary"),
		ok("no name", torrent(single("name", "")), "0000:0+16384"),
		ok("empty name", torrent(single("name", "0:")), "0000:0+16384"),
		ok("name is an integer", torrent(single("name", "i1e")), "0000:0+16384"),
		ok("name is a list", torrent(single("name", strs("a"))), "0000:0+16384"),
		ok("name.utf-8 counts more", torrent(single("name.utf-8", bstr("námé"))), "námé:0+16384"),
		ok("empty name.utf-8 does not", torrent(single("name.utf-8", "0:")), onePiece),
		ok("name.utf-8 alone", torrent(single("name", "", "name.utf-8", bstr("námé"))), "námé:0+16384"),
		ok("name.utf-8 of another type", torrent(single("name.utf-8", "i1e")), onePiece),
		bad("no length and no files", torrent(single("length", "")), "neither files nor a valid length"),
		ok("length and files", torrent(single("length", "i5e", "files", blist(bfile("a")))), "name/a:0+100"),
		bad("files is empty", multi(), "empty list of files"),
		ok("files is a string beside a length", torrent(single("files", "1:x")), onePiece),
		bad("files is a string", torrent(single("length", "", "files", "1:x")), "neither files nor a valid length"),
		bad("files is a dictionary", torrent(single("length", "", "files", bdict("a", bfile("a")))), "neither files nor a valid length"),
		bad("file is a string", multi("1:x"), `file 1: it has no path`),
		bad("file is a list", multi("le"), "file 1: it has no path"),
		bad("file is empty", multi("de"), "file 1: it has no path"),
		bad("second file is bad", multi(bfile("a"), bfile("b", "path", "")), "file 2: it has no path"),
		bad("path is empty", multi(bfile("", "path", "le")), "it has no path"),
		bad("path is a string", multi(bfile("", "path", "1:a")), "it has no path"),
		bad("path is an integer", multi(bfile("", "path", "i1e")), "it has no path"),
		ok("integer in a path", multi(bfile("", "path", "l1:ai1e1:be")), "r/a/_/b:0+100"),
		ok("list in a path", multi(bfile("", "path", "l1:ale1:be")), "r/a/_/b:0+100"),
		ok("path.utf-8 counts more", multi(bfile("x", "path.utf-8", strs("é", "ü"))), "r/é/ü:0+100"),
		ok("empty path.utf-8 does not", multi(bfile("x", "path.utf-8", "le")), "r/x:0+100"),
		ok("path.utf-8 alone", multi(bfile("", "path", "", "path.utf-8", strs("é"))), "r/é:0+100"),
		ok("path.utf-8 of another type", multi(bfile("x", "path.utf-8", "1:y")), "r/x:0+100"),
		ok("one file in a folder", names("a"), "r/a:0+100"),
		bad("no pieces", torrent(single("pieces", "")), "no piece hashes"),
		bad("pieces is a list", torrent(single("pieces", strs("a"))), "no piece hashes"),
		bad("pieces is an integer", torrent(single("pieces", "i1e")), "no piece hashes"),
		bad("no piece length", torrent(single("piece length", "")), "piece length is 0"),
		bad("piece length is a string", torrent(single("piece length", "5:16384")), "piece length is 0"),
		strict("piece length outside of info", torrent(single("piece length", ""), "piece length", "i16384e"), "piece length is 0", "transmission 4 does, but what the info-hash does not cover can't be trusted"),
		strict("v2 only", torrent(bdict("file tree", bdict("a", bdict("", bdict("length", "i100e", "pieces root", bstr(strings.Repeat("r", 32))))),
			"meta version", "i2e", "name", "1:a", "piece length", "i16384e")), "v2-only torrents are not supported yet", "not done yet"),
		ok("hybrid of one file", torrent(single("name", "1:a", "meta version", "i2e", "file tree",
			bdict("a", bdict("", bdict("length", "i16384e", "pieces root", bstr(strings.Repeat("r", 32))))))), "a:0+16384"),
		ok("hybrid of a folder", torrent(single("length", "", "name", "1:r", "meta version", "i2e",
			"files", blist(bfile("a"), bfile(".pad/16284", "attr", "1:p", "length", "i16284e"), bfile("b")), "pieces", hashes(2),
			"file tree", bdict(
				"a", bdict("", bdict("length", "i100e", "pieces root", bstr(strings.Repeat("r", 32)))),
				"b", bdict("", bdict("length", "i100e", "pieces root", bstr(strings.Repeat("s", 32))))))),
			"r/a:0+100 r/.pad/16284:100+16284P r/b:16384+100"),
		ok("file tree without a version", torrent(single("file tree", "de")), onePiece),
	}
}

// numbers are sizes at every border.
func numbers() []badTorrent {
	pieceLength := func(n string) string { return torrent(single("piece length", "i"+n+"e")) }
	length := func(n string) string { return torrent(single("length", "i"+n+"e")) }
	fileLengths := func(lengths ...string) string {
		var list []string
		for i, n := range lengths {
			list = append(list, bfile(fmt.Sprint("f", i), "length", "i"+n+"e"))
		}
		return multi(list...)
	}
	return []badTorrent{
		bad("piece length 0", pieceLength("0"), "piece length is 0"),
		strict("piece length -1", pieceLength("-1"), "piece length is -1", transSigns),
		bad("piece length -2^63", pieceLength("-9223372036854775808"), "piece length is -9223372036854775808"),
		ok("piece length 1", sized(5, 1), "name:0+5"),
		ok("piece length 2", sized(5, 2), "name:0+5"),
		ok("piece length 1000", sized(5000, 1000), "name:0+5000"),
		ok("piece length 16383", sized(16384, 16383), onePiece),
		ok("piece length 16385", sized(16386, 16385), "name:0+16386"),
		ok("piece length 2^24", pieceLength("16777216"), onePiece),
		ok("piece length 2^30-1", pieceLength("1073741823"), onePiece),
		ok("piece length 2^30", pieceLength("1073741824"), onePiece),
		strict("piece length 2^30+1", pieceLength("1073741825"), "piece length is 1073741825", "a piece must fit in memory to be verified; libtorrent draws the line here too"),
		strict("piece length 2^31", pieceLength("2147483648"), "piece length is 2147483648", "as above"),
		strict("piece length 2^32-1", pieceLength("4294967295"), "piece length is 4294967295", "as above"),
		strict("piece length 2^32", pieceLength("4294967296"), "piece length is 4294967296", "as above"),
		strict("piece length 2^32+16384", pieceLength("4294983680"), "piece length is 4294983680", "as above"),
		strict("piece length 2^53", pieceLength("9007199254740992"), "piece length is 9007199254740992", "as above"),
		strict("piece length 2^63-1", pieceLength("9223372036854775807"), "piece length is 9223372036854775807", "as above"),
		bad("piece length 2^63", pieceLength("9223372036854775808"), "piece length is 0"),

		bad("length 0", length("0"), "no content"),
		bad("length 0 without pieces", torrent(single("length", "i0e", "pieces", "0:")), "no content"),
		ok("length 1", length("1"), "name:0+1"),
		bad("length -1", length("-1"), "neither files nor a valid length"),
		bad("length -2^63", length("-9223372036854775808"), "neither files nor a valid length"),
		bad("length is a string", torrent(single("length", "5:16384")), "neither files nor a valid length"),
		bad("length one byte past the pieces", length("16385"), "has 1 piece hashes, but 16385 bytes in pieces of 16384 make 2 pieces"),
		bad("length 2^31 in one piece", length("2147483648"), "make 131072 pieces"),
		bad("length 2^53 in one piece", length("9007199254740992"), "make 549755813888 pieces"),
		bad("length 2^63-1 in one piece", length("9223372036854775807"), "make 562949953421312 pieces"),
		bad("length 2^63", length("9223372036854775808"), "neither files nor a valid length"),
		bad("length 2^64+16384", length("18446744073709568000"), "neither files nor a valid length"),
		ok("length 2^31-1", sized(1<<31-1, 1<<22), "name:0+2147483647"),
		ok("length 2^31", sized(1<<31, 1<<22), "name:0+2147483648"),
		ok("length 2^31+1", sized(1<<31+1, 1<<22), "name:0+2147483649"),
		ok("length 2^32", sized(1<<32, 1<<22), "name:0+4294967296"),
		ok("length 2^32+1", sized(1<<32+1, 1<<22), "name:0+4294967297"),
		ok("length 2^40", sized(1<<40, 1<<28), "name:0+1099511627776"),
		ok("length 2^43", sized(1<<43, 1<<29), "name:0+8796093022208"),
		ok("length 2^48", sized(1<<48, 1<<30), "name:0+281474976710656"),

		bad("pieces is empty", torrent(single("pieces", "0:")), "has 0 piece hashes"),
		bad("19 bytes of pieces", torrent(single("pieces", bstr(strings.Repeat("#", 19)))), "not a multiple of 20"),
		bad("21 bytes of pieces", torrent(single("pieces", bstr(strings.Repeat("#", 21)))), "not a multiple of 20"),
		bad("one hash too many", torrent(single("pieces", hashes(2))), "has 2 piece hashes"),
		bad("one hash too few", torrent(single("length", "i16385e")), "has 1 piece hashes"),

		ok("empty file first", fileLengths("0", "100"), "r/f0:0+0 r/f1:0+100"),
		ok("empty file between", fileLengths("100", "0", "0", "50"), "r/f0:0+100 r/f1:100+0 r/f2:100+0 r/f3:100+50"),
		ok("empty file last", fileLengths("100", "0"), "r/f0:0+100 r/f1:100+0"),
		bad("all files empty", fileLengths("0", "0"), "no content"),
		strict("negative length of a file", fileLengths("100", "-1"), `file 2: "r/f1" has no valid length`, transSigns),
		strict("negative length made up for", fileLengths("16384", "-100", "100"), `file 2: "r/f1" has no valid length`, transSigns),
		bad("file without length", multi(bfile("a", "length", "")), `file 1: "r/a" has no valid length`),
		bad("length of a file is a string", multi(bfile("a", "length", "3:100")), "no valid length"),
		bad("length of a file is 2^63", fileLengths("9223372036854775808"), "no valid length"),
		bad("length of a file is 2^63-1", fileLengths("9223372036854775807"), "make 562949953421312 pieces"),
		bad("sum of lengths is 2^63", fileLengths("9223372036854775807", "1"), "sum of all lengths is too large"),
		strict("sum of lengths wraps around to one piece", fileLengths("9223372036854775807", "9223372036854775807", "100"), "sum of all lengths is too large", transSigns),
		bad("sum of lengths is one past the pieces", fileLengths("16384", "1"), "make 2 pieces"),
		ok("sum of lengths fills the piece", fileLengths("16383", "1"), "r/f0:0+16383 r/f1:16383+1"),
	}
}

// paths are names that can't or should not be shown as they are, and some that should.
func paths() []badTorrent {
	rename := func(name, from, to string) badTorrent { return ok(name, oneName(from), "r/"+to+":0+100") }
	keep := func(what, name string) badTorrent {
		c := rename(what, name, name)
		c.plain = true
		return c
	}
	root := func(what, from, to string) badTorrent {
		return ok(what, torrent(single("name", bstr(from))), to+":0+16384")
	}
	long := strings.Repeat("x", 300)
	return []badTorrent{
		keep("blanks", " a  b "), keep("leading dots", "..a"), keep("three dots", "..."), keep("hidden name", ".profile"),
		keep("trailing dot", "a."), keep("trailing blank", "a "), keep("only a blank", " "), rename("backslash", `a\b`, `a\b`),
		keep("reserved on Windows", `CON<>:"|?*`), keep("drive letter", "C:"), keep("tilde", "~"), keep("dash", "-rf"),
		keep("CJK", "日本語のファイル.mkv"), keep("emoji with joiners", "👩‍👩‍👧.png"), keep("right to left", "שלום"),
		keep("combining marks", "e\u0301"), keep("200 letters", strings.Repeat("y", 200)), rename("255 bytes", strings.Repeat("y", 255), strings.Repeat("y", 255)),
		keep("quotes and shell", "$(x)`'\";&|"), keep("percent", "%2e%2e%2f"), keep("replacement character", "a\ufffdb"),
		keep("replacement of a slash", "a∕b"), keep("full width dots", "．．"),
		rename("empty", "", "_"), rename("dot", ".", "_"), rename("two dots", "..", "__"), rename("slash", "/", "_"),
		rename("slash inside", "a/b", "a_b"), rename("absolute", "/etc/passwd", "_etc_passwd"),
		rename("climbing", "../../x", ".._.._x"), rename("zero byte", "a\x00b", "a_b"), rename("newline", "a\nb", "a_b"),
		rename("escape sequence", "\x1b[2Jx", "_[2Jx"), rename("DEL", "a\x7f", "a_"), rename("C1 control", "a\u0085b", "a_b"),
		rename("invalid UTF-8", "a\xffb", "a_b"), rename("run of invalid UTF-8", "a\xff\xfe\xfdb", "a_b"),
		rename("truncated rune", "a\xe6\x97", "a_"), rename("surrogate", "a\xed\xa0\x80b", "a_b"), rename("overlong dot", "\xc0\xae", "_"),
		rename("overlong slash", "a\xc0\xafb", "a_b"), rename("Latin-1", "caf\xe9", "caf_"),
		rename("only a zero byte", "\x00", "_"), rename("256 bytes", long[:256], long[:255]),
		rename("300 bytes with extension", long+".mkv", long[:251]+".mkv"),
		rename("300 bytes with a long extension", long+".this-is-no-extension", long[:255]),
		rename("long name cut within a rune", strings.Repeat("é", 200), strings.Repeat("é", 127)),
		rename("long name of four-byte runes", strings.Repeat("🎬", 100)+".mp4", strings.Repeat("🎬", 62)+".mp4"),
		rename("long hidden name", "."+long, "."+long[:254]),
		ok("dots on the way", names("../a"), "r/__/a:0+100"),
		ok("dot on the way", names("./a"), "r/_/a:0+100"),
		ok("empty component first", names("/a"), "r/_/a:0+100"),
		ok("empty component in the middle", names("a//b"), "r/a/_/b:0+100"),
		ok("empty component last", names("a/"), "r/a/_:0+100"),
		ok("climbing a step at a time", names("../../../etc/passwd"), "r/__/__/__/etc/passwd:0+100"),
		ok("only dots", names("../.."), "r/__/__:0+100"),
		ok("255 components", names(strings.Repeat("d/", 254)+"f"), "r/"+strings.Repeat("d/", 254)+"f:0+100"),
		strict("256 components", names(strings.Repeat("d/", 255)+"f"), "more than 255 components", "no program can open such a path"),
		root("root with blanks", " a ", " a "), root("root is two dots", "..", "__"), root("root is a dot", ".", "_"),
		root("root with a slash", "a/b", "a_b"), root("root is a slash", "/", "_"), root("root is absolute", "/etc/passwd", "_etc_passwd"),
		root("root with a zero byte", "a\x00b", "a_b"), root("root of 300 bytes", long+".iso", long[:251]+".iso"),
		root("root of invalid UTF-8", "\xff\xfe", "_"), root("root keeps its script", "日本語", "日本語"),
		ok("folder is two dots", torrent(single("length", "", "name", "2:..", "files", blist(bfile("a")))), "__/a:0+100"),
		ok("folder is empty", torrent(single("length", "", "name", "0:", "files", blist(bfile("a")))), "0000/a:0+100"),
		ok("folder with a slash", torrent(single("length", "", "name", "3:a/b", "files", blist(bfile("a")))), "a_b/a:0+100"),
	}
}

// duplicates are names that can't all stand in one tree.
func duplicates() []badTorrent {
	long := strings.Repeat("x", 251)
	return []badTorrent{
		ok("same file twice", names("a.txt", "a.txt"), "r/a.txt:0+100 r/a (2).txt:100+100"),
		ok("same file four times", names("a.txt", "a.txt", "a.txt", "a.txt"), "r/a.txt:0+100 r/a (2).txt:100+100 r/a (3).txt:200+100 r/a (4).txt:300+100"),
		ok("same file without extension", names("a", "a"), "r/a:0+100 r/a (2):100+100"),
		ok("same hidden file", names(".a", ".a"), "r/.a:0+100 r/.a (2):100+100"),
		ok("same file with two extensions", names("a.tar.gz", "a.tar.gz"), "r/a.tar.gz:0+100 r/a.tar (2).gz:100+100"),
		ok("number taken before", names("a (2)", "a", "a"), "r/a (2):0+100 r/a:100+100 r/a (3):200+100"),
		ok("number taken after", names("a", "a", "a (2)"), "r/a:0+100 r/a (3):100+100 r/a (2):200+100"),
		ok("same file in another folder", names("x/a", "y/a"), "r/x/a:0+100 r/y/a:100+100"),
		ok("same file in the same folder", names("x/a", "x/a"), "r/x/a:0+100 r/x/a (2):100+100"),
		ok("case matters", names("a", "A"), "r/a:0+100 r/A:100+100"),
		ok("normal form matters", names("\u00e9", "e\u0301"), "r/\u00e9:0+100 r/e\u0301:100+100"),
		ok("same once made safe", names("a\x00", "a\x01", "a_"), "r/a_:0+100 r/a_ (2):100+100 r/a_ (3):200+100"),
		ok("same once cut", names(long+"12345", long+"1234", long+"12346"),
			"r/"+long+"1234:0+100 r/"+long[:245]+" (2):100+100 r/"+long[:245]+" (3):200+100"),
		ok("long names with an extension", names(long+".mkv", long+".mkv"), "r/"+long+".mkv:0+100 r/"+long[:241]+" (2).mkv:100+100"),
		ok("folder after file", names("a", "a/b"), "r/a (2):0+100 r/a/b:100+100"),
		ok("folder before file", names("a/b", "a"), "r/a/b:0+100 r/a (2):100+100"),
		ok("folder below file below folder", names("a/b", "a/b/c", "a/b/c/d"), "r/a/b (2):0+100 r/a/b/c (2):100+100 r/a/b/c/d:200+100"),
		ok("folder with the number", names("a", "a", "a (2)/b"), "r/a:0+100 r/a (3):100+100 r/a (2)/b:200+100"),
		ok("folders that are the same once made safe", names("x\x00/a", "x_/a"), "r/x_/a:0+100 r/x_/a (2):100+100"),
		ok("file named as the root", names("r", "r/r"), "r/r (2):0+100 r/r/r:100+100"),
		ok("padding does not count", multi(bfile("a"), bfile("a", "attr", "1:p"), bfile("a")), "r/a:0+100 r/a:100+100P r/a (2):200+100"),
		ok("folder of padding does not count", multi(bfile(".pad"), bfile(".pad/1", "attr", "1:p")), "r/.pad:0+100 r/.pad/1:100+100P"),
	}
}

// attributes are those of BEP 47, and padding from before it.
func attributes() []badTorrent {
	link := func(path, target string, pairs ...string) string {
		return bfile(path, append([]string{"attr", "1:l", "length", "i0e", "symlink path", strs(strings.Split(target, "/")...)}, pairs...)...)
	}
	return []badTorrent{
		ok("executable", multi(bfile("a", "attr", "1:x")), "r/a:0+100X"),
		ok("hidden", multi(bfile("a", "attr", "1:h")), "r/a:0+100"),
		ok("several attributes", multi(bfile("a", "attr", "3:hx?")), "r/a:0+100X"),
		ok("attributes of another type", multi(bfile("a", "attr", "i1e")), "r/a:0+100"),
		ok("executable single file", torrent(single("attr", "1:x")), "name:0+16384X"),
		ok("padding single file is shown", torrent(single("attr", "1:p")), onePiece),
		ok("padding", multi(bfile("a"), bfile(".pad/16284", "attr", "1:p", "length", "i16284e")), "r/a:0+100 r/.pad/16284:100+16284P"),
		ok("padding without path", multi(bfile("a"), bfile("", "path", "", "attr", "1:p")), "r/a:0+100 r/.pad/100:100+100P"),
		ok("padding with empty path", multi(bfile("a"), bfile("", "path", "le", "attr", "1:p")), "r/a:0+100 r/.pad/100:100+100P"),
		ok("padding in the same place", multi(bfile("a"), bfile(".pad/1", "attr", "1:p"), bfile("b"), bfile(".pad/1", "attr", "1:p")),
			"r/a:0+100 r/.pad/1:100+100P r/b:200+100 r/.pad/1:300+100P"),
		ok("padding of no length", multi(bfile("a"), bfile("p", "attr", "1:p", "length", "i0e")), "r/a:0+100 r/p:100+0P"),
		ok("BitComet padding", names("a", "_____padding_file_0_if you see this file, please update to BitComet 0.85 or above____"),
			"r/a:0+100 r/_____padding_file_0_if you see this file, please update to BitComet 0.85 or above____:100+100P"),
		ok("BitComet padding in a folder", names("a", "d/_____padding_file_1"), "r/a:0+100 r/d/_____padding_file_1:100+100P"),
		ok("old libtorrent padding", names("a", ".pad/0"), "r/a:0+100 r/.pad/0:100+100P"),
		ok("a folder .pad of other things", names("a", ".pad/notes"), "r/a:0+100 r/.pad/notes:100+100"),
		ok("a folder .pad further down", names("a", "d/.pad/0"), "r/a:0+100 r/d/.pad/0:100+100"),
		ok("only padding", multi(bfile("p", "attr", "1:p")), "r/p:0+100P"),

		ok("link", multi(bfile("a"), link("l", "a"), bfile("b")), "r/a:0+100 r/l:0+100 r/b:100+100"),
		ok("link before its target", multi(link("l", "b"), bfile("a"), bfile("b")), "r/a:0+100 r/b:100+100 r/l:100+100"),
		ok("link without length", multi(bfile("a"), link("l", "a", "length", "")), "r/a:0+100 r/l:0+100"),
		ok("link with a length", multi(bfile("a"), link("l", "a", "length", "i50e"), bfile("b")), "r/a:0+100 r/l:0+100 r/b:100+100"),
		ok("link in a folder", multi(bfile("d/a"), link("e/l", "d/a")), "r/d/a:0+100 r/e/l:0+100"),
		ok("link to an executable", multi(bfile("a", "attr", "1:x"), link("l", "a")), "r/a:0+100X r/l:0+100X"),
		ok("link to a link", multi(bfile("a"), link("k", "l"), link("l", "a")), "r/a:0+100 r/k:0+100 r/l:0+100"),
		ok("link to itself", multi(bfile("a"), link("l", "l")), "r/a:0+100"),
		ok("links in a circle", multi(bfile("a"), link("k", "l"), link("l", "k")), "r/a:0+100"),
		ok("link to nothing", multi(bfile("a"), link("l", "b")), "r/a:0+100"),
		ok("link to a folder", multi(bfile("d/a"), link("l", "d")), "r/d/a:0+100"),
		ok("link out of the torrent", multi(bfile("a"), link("l", "../../etc/passwd")), "r/a:0+100"),
		ok("absolute link", multi(bfile("a"), link("l", "/etc/passwd")), "r/a:0+100"),
		ok("link to padding", multi(bfile("p", "attr", "1:p"), link("l", "p"), bfile("a")), "r/p:0+100P r/a:100+100"),
		ok("link without target", multi(bfile("a"), bfile("l", "attr", "1:l", "length", "i0e")), "r/a:0+100 r/l:100+0"),
		ok("link named as its target", multi(bfile("a"), link("a", "a")), "r/a:0+100 r/a (2):0+100"),
		ok("link that says it is padding", multi(bfile("a"), link("l", "a", "attr", "2:lp")), "r/a:0+100 r/l:0+100"),
		bad("only links", multi(link("l", "a")), "no content"),
	}
}

// details are odd values of what is beside the content; none is a reason to refuse a torrent.
func details() []badTorrent {
	odd := func(name string, pairs ...string) badTorrent { return ok(name, torrent(single(), pairs...), onePiece) }
	return []badTorrent{
		odd("announce is an integer", "announce", "i1e"), odd("announce is empty", "announce", "0:"),
		odd("announce is a list", "announce", strs("http://a.example/")), odd("announce is no URL", "announce", "3:abc"),
		odd("announce-list is empty", "announce-list", "le"), odd("announce-list is a string", "announce-list", "1:x"),
		odd("announce-list of strings", "announce-list", strs("http://a.example/")), odd("announce-list of empty tiers", "announce-list", "llelee"),
		odd("announce-list of integers", "announce-list", "lli1eee"), strict("announce-list of a million empty tiers", torrent(single(), "announce-list", "l"+strings.Repeat("le", 1_000_000)+"e"), "too many parts", "it is no list of trackers but an attack on the memory of decoders"),
		odd("announce-list of dictionaries", "announce-list", "ldedee"),
		odd("comment is an integer", "comment", "i1e"), odd("comment is a list", "comment", "le"), odd("comment in Latin-1", "comment", "4:caf\xe9"),
		odd("created by is a dictionary", "created by", "de"),
		odd("creation date is a string", "creation date", "10:1700000000"), odd("creation date is negative", "creation date", "i-1e"),
		odd("creation date in milliseconds", "creation date", "i1700000000000e"), odd("creation date is 2^63-1", "creation date", "i9223372036854775807e"),
		odd("url-list is a string", "url-list", bstr("http://a.example/")), odd("url-list is a list", "url-list", strs("http://a.example/")),
		odd("url-list is an integer", "url-list", "i1e"), odd("url-list is a dictionary", "url-list", "de"),
		odd("url-list holds a list", "url-list", "lle1:xe"), odd("url-list is empty", "url-list", "0:"),
		odd("httpseeds", "httpseeds", strs("http://a.example/")), odd("encoding is not UTF-8", "encoding", "3:GBK"),
		odd("nodes is a string", "nodes", "1:x"), odd("nodes of strings", "nodes", strs("a")), odd("nodes without port", "nodes", "ll1:aee"),
		odd("nodes with a string as port", "nodes", "ll1:a1:bee"), odd("nodes with port 65536", "nodes", "ll1:ai65536eee"),
		odd("nodes of three", "nodes", "ll1:ai1ei2eee"), odd("nodes with a list as host", "nodes", "lllei1eee"),
		odd("piece layers without v2", "piece layers", "de"), odd("azureus_properties", "azureus_properties", "d17:dht_backup_enablei1ee"),
		ok("private is a string", torrent(single("private", "1:1")), onePiece), ok("private is 2", torrent(single("private", "i2e")), onePiece),
		ok("private is negative", torrent(single("private", "i-1e")), onePiece), ok("source", torrent(single("source", "3:abc")), onePiece),
		ok("md5sum and more per file", multi(bfile("a", "md5sum", bstr(strings.Repeat("0", 32)), "sha1", bstr(strings.Repeat("0", 20)), "mtime", "i1700000000e")), "r/a:0+100"),
		ok("filehash as BitComet writes it", multi(bfile("a", "filehash", bstr(strings.Repeat("\xfe", 20)), "ed2k", bstr(strings.Repeat("\xfe", 16)))), "r/a:0+100"),
		ok("length as a huge number in another key", torrent(single("size", "i99999999999999999999e")), onePiece),
	}
}

package metainfo

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxSize is the size in bytes of the largest .torrent file or info dictionary that is read: several
	// million pieces, or a million files.
	MaxSize = 128 << 20
	// MaxPieceLength is the largest piece length accepted, in bytes. The smallest is 1: clients make and open
	// torrents with pieces under 16 KiB and with lengths that are no power of two.
	MaxPieceLength = 1 << 30

	// maxURLs bounds how many trackers, web seeds and nodes are kept of each, and maxURL the bytes of one.
	maxURLs = 1000
	maxURL  = 8 << 10
)

var errV2Only = errors.New("v2-only torrents are not supported yet (BEP 52): use a hybrid or v1 torrent of the same content")

// bencodeTorrent is the part of a .torrent file beside the info dictionary, as it is written there.
type bencodeTorrent struct {
	Announce      string     `bencode:"announce"`
	AnnounceList  [][]string `bencode:"announce-list"`
	Comment       string     `bencode:"comment"`
	CommentUTF8   string     `bencode:"comment.utf-8"`
	CreatedBy     string     `bencode:"created by"`
	CreatedByUTF8 string     `bencode:"created by.utf-8"`
	CreationDate  int64      `bencode:"creation date"`
	Private       int64      `bencode:"private"`
	URLList       Raw        `bencode:"url-list"` // a list or a single string
	Nodes         [][]any    `bencode:"nodes"`
}

// bencodeInfo is the info dictionary without its two long parts, files and pieces.
type bencodeInfo struct {
	Length      int64  `bencode:"length"`
	MetaVersion int64  `bencode:"meta version"`
	Name        string `bencode:"name"`
	NameUTF8    string `bencode:"name.utf-8"`
	PieceLength int64  `bencode:"piece length"`
	Private     int64  `bencode:"private"`
	Attr        string `bencode:"attr"`
}

// Load reads and parses the .torrent file at path. A file larger than MaxSize is an error.
func Load(path string) (*Torrent, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > MaxSize { // not worth reading
		return nil, fmt.Errorf("%s: %w", path, errTooLarge)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	t, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

var errTooLarge = fmt.Errorf("not a torrent file: larger than %d MiB", MaxSize>>20)

// Parse reads a .torrent file (BEP 3). Bytes after its dictionary are ignored, as every client does. The
// result keeps no reference to b.
func Parse(b []byte) (*Torrent, error) {
	if err := sniff(b); err != nil {
		return nil, err
	}
	root, _, err := scan(b)
	if err != nil {
		return nil, fmt.Errorf("not a valid torrent file: %w", err)
	}
	info, ok := root.member("info")
	if !ok || !info.isDict() {
		return nil, errors.New("not a torrent file: it has no info dictionary")
	}
	var bt bencodeTorrent
	if err := decode(root, &bt); err != nil {
		return nil, fmt.Errorf("not a valid torrent file: %w", err)
	}
	t, err := parseInfo(info)
	if err != nil {
		return nil, err
	}
	if _, ok := info.member("private"); !ok {
		t.Private = bt.Private != 0 // where some old tools put it
	}
	if 0 < bt.CreationDate && bt.CreationDate <= maxDate {
		t.Created = time.Unix(bt.CreationDate, 0).UTC()
	}
	t.Comment = text(bt.CommentUTF8, bt.Comment)
	t.CreatedBy = text(bt.CreatedByUTF8, bt.CreatedBy)
	t.Trackers = tiers(bt.AnnounceList)
	if t.Trackers == nil {
		t.Trackers = tiers([][]string{{bt.Announce}})
	}
	t.WebSeeds = urls(t.withSlash(stringOrList(bt.URLList)))
	t.Nodes = nodes(bt.Nodes)
	return t, nil
}

// maxDate is the last second of the year 9999, past which times have no usual form.
const maxDate = 253402300799

// sniff gives a plain answer to what people hand over in place of a torrent file.
func sniff(b []byte) error {
	switch trimmed := bytes.TrimLeft(b[:min(len(b), 512)], " \t\r\n\ufeff"); {
	case len(b) > MaxSize:
		return errTooLarge
	case len(b) == 0:
		return errors.New("not a torrent file: it is empty")
	case bytes.HasPrefix(trimmed, []byte("<")):
		return errors.New("not a torrent file: it is a web page; download the torrent itself")
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		return errors.New("not a torrent file: it is compressed with gzip; decompress it first")
	case bytes.HasPrefix(trimmed, []byte("magnet:")):
		return errors.New("not a torrent file: it holds a magnet link; give the link itself")
	case b[0] != 'd':
		return fmt.Errorf("not a torrent file: it begins with %.16q", b[:min(len(b), 16)])
	}
	return nil
}

// ParseInfo reads a bare info dictionary, as peers send it (BEP 9). The result has no trackers, and keeps no
// reference to info.
func ParseInfo(info []byte) (*Torrent, error) {
	if len(info) > MaxSize {
		return nil, fmt.Errorf("info dictionary is larger than %d MiB", MaxSize>>20)
	}
	v, rest, err := scan(info)
	switch {
	case err != nil:
		return nil, fmt.Errorf("info dictionary: %w", err)
	case len(rest) > 0:
		return nil, fmt.Errorf("info dictionary: %d bytes follow it", len(rest))
	case !v.isDict():
		return nil, errors.New("info dictionary is " + v.kind())
	}
	return parseInfo(v)
}

func parseInfo(info value) (*Torrent, error) {
	bi := bencodeInfo{Length: -1}
	if err := decode(info, &bi); err != nil {
		return nil, fmt.Errorf("info dictionary: %w", err)
	}
	t := &Torrent{
		InfoHash:    sha1.Sum(info),
		Info:        bytes.Clone(info),
		PieceLength: bi.PieceLength,
		Private:     bi.Private != 0,
	}
	t.Name = rootName(bi, t.InfoHash)
	if err := t.parsePieces(info, bi); err != nil {
		return nil, err
	}
	if err := t.parseFiles(info, bi); err != nil {
		return nil, err
	}
	if want := (t.Length-1)/t.PieceLength + 1; want != int64(len(t.Pieces)) {
		return nil, fmt.Errorf("torrent has %d piece hashes, but %d bytes in pieces of %d make %d pieces",
			len(t.Pieces), t.Length, t.PieceLength, want)
	}
	return t, nil
}

func rootName(bi bencodeInfo, h Hash) string {
	switch {
	case bi.NameUTF8 != "":
		return safeName(bi.NameUTF8)
	case bi.Name != "":
		return safeName(bi.Name)
	default:
		return h.String()
	}
}

func (t *Torrent) parsePieces(info value, bi bencodeInfo) error {
	if bi.PieceLength < 1 || bi.PieceLength > MaxPieceLength {
		return fmt.Errorf("piece length is %d, not between 1 and %d bytes", bi.PieceLength, MaxPieceLength)
	}
	v, ok := info.member("pieces")
	if !ok && bi.MetaVersion >= 2 {
		return errV2Only
	}
	var hashes []byte
	if ok {
		hashes, ok = v.str()
	}
	if !ok {
		return errors.New("torrent has no piece hashes")
	}
	if len(hashes)%sha1.Size != 0 {
		return fmt.Errorf("piece hashes are %d bytes long, not a multiple of %d", len(hashes), sha1.Size)
	}
	t.Pieces = make([][20]byte, len(hashes)/sha1.Size)
	for i := range t.Pieces {
		t.Pieces[i] = [20]byte(hashes[i*sha1.Size:])
	}
	return nil
}

// withSlash adds the slash at the end of a multi-file torrent's web seed that some tools forget.
func (t *Torrent) withSlash(list []string) []string {
	for i, s := range list {
		if s = strings.TrimSpace(s); t.MultiFile && !strings.HasSuffix(s, "/") {
			list[i] = s + "/"
		}
	}
	return list
}

// stringOrList reads a value that is written as a list of strings or, where there is but one, as a string.
func stringOrList(v Raw) []string {
	var list []string
	if Decode([]byte(v), &list) == nil {
		return list
	}
	var s string
	if Decode([]byte(v), &s) == nil {
		return []string{s}
	}
	return nil
}

// text is the first of the strings that is not empty, safe to print: valid UTF-8 without control characters.
func text(strs ...string) string {
	for _, s := range strs {
		if s != "" {
			return strings.Map(func(r rune) rune {
				if unicode.IsControl(r) && r != '\n' && r != '\t' {
					return ' '
				}
				return r
			}, strings.ToValidUTF8(s, "\ufffd"))
		}
	}
	return ""
}

// tiers keeps the usable URLs of an announce-list, each once, and the tiers that have any.
func tiers(list [][]string) [][]string {
	var kept [][]string
	seen := make(map[string]bool)
	for _, tier := range list {
		if tier = usable(tier, seen); len(tier) > 0 {
			kept = append(kept, tier)
		}
	}
	return kept
}

// urls keeps the usable ones of a list of URLs, each once.
func urls(list []string) []string { return usable(list, make(map[string]bool)) }

// usable keeps what is an absolute URL with a host, safe to print, and was not seen, up to a bound.
func usable(list []string, seen map[string]bool) []string {
	var kept []string
	for _, s := range list {
		s = strings.TrimSpace(s)
		if len(s) > maxURL || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || seen[s] || len(seen) == maxURLs {
			continue
		}
		if u, err := url.Parse(s); err != nil || u.Scheme == "" || u.Host == "" {
			continue
		}
		seen[s] = true
		kept = append(kept, s)
	}
	return kept
}

// nodes keeps the usable [host, port] pairs as host:port.
func nodes(list [][]any) []string {
	var kept []string
	for _, pair := range list {
		if len(pair) < 2 || len(kept) == maxURLs {
			continue
		}
		host, _ := pair[0].(string)
		port, _ := pair[1].(int64)
		if host = strings.TrimSpace(host); isHost(host) && 0 < port && port <= math.MaxUint16 {
			kept = append(kept, net.JoinHostPort(host, strconv.FormatInt(port, 10)))
		}
	}
	return kept
}

// isHost tells what may be a host name or an IP address from what can't be.
func isHost(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune("/@[]?#", r) || r == unicode.ReplacementChar
	})
}

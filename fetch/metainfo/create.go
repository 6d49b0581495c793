package metainfo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	bencode "github.com/jackpal/bencode-go"
	"golang.org/x/sync/errgroup"
)

// CreateOptions says what goes into a new .torrent file beside its content.
type CreateOptions struct {
	Name        string     // of the file or root folder; empty: the last component of the path
	PieceLength int64      // bytes; 0: chosen by size
	Trackers    [][]string // tiers (BEP 12)
	WebSeeds    []string   // BEP 19
	Private     bool       // BEP 27
	Comment     string
	Created     time.Time   // zero: left out
	Noted       func(Notes) // unless nil, called once before content is hashed
}

// Notes are what the user of a new torrent may not expect.
type Notes struct {
	// OddNames are paths below the root that are not UTF-8, or have control characters: other clients may give these files
	// other names.
	OddNames []string

	// What was left out.
	FolderLinks int // symbolic links to folders
	DeadLinks   int // and to nothing, or in a circle
	Specials    int // what is neither file nor folder, such as a socket
}

// bencodeNewTorrent is a .torrent file as Create writes it.
type bencodeNewTorrent struct {
	Announce     string         `bencode:"announce,omitempty"`
	AnnounceList [][]string     `bencode:"announce-list,omitempty"`
	Comment      string         `bencode:"comment,omitempty"`
	CreatedBy    string         `bencode:"created by"`
	CreationDate int64          `bencode:"creation date,omitempty"`
	Encoding     string         `bencode:"encoding"`
	Info         map[string]any `bencode:"info"`
	URLList      []string       `bencode:"url-list,omitempty"`
}

type bencodeNewFile struct {
	Length int64    `bencode:"length"`
	Path   []string `bencode:"path"`
}

// source is one file that goes into a new torrent.
type source struct {
	rel    string // slash-separated path below the root, empty for a single file
	path   string // on disk
	offset int64  // in the torrent, bytes
	length int64
	// modified is when the file was changed last, in nanoseconds, as length was looked up.
	modified int64
}

// Create makes a .torrent file of the file or folder at path and returns its bytes. Pieces are hashed on all
// cores; progress, when not nil, is called with the number of bytes read, never by two goroutines at once.
//
// A folder's files are ordered by path without regard to case, and the info dictionary is written the way
// transmission-create 3.00 does, so the same content, name, piece length and private flag give the same
// info-hash; unless there are empty or hidden files, which it leaves out. Letters outside of ASCII come before
// all others, as where it was built for x86.
// Symbolic links to files are followed. Links to folders, which transmission-create follows, links to nothing and special
// files are left out, of which opt.Noted is told.
func Create(ctx context.Context, path string, opt CreateOptions, progress func(done, total int64)) ([]byte, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	sources, total, notes, err := findSources(path)
	if err != nil {
		return nil, err
	}
	if total == 0 {
		return nil, fmt.Errorf("%s has no content to make a torrent of", path)
	}
	if opt.Name == "" {
		opt.Name = filepath.Base(path)
	}
	if safeName(opt.Name) != opt.Name {
		return nil, fmt.Errorf("%q can't be the name of a torrent: choose a plain file name", opt.Name)
	}
	if opt.PieceLength == 0 {
		opt.PieceLength = choosePieceLength(total)
	}
	if opt.PieceLength < 1 || opt.PieceLength > MaxPieceLength {
		return nil, fmt.Errorf("piece length is %d, not between 1 and %d bytes", opt.PieceLength, MaxPieceLength)
	}
	if opt.Noted != nil {
		opt.Noted(notes)
	}
	pieces, err := hashPieces(ctx, sources, total, opt.PieceLength, progress)
	if err != nil {
		return nil, err
	}
	if err := checkUnchanged(sources); err != nil {
		return nil, err
	}
	return encode(opt, sources, pieces)
}

// checkUnchanged reports a file that is not what it was before it was hashed: its hashes may be of anything.
func checkUnchanged(sources []source) error {
	for _, s := range sources {
		info, err := os.Stat(s.path)
		if err != nil {
			return err
		}
		if info.Size() != s.length || info.ModTime().UnixNano() != s.modified {
			return fmt.Errorf("%s was changed while it was hashed", s.path)
		}
	}
	return nil
}

// findSources lists the regular files at path in the order of the torrent.
func findSources(path string) (sources []source, total int64, notes Notes, err error) {
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(p)
		switch {
		case d.Type()&fs.ModeSymlink != 0 && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)):
			notes.DeadLinks++
			return nil
		case err != nil:
			return err
		case info.IsDir():
			notes.FolderLinks++
			return nil
		case !info.Mode().IsRegular():
			notes.Specials++
			return nil
		}
		rel, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = ""
		}
		sources = append(sources, source{rel: filepath.ToSlash(rel), path: p, length: info.Size(), modified: info.ModTime().UnixNano()})
		return nil
	})
	if err != nil {
		return nil, 0, Notes{}, err
	}
	slices.SortFunc(sources, func(a, b source) int {
		return cmp.Or(strings.Compare(sortKey(a.rel), sortKey(b.rel)), strings.Compare(a.rel, b.rel))
	})
	for i, s := range sources {
		sources[i].offset = total
		total += s.length
		if !utf8.ValidString(s.rel) || strings.ContainsFunc(s.rel, unicode.IsControl) {
			notes.OddNames = append(notes.OddNames, s.rel)
		}
	}
	return sources, total, notes, nil
}

// sortKey gives the order of other clients: capitals count as small letters, but only those of ASCII, and bytes are
// compared as signed numbers up to the zero that ends a string in C, so that bytes beyond ASCII come before that, too.
func sortKey(s string) string {
	b := make([]byte, len(s), len(s)+1)
	for i, c := range []byte(s) {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b[i] = c ^ 0x80
	}
	return string(append(b, 0x80))
}

// choosePieceLength weighs quick first bytes, which small pieces give, against a small .torrent: at most 2,048
// pieces up to 4 MiB each, then at most 32,768, and no piece over 16 MiB.
func choosePieceLength(total int64) int64 {
	const smallest, medium, largest = 16 << 10, 4 << 20, 16 << 20
	n := int64(smallest)
	for n < medium && total > n*2048 || n >= medium && n < largest && total > n*32768 {
		n *= 2
	}
	return n
}

// hashPieces hashes pieces on all cores, each worker reading the piece it hashes.
func hashPieces(ctx context.Context, sources []source, total, pieceLength int64, progress func(done, total int64)) ([]byte, error) {
	numPieces := (total-1)/pieceLength + 1
	if numPieces > MaxSize/sha1.Size {
		return nil, fmt.Errorf("%d bytes in pieces of %d make %d pieces: choose larger pieces", total, pieceLength, numPieces)
	}
	hashes := make([]byte, numPieces*sha1.Size)
	var mu sync.Mutex
	var next, done int64
	read := func(n int) {
		if progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		done += int64(n)
		progress(done, total)
	}
	g, ctx := errgroup.WithContext(ctx)
	for range min(int64(runtime.GOMAXPROCS(0)), numPieces) {
		g.Go(func() error {
			r := sourceReader{ctx: ctx, sources: sources, read: read}
			defer r.close()
			h, buf := sha1.New(), make([]byte, 256<<10)
			for {
				mu.Lock()
				piece := next
				next++
				mu.Unlock()
				if piece >= numPieces {
					return nil
				}
				begin := piece * pieceLength
				n := min(pieceLength, total-begin)
				h.Reset()
				r.off = begin
				if _, err := io.CopyBuffer(h, io.LimitReader(&r, n), buf); err != nil {
					return err
				}
				h.Sum(hashes[piece*sha1.Size : piece*sha1.Size : (piece+1)*sha1.Size])
			}
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return hashes, nil
}

// sourceReader reads the files of a new torrent as the one stream of bytes they make, from off on.
type sourceReader struct {
	ctx     context.Context
	sources []source
	read    func(n int) // called with how many bytes were read
	off     int64
	open    *os.File
	index   int // of the open file
}

func (r *sourceReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	// The last file that begins at or before off; empty ones before it share its offset.
	i, _ := slices.BinarySearchFunc(r.sources, r.off+1, func(s source, off int64) int { return cmp.Compare(s.offset, off) })
	i--
	s := r.sources[i]
	if r.open == nil || r.index != i {
		r.close()
		f, err := os.Open(s.path)
		if err != nil {
			return 0, err
		}
		r.open, r.index = f, i
	}
	left := s.offset + s.length - r.off
	n, err := r.open.ReadAt(p[:min(int64(len(p)), left)], r.off-s.offset)
	if err == io.EOF && int64(n) < min(int64(len(p)), left) {
		return 0, fmt.Errorf("%s became shorter while it was hashed", s.path)
	}
	if err == io.EOF {
		err = nil
	}
	r.off += int64(n)
	if err == nil {
		r.read(n)
	}
	return n, err
}

func (r *sourceReader) close() {
	if r.open != nil {
		r.open.Close()
		r.open = nil
	}
}

func encode(opt CreateOptions, sources []source, pieces []byte) ([]byte, error) {
	private := 0 // written even so, as transmission-create 3.00 does
	if opt.Private {
		private = 1
	}
	info := map[string]any{"name": opt.Name, "piece length": opt.PieceLength, "pieces": pieces, "private": private}
	if len(sources) == 1 && sources[0].rel == "" {
		info["length"] = sources[0].length
	} else {
		files := make([]bencodeNewFile, len(sources))
		for i, s := range sources {
			files[i] = bencodeNewFile{s.length, strings.Split(s.rel, "/")}
		}
		info["files"] = files
	}
	bt := bencodeNewTorrent{
		Comment:   opt.Comment,
		CreatedBy: "torrentfs",
		Encoding:  "UTF-8",
		Info:      info,
		URLList:   opt.WebSeeds,
	}
	if !opt.Created.IsZero() {
		bt.CreationDate = opt.Created.Unix()
	}
	if tiers := tiers(opt.Trackers); tiers != nil {
		bt.Announce = tiers[0][0]
		if len(tiers) > 1 || len(tiers[0]) > 1 {
			bt.AnnounceList = tiers
		}
	}
	var b bytes.Buffer
	err := bencode.Marshal(&b, bt)
	return b.Bytes(), err
}

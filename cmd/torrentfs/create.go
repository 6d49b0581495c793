package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"torrentfs/fetch/metainfo"
)

// createFlags are the flags of create.
type createFlags struct {
	output      string // "": after the torrent's name, in the working directory; "-": standard output
	name        string // "": the last component of PATH
	pieceLength sizeValue
	trackers    urlValue
	webSeeds    urlValue
	private     bool
	comment     string
	force       bool
	asJSON      bool
}

func (f *createFlags) register(flags *pflag.FlagSet) {
	f.trackers.schemes = []string{"http", "https", "udp"}
	f.webSeeds.schemes = []string{"http", "https"}
	flags.StringVarP(&f.output, "output", "o", "", "write the torrent to `FILE`, - for standard output (default NAME.torrent, here)")
	flags.StringVar(&f.name, "name", "", "call the file or folder `NAME` (default as PATH)")
	flags.Var(&f.pieceLength, "piece-size", "make pieces of `SIZE`, a power of two; 0 is one that fits the content")
	flags.Var(&f.trackers, "tracker", "announce to the tracker at `URL`; may be repeated, tried in this order")
	flags.Var(&f.webSeeds, "web-seed", "the content is at this `URL` too; may be repeated")
	flags.BoolVar(&f.private, "private", false, "have its trackers alone asked for peers")
	flags.StringVar(&f.comment, "comment", "", "put this `TEXT` into the torrent")
	flags.BoolVar(&f.force, "force", false, "replace FILE if it is there")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
}

const (
	// minPieceLength is the size in bytes of the smallest pieces that clients like: one block.
	minPieceLength = 16 << 10
	// maxPieceLength is that of the largest that libtorrent takes. A torrent of larger ones is opened, but not made.
	maxPieceLength = 256 << 20
)

// check refuses what makes no sense.
func (f *createFlags) check(cmd *cobra.Command) error {
	n := int64(f.pieceLength)
	switch {
	case n&(n-1) != 0:
		return usagef(cmd, "--piece-size: %s bytes are not a power of two, as 16KiB or 1MiB is", humanize.Comma(n))
	case n != 0 && n < minPieceLength:
		return usagef(cmd, "--piece-size: %s is less than %s, the least that other clients like", formatSize(n), formatSize(minPieceLength))
	case n > maxPieceLength:
		return usagef(cmd, "--piece-size: %s is more than %s, the most that other clients can use", formatSize(n), formatSize(maxPieceLength))
	case f.private && len(f.trackers.urls) == 0:
		return usagef(cmd, "--private needs a --tracker: nobody else may be asked for peers")
	}
	return nil
}

func newCreate() *cobra.Command {
	var flags createFlags
	cmd := &cobra.Command{
		Use:   "create [flags] PATH",
		Short: "Make a torrent of a file or folder",
		Long: `Create makes a .torrent file of the file or folder at PATH, hashing it on all processors. Links to
files are followed; links to folders and special files are left out, and it says how many.
'torrentfs seed FILE PATH' then shares it.`,
		Example: `  torrentfs create ~/data -o data.torrent
  torrentfs create --tracker http://tracker.example/announce --private ~/data
  torrentfs create --json ~/data | jq -r .info_hash`,
		Args:       exactArgs("PATH"),
		SuggestFor: []string{"make", "new"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			ends := catchSignals(cmd.Context())
			defer ends.stop()
			screen := newScreen(cmd.ErrOrStderr())
			made, err := runCreate(ends.soft, args[0], flags, newBar(screen), cmd.OutOrStdout())
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			if made.file == stdout {
				out.Reset(cmd.ErrOrStderr())
			}
			print := printCreated
			if flags.asJSON {
				print = printCreatedJSON
			}
			if err := print(out, made); err != nil {
				return err
			}
			return out.Flush()
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

// stdout is the name of a file that means standard output.
const stdout = "-"

// created is a new torrent and the file that it was written to.
type created struct {
	*metainfo.Torrent
	file string
}

// runCreate makes a torrent of what is at path.
func runCreate(ctx context.Context, path string, flags createFlags, bar *bar, out io.Writer) (created, error) {
	made := created{file: flags.output}
	path, err := resolve(path)
	if err != nil {
		return made, err
	}
	name := cmp.Or(flags.name, filepath.Base(path)) // of what a link leads to
	if made.file == "" {
		made.file = filepath.Base(name) + ".torrent"
	}
	write := func(b []byte) error { _, err := out.Write(b); return err }
	if made.file != stdout {
		o, err := openOutput(made.file, path, flags.force) // before the work, not after it
		if err != nil {
			return made, err
		}
		defer o.discard()
		write = o.commit
	}
	opt := metainfo.CreateOptions{
		Name:        name,
		PieceLength: int64(flags.pieceLength),
		WebSeeds:    flags.webSeeds.urls,
		Private:     flags.private,
		Comment:     flags.comment,
		Created:     time.Now(),
	}
	for _, tracker := range flags.trackers.urls {
		opt.Trackers = append(opt.Trackers, []string{tracker})
	}
	opt.Noted = func(n metainfo.Notes) { printNotes(bar.screen, n) }
	b, err := metainfo.Create(ctx, path, opt, bar.show)
	bar.end()
	if err != nil {
		return made, err
	}
	if made.Torrent, err = metainfo.Parse(b); err != nil {
		return made, fmt.Errorf("%s makes no torrent that can be read: %w", shellQuote(path), err)
	}
	return made, write(b)
}

// resolve returns an absolute path without symbolic links.
func resolve(path string) (string, error) {
	path, err := absolute(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// printNotes warns of what the torrent may not be.
func printNotes(w io.Writer, n metainfo.Notes) {
	var left []string
	for _, c := range []struct {
		n           int
		what, where string
	}{{n.FolderLinks, "link", " to folders"}, {n.DeadLinks, "link", " to nothing"}, {n.Specials, "special file", ""}} {
		if c.n > 0 {
			left = append(left, plural(c.n, c.what)+c.where)
		}
	}
	if left != nil {
		_, _ = fmt.Fprintf(w, "left out: %s\n", strings.Join(left, ", "))
	}
	const most = 5 // that are named
	if odd := len(n.OddNames); odd > 0 {
		var b strings.Builder
		fmt.Fprintf(&b, "warning: %s not UTF-8 or with control characters, which other clients may change:\n", plural(odd, "name"))
		for _, name := range n.OddNames[:min(odd, most)] {
			fmt.Fprintf(&b, "  %s\n", printable(name))
		}
		if odd > most {
			fmt.Fprintf(&b, "  and %d more\n", odd-most)
		}
		_, _ = io.WriteString(w, b.String())
	}
}

// errExists says that a file is in the way.
func errExists(file string) error {
	return fmt.Errorf("%s is there already; --force replaces it", shellQuote(file))
}

// output is a file that is written at once: who looks sees the whole of it or nothing.
type output struct {
	file  string // where a link leads to
	given string // as the user has named it
	force bool
	part  *os.File
}

// openOutput opens a file for writing. It refuses one that can't be written, or that would become part of what the torrent
// of path, which has no links in it, describes.
func openOutput(file, path string, force bool) (*output, error) {
	o := &output{given: file, force: force}
	switch info, err := os.Stat(file); {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory; name a file in it", shellQuote(file))
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no ordinary file", shellQuote(file))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err == nil && force: // not the link
		if o.file, err = resolve(file); err != nil {
			return nil, err
		}
	default:
		if _, err := os.Lstat(file); err == nil && !force {
			return nil, errExists(file)
		}
		dir, err := resolve(filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		o.file = filepath.Join(dir, filepath.Base(file))
	}
	below, err := filepath.Rel(path, o.file)
	if err == nil && below != ".." && !strings.HasPrefix(below, "../") {
		return nil, fmt.Errorf("%s would lie in what it describes; name another place: -o FILE", shellQuote(file))
	}
	part := filepath.Join(filepath.Dir(o.file), fmt.Sprintf(".torrentfs-%08x%s", rand.Uint32(), partExt)) // however long the name is
	o.part, err = os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	return o, err
}

// commit writes the file.
func (o *output) commit(b []byte) error {
	_, err := o.part.Write(b)
	if err = errors.Join(err, o.part.Close()); err != nil {
		return err
	}
	if !o.force { // a link replaces nothing
		if err := os.Link(o.part.Name(), o.file); err == nil {
			return nil
		} else if errors.Is(err, fs.ErrExist) {
			return errExists(o.given)
		} // else a file system without links
	}
	return os.Rename(o.part.Name(), o.file)
}

// discard takes away what was not committed.
func (o *output) discard() {
	_ = o.part.Close()
	_ = os.Remove(o.part.Name())
}

// createdJSON is the output of `create --json`. Sizes are in bytes.
type createdJSON struct {
	File        string `json:"file"` // as the user has named it; "-" for standard output
	Name        string `json:"name"`
	InfoHash    string `json:"info_hash"`
	PieceLength int64  `json:"piece_length"`
	Pieces      int    `json:"pieces"`
	TotalSize   int64  `json:"total_size"`
	Magnet      string `json:"magnet"`
}

func printCreatedJSON(w io.Writer, made created) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(createdJSON{
		File: made.file, Name: made.Name, InfoHash: made.InfoHash.String(),
		PieceLength: made.PieceLength, Pieces: made.NumPieces(), TotalSize: made.Length,
		Magnet: made.magnet(),
	})
}

func printCreated(w io.Writer, made created) error {
	file := shellQuote(made.file)
	if made.file == stdout {
		file = "to standard output"
	}
	_, err := fmt.Fprintf(w, "wrote %s: %s, %s in %s of %s\n%s\n", file, printable(made.Name),
		humanize.IBytes(uint64(made.Length)), plural(made.NumPieces(), "piece"), formatSize(made.PieceLength), made.magnet())
	return err
}

// magnet is the magnet link of a new torrent.
func (c created) magnet() string {
	m := metainfo.Magnet{InfoHash: c.InfoHash, Name: c.Name, Trackers: slices.Concat(c.Trackers...), WebSeeds: c.WebSeeds}
	return m.String()
}

// urlValue is a list of URLs, one more with every use of the flag.
type urlValue struct {
	urls    []string
	schemes []string // those that make sense
}

var _ pflag.Value = (*urlValue)(nil)

func (v *urlValue) Set(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains(v.schemes, strings.ToLower(u.Scheme)) {
		return fmt.Errorf("%q is not a URL that begins with %s://", s, strings.Join(v.schemes, ":// or "))
	}
	if !slices.Contains(v.urls, s) {
		v.urls = append(v.urls, s)
	}
	return nil
}

func (v *urlValue) String() string { return strings.Join(v.urls, ",") }
func (*urlValue) Type() string     { return "URL" }

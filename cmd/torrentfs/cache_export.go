package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"torrentfs/cache"
	"torrentfs/fetch/metainfo"
)

func newCacheExport(store *storeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "export [flags] SOURCE DEST",
		Short: "Make ordinary files of what is complete in the cache",
		Long: `Export puts the files of a torrent into the directory DEST, as a download client would: those that are
complete in the cache. Each is verified first. Where the file system can, they share the cache's blocks
and take no room of their own. Files that are there already are left alone.

` + cacheSourceHelp + `

The exit code is 0 when all files of the torrent were exported.`,
		Example:           `  torrentfs cache export film.torrent ~/Downloads`,
		Args:              exactArgs("SOURCE", "DEST"),
		ValidArgsFunction: completeTorrents,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := store.open()
			if err != nil {
				return err
			}
			s, err := parseCached(cmd.Context(), args[0], dir)
			if err != nil {
				return err
			}
			if s.torrent == nil {
				return explain(s.label(), fs.ErrNotExist)
			}
			t, _ := s.shown()
			ends := catchSignals(cmd.Context())
			defer ends.stop()
			screen := newScreen(cmd.ErrOrStderr())
			return runExport(ends.soft, dir.pieces(), t, args[1], newBar(screen), screen.above(cmd.OutOrStdout()))
		},
	}
}

// namedAtMost is how many files that were not exported are named.
const namedAtMost = 20

// runExport makes the files of a torrent below dest, says how many, and returns what went wrong.
func runExport(ctx context.Context, dir cache.Dir, t *metainfo.Torrent, dest string, bar *bar, out io.Writer) error {
	var parts []cache.Part
	var programs []string // that are to be executable
	for _, f := range t.Files {
		if f.Padding {
			continue
		}
		path := filepath.Join(dest, filepath.FromSlash(f.Path))
		parts = append(parts, cache.Part{Path: path, Offset: f.Offset, Length: f.Length})
		if _, err := os.Lstat(path); err != nil && f.Executable {
			programs = append(programs, path)
		}
	}
	failed := leaves(dir.Export(ctx, specOf(t), parts, bar.show))
	bar.end()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(failed) == 1 && errors.Is(failed[0], fs.ErrNotExist) {
		return explain(printable(t.Name), failed[0])
	}
	for _, path := range programs {
		if info, err := os.Stat(path); err == nil {
			failed = append(failed, leaves(os.Chmod(path, info.Mode()|info.Mode()&0o444>>2))...)
		}
	}
	if exported := len(parts) - len(failed); exported > 0 {
		if _, err := fmt.Fprintf(out, "exported %s to %s\n", plural(exported, "file"), shellQuote(dest)); err != nil {
			return err
		}
	}
	return summarize(failed, dest)
}

// summarize joins errors, the same one once, and of many names only some.
func summarize(failed []error, dest string) error {
	var errs []error
	said := make(map[string]bool)
	missing, others := 0, 0 // not named
	for _, err := range failed {
		lacks, incomplete := errors.AsType[*cache.MissingError](err)
		switch {
		case len(errs) < namedAtMost && incomplete:
			name, relErr := filepath.Rel(dest, lacks.Path)
			if relErr != nil {
				name = lacks.Path
			}
			err = fmt.Errorf("%s: %s of it are not in the cache", printable(name), humanize.IBytes(uint64(lacks.Bytes)))
			errs = append(errs, err)
		case incomplete:
			missing++
		case said[err.Error()]:
		case len(errs) < namedAtMost:
			said[err.Error()] = true
			errs = append(errs, err)
		default:
			others++
		}
	}
	if missing > 0 {
		errs = append(errs, fmt.Errorf("%s more are not complete in the cache", plural(missing, "file")))
	}
	if others > 0 {
		errs = append(errs, fmt.Errorf("%s more could not be exported", plural(others, "file")))
	}
	return errors.Join(errs...)
}

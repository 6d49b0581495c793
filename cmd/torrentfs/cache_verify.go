package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"torrentfs/cache"
	"torrentfs/fetch/metainfo"
)

func newCacheVerify(store *storeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [flags] [SOURCE...]",
		Short: "Hash everything in the cache and drop what is damaged",
		Long: `Verify hashes all pieces in the cache, or those of some torrents, and drops the damaged ones, so that
they are downloaded again when they are needed. Mounts do so by themselves with what they use.

` + cacheSourceHelp + `

The exit code is 0 when all is well, and 1 when something was damaged or could not be checked.`,
		Example: `  torrentfs cache verify
  torrentfs cache verify film.torrent`,
		Args:              notEmpty,
		ValidArgsFunction: completeTorrents,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := store.open()
			if err != nil {
				return err
			}
			entries, err := dir.pieces().List()
			if err != nil {
				return err
			}
			jobs, errs := checkAll(entries, dir.torrents())
			if len(args) > 0 {
				if jobs, err = checkSome(cmd.Context(), args, entries, dir); err != nil {
					return err
				}
				errs = nil
			}
			if len(entries) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), emptyCache)
				return err
			}
			ends := catchSignals(cmd.Context())
			defer ends.stop()
			screen := newScreen(cmd.ErrOrStderr())
			err = runChecks(ends.soft, dir.pieces(), jobs, newBar(screen), screen.above(cmd.OutOrStdout()))
			return errors.Join(err, errs)
		},
	}
}

// check is a torrent whose pieces are to be hashed.
type check struct {
	torrent *metainfo.Torrent
	size    int64 // bytes to hash, about
}

// checkAll returns what is to be done for all entries, and an error for those that can't be checked.
func checkAll(entries []cache.Entry, known library) (checks []check, errs error) {
	for _, e := range entries {
		t, err := known.get(e.InfoHash)
		switch {
		case err == nil:
			checks = append(checks, check{t, e.Present})
		case e.Err != nil:
			errs = errors.Join(errs, fmt.Errorf("%s: %w; 'torrentfs cache rm' removes it", metainfo.Hash(e.InfoHash), e.Err))
		default:
			errs = errors.Join(errs, errUnknown(nameOf(e.Name, e.InfoHash)))
		}
	}
	return checks, errs
}

// checkSome returns what is to be done for the torrents that args name.
func checkSome(ctx context.Context, args []string, entries []cache.Entry, dir storeDir) (checks []check, err error) {
	for _, arg := range args {
		s, err := parseCached(ctx, arg, dir)
		if err != nil {
			return nil, err
		}
		hash, _ := s.hash()
		i := slices.IndexFunc(entries, func(e cache.Entry) bool { return e.InfoHash == hash })
		switch {
		case i < 0:
			return nil, explain(s.label(), fs.ErrNotExist)
		case s.torrent == nil:
			return nil, errUnknown(s.label())
		}
		checks = append(checks, check{s.torrent, entries[i].Present})
	}
	return checks, nil
}

// runChecks hashes and says what it found. What was damaged is an error.
func runChecks(ctx context.Context, dir cache.Dir, checks []check, bar *bar, out io.Writer) error {
	defer bar.end()
	var before, total int64
	for _, c := range checks {
		total += c.size
	}
	var errs error
	for _, c := range checks {
		name := printable(c.torrent.Name)
		r, err := dir.Verify(ctx, specOf(c.torrent), func(done, _ int64) { bar.show(before+done, total) })
		before += c.size
		if ctx.Err() != nil {
			return errors.Join(errs, ctx.Err())
		}
		if err != nil {
			errs = errors.Join(errs, explain(name, err))
			continue
		}
		if r.Wrong > 0 {
			errs = errors.Join(errs, fmt.Errorf("%s: %s of %d damaged, %s, and dropped: they will be downloaded again",
				name, plural(r.Wrong, "piece"), r.Pieces, humanize.IBytes(uint64(r.Bytes))))
			continue
		}
		if _, err := fmt.Fprintf(out, "%s: %s, all right\n", name, plural(r.Pieces, "piece")); err != nil {
			return err
		}
	}
	return errs
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"torrentfs/cache"
	"torrentfs/fetch/metainfo"
)

func newCacheRemove(store *storeFlags) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "rm [flags] SOURCE...|--all",
		Short: "Remove torrents from the cache",
		Long: `Rm removes the pieces of torrents from the cache, kept ones too, and what is remembered of the torrents.
What a mount is using stays.

` + cacheSourceHelp,
		Example: `  torrentfs cache rm film.torrent
  torrentfs cache rm 0123456789abcdef0123456789abcdef01234567
  torrentfs cache rm --all`,
		Aliases: []string{"remove"},
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && !all:
				return usagef(cmd, "SOURCE is missing; --all removes everything")
			case len(args) > 0 && all:
				return usagef(cmd, "either --all or %s, not both", shellQuote(args[0]))
			}
			return notEmpty(cmd, args)
		},
		ValidArgsFunction: completeTorrents,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := store.open()
			if err != nil {
				return err
			}
			r := remover{dir, cmd.OutOrStdout()}
			if all {
				return r.removeAll()
			}
			var errs []error
			for _, arg := range args {
				s, err := parseCached(cmd.Context(), arg, dir)
				if err == nil {
					hash, _ := s.hash()
					err = r.remove(hash, s.label())
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove everything that no mount is using")
	return cmd
}

// ending is how long a mount that was just unmounted may need to let go of its torrents.
const ending = 2 * time.Second

// remover removes torrents from a directory and says so.
type remover struct {
	dir storeDir
	out io.Writer
}

func (r remover) removeAll() error {
	entries, err := r.dir.pieces().List()
	errs := []error{err}
	inUse := make(map[metainfo.Hash]bool)
	for _, e := range entries {
		err := r.remove(e.InfoHash, nameOf(e.Name, e.InfoHash))
		inUse[e.InfoHash] = err != nil
		errs = append(errs, err)
	}
	books := r.dir.torrents().list()
	for _, b := range books {
		if !inUse[b.hash] {
			_, err := r.dir.torrents().forget(b.hash)
			errs = append(errs, err)
		}
	}
	if len(entries) == 0 && len(books) == 0 && errors.Join(errs...) == nil {
		_, err = fmt.Fprintln(r.out, emptyCache)
		return err
	}
	return errors.Join(errs...)
}

// remove removes a torrent, which is called name, from the cache and the library.
func (r remover) remove(hash metainfo.Hash, name string) error {
	size := r.sizeOf(hash)
	err := r.dir.pieces().Remove(hash)
	for wait := time.Duration(0); errors.Is(err, cache.ErrInUse) && wait < ending; wait += ending / 20 {
		time.Sleep(ending / 20)
		err = r.dir.pieces().Remove(hash)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(name, err)
	}
	remembered, forgetErr := r.dir.torrents().forget(hash)
	switch {
	case forgetErr != nil:
		return forgetErr
	case err != nil && !remembered:
		return explain(name, err)
	}
	_, err = fmt.Fprintf(r.out, "removed %s, %s\n", name, humanize.IBytes(uint64(size)))
	return err
}

// sizeOf returns the bytes that a torrent takes in the cache.
func (r remover) sizeOf(hash metainfo.Hash) int64 {
	entries, _ := r.dir.pieces().List()
	for _, e := range entries {
		if e.InfoHash == hash {
			return e.Disk
		}
	}
	return 0
}

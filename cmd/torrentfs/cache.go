package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"torrentfs/cache"
	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
)

func newCache() *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "See and manage what is kept on disk",
		Long: `The cache keeps what mounts have downloaded for later mounts, offline ones too. All mounts share one
directory, up to --cache-size of mount; what was not used for longest goes first. Pieces are hashed
again before they are used, so nothing that happens to the files makes a mount show wrong bytes.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "VERB is missing")
			}
			return usagef(cmd, "there is no verb %q%s", args[0], didYouMean("", cmd.SuggestionsFor(args[0])))
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args lets nobody through

		SuggestionsMinimumDistance: 2,
	}
	store.register(cmd.PersistentFlags())
	cmd.AddCommand(newCacheList(&store), newCacheRemove(&store), newCacheVerify(&store), newCacheExport(&store))
	return cmd
}

// cacheSourceHelp says what a SOURCE is to the verbs of cache.
const cacheSourceHelp = `SOURCE is a .torrent file, a magnet link, an info-hash, or the URL of a .torrent file. Of an info-hash
the first 8 digits or more will do, if no other in the cache begins so.`

// emptyCache is what a verb says that finds nothing to do.
const emptyCache = "the cache is empty"

// shortHash matches the beginning of an info-hash.
var shortHash = regexp.MustCompile(`^[0-9A-Fa-f]{8,39}$`)

// parseCached reads an argument that names a torrent in the cache. Of a magnet link or an info-hash that is not
// remembered only the info-hash is known afterwards.
func parseCached(ctx context.Context, arg string, dir storeDir) (source, error) {
	known := dir.torrents()
	if _, err := os.Lstat(arg); err != nil && shortHash.MatchString(arg) && kindOf(arg) != infoHash {
		if arg, err = dir.complete(strings.ToLower(arg)); err != nil {
			return source{}, err
		}
	}
	s, err := parseSource(arg, known)
	if err != nil || s.kind != torrentURL {
		return s, err
	}
	if s.torrent, err = known.byURL(arg); err == nil {
		return s, nil
	}
	client, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true, NoTrackers: true, Version: release()})
	if err != nil {
		return s, err
	}
	defer client.Close()
	if s.torrent, err = client.Download(ctx, arg); err != nil {
		return s, fmt.Errorf("%s: %w; the info-hash names it too, see 'torrentfs cache ls'", printable(arg), err)
	}
	return s, nil
}

// complete returns the one info-hash in the cache that begins with some digits.
func (d storeDir) complete(digits string) (string, error) {
	entries, err := d.pieces().List()
	if err != nil {
		return "", err
	}
	found := make(map[string]bool)
	note := func(hash metainfo.Hash) {
		if h := hash.String(); strings.HasPrefix(h, digits) {
			found[h] = true
		}
	}
	for _, e := range entries {
		note(e.InfoHash)
	}
	for _, b := range d.torrents().list() {
		note(b.hash)
	}
	all := slices.Sorted(maps.Keys(found))
	switch len(all) {
	case 0:
		return "", fmt.Errorf("%s: no such file, and no info-hash in the cache begins so, see 'torrentfs cache ls'", digits)
	case 1:
		return all[0], nil
	}
	return "", fmt.Errorf("%s: more than one info-hash in the cache begins so: %s", digits, strings.Join(all, ", "))
}

// errUnknown says that a torrent's pieces are of no use, because what they are is not known.
func errUnknown(name string) error {
	return fmt.Errorf("%s: what its pieces are is not remembered; name its .torrent file instead", name)
}

// nameOf names a torrent in the cache to a person.
func nameOf(name string, hash metainfo.Hash) string {
	if name == "" {
		return hash.String()
	}
	return printable(name)
}

// explain words the errors of the cache for a person.
func explain(name string, err error) error {
	switch {
	case errors.Is(err, cache.ErrInUse):
		return fmt.Errorf("%s: a mount is using it; unmount that first", name)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: nothing of it is in the cache", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

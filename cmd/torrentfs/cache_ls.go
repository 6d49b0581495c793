package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"torrentfs/cache"
	"torrentfs/fetch/metainfo"
)

func newCacheList(store *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List the torrents in the cache",
		Long: `Ls lists the torrents of which there are pieces in the cache: what they take on disk, how much of each
torrent is there, and when it was used last. Kept ones are never evicted, see --keep of mount.`,
		Example: `  torrentfs cache ls
  torrentfs cache ls --json | jq -r '.[] | select(.complete == 1) | .name'`,
		Aliases: []string{"list"},
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := store.open()
			if err != nil {
				return err
			}
			entries, err := dir.pieces().List()
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			print := printCached
			if asJSON {
				print = printCachedJSON
			}
			if err := print(out, entries); err != nil {
				return err
			}
			return out.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// cachedJSON is one element of the output of `cache ls --json`. Sizes are in bytes.
type cachedJSON struct {
	Name     string     `json:"name"` // empty where the index is damaged
	InfoHash string     `json:"info_hash"`
	Size     int64      `json:"size"`     // of the whole torrent
	Present  int64      `json:"present"`  // of the pieces that are there
	Disk     int64      `json:"disk"`     // that all of it takes on disk
	Complete float64    `json:"complete"` // present / size, 1 only where nothing is missing
	LastUse  *time.Time `json:"last_use"` // null where there are no pieces
	Kept     bool       `json:"kept"`
	InUse    bool       `json:"in_use"`
	Error    string     `json:"error,omitempty"` // why nothing can be said of its pieces
}

func describeCached(e cache.Entry) cachedJSON {
	c := cachedJSON{
		Name: e.Name, InfoHash: metainfo.Hash(e.InfoHash).String(), Size: e.Length, Present: e.Present, Disk: e.Disk,
		Complete: complete(e), Kept: e.Kept, InUse: e.InUse,
	}
	if !e.LastUse.IsZero() {
		at := e.LastUse.UTC()
		c.LastUse = &at
	}
	if e.Err != nil {
		c.Error = e.Err.Error()
	}
	return c
}

// complete returns the share of a torrent that is present, from 0 to 1.
func complete(e cache.Entry) float64 {
	if e.Length == 0 {
		return 1
	}
	return float64(e.Present) / float64(e.Length)
}

func printCachedJSON(w io.Writer, entries []cache.Entry) error {
	all := []cachedJSON{}
	for _, e := range entries {
		all = append(all, describeCached(e))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}

func printCached(w io.Writer, entries []cache.Entry) error {
	const row = "%10s  %8s  %-16s  %-40s  %s\n"
	if len(entries) > 0 {
		fmt.Fprintf(w, row, "on disk", "complete", "last use", "info-hash", "name")
	}
	var total int64
	for _, e := range entries {
		total += e.Disk
		lastUse, share, name := "never", percent(complete(e)), printable(e.Name)
		if !e.LastUse.IsZero() {
			lastUse = e.LastUse.Local().Format("2006-01-02 15:04")
		}
		switch {
		case e.Err != nil:
			lastUse, share, name = "?", "?", "(damaged: "+printable(e.Err.Error())+")"
		case e.Kept && e.InUse:
			name += "  (kept, in use)"
		case e.Kept:
			name += "  (kept)"
		case e.InUse:
			name += "  (in use)"
		}
		fmt.Fprintf(w, row, humanize.IBytes(uint64(e.Disk)), share, lastUse, metainfo.Hash(e.InfoHash), name)
	}
	_, err := fmt.Fprintf(w, "%10s  in %s\n", humanize.IBytes(uint64(total)), plural(len(entries), "torrent"))
	return err
}

// percent writes a share of 1; only the whole is 100%.
func percent(share float64) string {
	if share >= 1 {
		return "100%"
	}
	return fmt.Sprintf("%.1f%%", math.Floor(share*1000)/10)
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"torrentfs/fetch/metainfo"
)

func newInfo() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "info [flags] SOURCE",
		Short:      "Print what is in a torrent",
		Long:       "Info prints what a torrent says of itself, and its files as they would be mounted.\n\n" + sourceHelp,
		SuggestFor: []string{"show", "list", "ls"},
		Example: `  torrentfs info file.torrent
  torrentfs info --json file.torrent | jq -r .info_hash`,
		Args:              exactArgs("SOURCE"),
		ValidArgsFunction: completeTorrents,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openSource(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			print := printInfo
			if asJSON {
				print = printInfoJSON
			}
			if err := print(out, t); err != nil {
				return err
			}
			return out.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// infoJSON is the output of `info --json`. Sizes are in bytes. Padding files (BEP 47) are left out everywhere.
type infoJSON struct {
	Name        string     `json:"name"`
	InfoHash    string     `json:"info_hash"`    // of BEP 3, in hex
	InfoHashV2  *string    `json:"info_hash_v2"` // of BEP 52; null where there is none
	PieceLength int64      `json:"piece_length"`
	Pieces      int        `json:"pieces"`
	TotalSize   int64      `json:"total_size"` // of the files
	Private     bool       `json:"private"`
	Trackers    []string   `json:"trackers"` // in the order of their tiers, each once
	WebSeeds    []string   `json:"web_seeds"`
	Files       []fileJSON `json:"files"`
}

type fileJSON struct {
	Path   string `json:"path"` // as mounted, below the mountpoint
	Length int64  `json:"length"`
}

func describe(t *metainfo.Torrent) infoJSON {
	info := infoJSON{
		Name:        t.Name,
		InfoHash:    t.InfoHash.String(),
		PieceLength: t.PieceLength,
		Pieces:      t.NumPieces(),
		Private:     t.Private,
		Trackers:    []string{},
		WebSeeds:    append([]string{}, t.WebSeeds...),
		Files:       []fileJSON{},
	}
	seen := make(map[string]bool)
	for _, tier := range t.Trackers {
		for _, tracker := range tier {
			if !seen[tracker] {
				seen[tracker] = true
				info.Trackers = append(info.Trackers, tracker)
			}
		}
	}
	for _, f := range t.Files {
		if !f.Padding {
			info.Files = append(info.Files, fileJSON{f.Path, f.Length})
			info.TotalSize += f.Length
		}
	}
	return info
}

func printInfoJSON(w io.Writer, t *metainfo.Torrent) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(describe(t))
}

func printInfo(w io.Writer, t *metainfo.Torrent) error {
	info := describe(t)
	line := func(key, value string) {
		fmt.Fprintf(w, "%-13s %s\n", key, value)
	}
	list := func(key string, values []string) {
		for i, value := range values {
			if i > 0 {
				key = ""
			}
			line(key, printable(value))
		}
	}
	line("name", printable(info.Name))
	line("info-hash", info.InfoHash)
	line("piece length", byteCount(info.PieceLength))
	line("pieces", humanize.Comma(int64(info.Pieces)))
	line("total size", byteCount(info.TotalSize))
	if info.Private {
		line("private", "yes: its trackers alone are asked for peers")
	} else {
		line("private", "no")
	}
	if !t.Created.IsZero() {
		line("created", t.Created.UTC().Format(time.DateTime+" UTC"))
	}
	for _, text := range []struct{ key, value string }{{"created by", t.CreatedBy}, {"comment", t.Comment}} {
		if text.value != "" {
			line(text.key, printable(text.value))
		}
	}
	list("trackers", info.Trackers)
	list("web seeds", info.WebSeeds)
	line("files", humanize.Comma(int64(len(info.Files))))
	fmt.Fprintln(w)
	for _, f := range info.Files {
		fmt.Fprintf(w, "%10s  %s\n", humanize.IBytes(uint64(f.Length)), printable(f.Path))
	}
	return nil
}

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
)

func newInfo(logs *logFlags) *cobra.Command {
	network := defaultNetworkFlags()
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "info [flags] SOURCE",
		Short:      "Print what is in a torrent",
		Long:       "Info prints what a torrent says of itself, and its files as they would be mounted.\n\n" + sourceHelp,
		SuggestFor: []string{"show", "list", "ls"},
		Example: `  torrentfs info file.torrent
  torrentfs info 'magnet:?xt=urn:btih:...'
  torrentfs info --json file.torrent | jq -r .info_hash`,
		Args:              exactArgs("SOURCE"),
		ValidArgsFunction: completeTorrents,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := lookUp(cmd.Context(), args[0], network, store, logs, cmd.ErrOrStderr())
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
	network.register(cmd.Flags())
	store.register(cmd.Flags())
	return cmd
}

// lookUp returns the torrent that an argument names, with the files that a mount of it would show.
func lookUp(ctx context.Context, arg string, network networkFlags, flags storeFlags, logs *logFlags, stderr io.Writer) (*metainfo.Torrent, error) {
	screen := newScreen(stderr)
	log := logs.logger(screen, screen.live())
	store := flags.openOrNone(log)
	src, err := parseSource(arg, store.torrents())
	if err != nil {
		return nil, err
	}
	if src.torrent == nil {
		if src.torrent, err = findOne(ctx, src, network, store, log, screen); err != nil {
			return nil, err
		}
	}
	t, _ := src.shown()
	return t, nil
}

// findOne looks for a torrent by the network.
func findOne(ctx context.Context, src source, flags networkFlags, store storeDir, log *slog.Logger, screen *screen) (*metainfo.Torrent, error) {
	ends := catchSignals(ctx)
	defer ends.stop()
	ctx, cancel := context.WithTimeout(ends.soft, time.Duration(flags.resolveTimeout))
	defer cancel()
	client, err := fetch.New(flags.config(store, log))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	q := &search{source: src, began: time.Now()}
	var watching sync.WaitGroup
	defer watching.Wait()
	watched, stop := context.WithCancel(ctx)
	defer stop()
	watching.Go(func() {
		tick := time.NewTicker(refresh)
		defer tick.Stop()
		defer screen.setLine(nil)
		for {
			select {
			case <-tick.C:
				screen.setLine(q.render)
			case <-watched.Done():
				return
			}
		}
	})
	f := finder{client: client, known: store.torrents(), flags: flags, log: log}
	return f.find(ctx, src, q.report)
}

// infoJSON is the output of `info --json`. Sizes are in bytes. Padding files (BEP 47) are left out everywhere.
type infoJSON struct {
	Name        string     `json:"name"`
	InfoHash    string     `json:"info_hash"`    // of BEP 3, in hex
	InfoHashV2  *string    `json:"info_hash_v2"` // of BEP 52; null where there is none
	PieceLength int64      `json:"piece_length"`
	Pieces      int        `json:"pieces"`
	TotalSize   int64      `json:"total_size"` // of the files; bytes that two of them share count once
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
	if hash, ok := t.InfoHashV2(); ok {
		digits := hex.EncodeToString(hash[:])
		info.InfoHashV2 = &digits
	}
	var end int64 // of the bytes counted; links share those of the file that they lead to
	for _, f := range t.Files {
		if !f.Padding {
			info.Files = append(info.Files, fileJSON{f.Path, f.Length})
			info.TotalSize += max(0, f.Offset+f.Length-max(end, f.Offset))
			end = max(end, f.Offset+f.Length)
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
	if info.InfoHashV2 != nil {
		line("info-hash v2", *info.InfoHashV2)
	}
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/seed"
)

// seedFlags are the flags of seed.
type seedFlags struct {
	networkFlags
	sharingFlags
	storeFlags
}

func (f *seedFlags) register(flags *pflag.FlagSet) {
	f.networkFlags.register(flags)
	f.sharingFlags.register(flags)
	f.storeFlags.register(flags)
}

func newSeed(logs *logFlags) *cobra.Command {
	flags := seedFlags{networkFlags: defaultNetworkFlags(), sharingFlags: defaultSharingFlags()}
	cmd := &cobra.Command{
		Use:   "seed [flags] SOURCE PATH",
		Short: "Share the files of a torrent from where they are",
		Long: `Seed gives a torrent's content to whoever asks, straight from its files, until Ctrl-C. PATH is the file
or folder that the torrent is of, or the folder that holds it. It is read and hashed first: everything
must be there and right. It is never written to.

` + sourceHelp,
		Example: `  torrentfs seed data.torrent ~/data
  torrentfs seed --listen :6881 --upload-limit 5MB/s data.torrent ~/data`,
		Args:       exactArgs("SOURCE", "PATH"),
		SuggestFor: []string{"share", "upload", "serve"},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return completeTorrents(nil, nil, "")
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSeed(cmd.Context(), args[0], args[1], flags, logs, cmd.ErrOrStderr())
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

// runSeed shares the content at path of the torrent that arg names, until a signal comes.
func runSeed(ctx context.Context, arg, path string, flags seedFlags, logs *logFlags, stderr io.Writer) error {
	screen := newScreen(stderr)
	log := logs.logger(screen, screen.live())
	ends := catchSignals(ctx)
	defer ends.stop()

	dir := flags.openOrNone(log)
	src, err := parseSource(arg, dir.torrents())
	if err != nil {
		return err
	}
	if src.torrent == nil {
		if src.torrent, err = findOne(ends.soft, src, flags.networkFlags, dir, log, screen); err != nil {
			return err
		}
	}
	store, err := openSeed(ends.soft, src.torrent, path, newBar(screen))
	if err != nil {
		return err
	}
	config := flags.config(dir, log)
	flags.share(&config)
	config.Upload = true
	client, err := fetch.New(config)
	if err != nil {
		return err
	}
	torrent, err := client.Add(src.torrent, store, fetch.AddOptions{
		Peers: slices.Concat(flags.peers, src.magnet.Peers), Seed: true,
	})
	if err != nil {
		return errors.Join(err, client.Close())
	}
	store.Watch(torrent.Lost)
	s := &seeding{name: src.torrent.Name, pieces: src.torrent.NumPieces(), store: store, client: client, torrent: torrent, log: log}
	s.rechecks.Go(func() { store.Recheck(ends.soft) })
	listen := "nowhere" // as behind a proxy
	if addr := client.Addr(); addr != nil {
		listen = addr.String()
	}
	log.Info("seeding", "name", s.name, "info_hash", src.torrent.InfoHash, "listen", listen)
	if screen.live() {
		log.Info("Ctrl-C ends it")
	}
	return s.serve(ends, screen)
}

// openSeed opens the content of a torrent at path and hashes it.
func openSeed(ctx context.Context, t *metainfo.Torrent, path string, bar *bar) (*seed.Store, error) {
	store, err := seed.Open(t, path)
	if err != nil {
		return nil, fmt.Errorf("%s can't be shared from %s: %w", printable(t.Name), shellQuote(path), err)
	}
	good, err := store.Verify(ctx, bar.show)
	bar.end()
	if err != nil {
		return nil, err
	}
	if wrong := t.NumPieces() - good; wrong > 0 {
		return nil, fmt.Errorf("%s: %d of %s can't be read or differ from the torrent %s; nothing is shared; the first: %w",
			shellQuote(path), wrong, plural(t.NumPieces(), "piece"), printable(t.Name), store.Fault())
	}
	return store, nil
}

// seeding is a torrent being shared from its files.
type seeding struct {
	name    string
	pieces  int // in all
	store   *seed.Store
	client  *fetch.Client
	torrent *fetch.Torrent

	rechecks sync.WaitGroup // ends with the signal that ends serve
	log      *slog.Logger
}

// serve shows how it goes until a signal comes, and ends it then.
func (s *seeding) serve(ends endings, screen *screen) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	good := s.store.Good()
	for {
		select {
		case <-tick.C:
			stats := s.torrent.Stats()
			screen.setLine(func(width int) string { return s.render(stats, s.store.Good(), width) })
			switch now := s.store.Good(); {
			case now < good:
				s.log.Warn("pieces can't be read or differ from the torrent by now, and are not given to anybody",
					"pieces", good-now, "first", s.store.Fault())
				good = now
			case now > good:
				s.log.Info("pieces are right again", "pieces", now-good)
				good = now
			}
			continue
		case <-ends.soft.Done():
		}
		break
	}
	screen.setLine(nil)
	s.log.Info("ending; a second signal forces it")
	uploaded := s.torrent.Stats().Uploaded
	if err := s.close(ends.hard); err != nil {
		return err
	}
	s.log.Info("ended", "uploaded", humanize.IBytes(uint64(uploaded)))
	return nil
}

// close leaves the swarm. When ctx ends, it waits no more.
func (s *seeding) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := s.client.Close()
		s.rechecks.Wait()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("stopped before everything had ended")
	}
}

// render returns the status line, with good pieces being right, in at most width columns.
func (s *seeding) render(stats fetch.Stats, good, width int) string {
	what := "seeding"
	if good < s.pieces {
		what += fmt.Sprintf(" %d of %s", good, plural(s.pieces, "piece"))
	}
	return cut(strings.Join([]string{
		what, plural(stats.Connected, "peer"), "up " + formatRate(stats.UpRate),
		"total " + humanize.IBytes(uint64(stats.Uploaded)), printable(s.name),
	}, "  "), width)
}

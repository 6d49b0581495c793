package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mountFlags are the flags of the verbs that mount.
type mountFlags struct {
	networkFlags
	sharingFlags
	storeFlags
	noUpload      bool
	downloadLimit rateValue
	memory        sizeValue
	cacheSize     sizeValue
	keep, letGo   bool // letGo: --keep=false, which undoes an earlier --keep
	readAhead     sizeValue
	readTimeout   durationValue
	noWait        bool
	allowOther    bool
	allowNonEmpty bool
}

// minMemory is the least that can hold a few pieces of common size, in bytes.
const minMemory = 16 << 20

// defaultMountFlags returns what a mount does when no flag says otherwise.
func defaultMountFlags() mountFlags {
	return mountFlags{
		networkFlags: defaultNetworkFlags(),
		sharingFlags: defaultSharingFlags(),
		memory:       256 << 20,
		cacheSize:    10e9,
		readAhead:    64 << 20,
		readTimeout:  durationValue(2 * time.Minute),
	}
}

func (f *mountFlags) register(flags *pflag.FlagSet) {
	f.networkFlags.register(flags)
	f.sharingFlags.register(flags)
	f.storeFlags.register(flags)
	flags.BoolVar(&f.noUpload, "no-upload", false, "give nothing back to the swarm")
	flags.Var(&f.downloadLimit, "download-limit", "receive at most `RATE` in all, as in 5MB/s; 0 is no limit")
	flags.Var(&f.memory, "memory", "keep pieces of up to `SIZE` in memory")
	flags.Var(&f.cacheSize, "cache-size", "keep up to `SIZE` on disk; 0 is memory only")
	flags.BoolVar(&f.keep, "keep", false, "fetch all in the background and never evict it; =false undoes it")
	flags.Var(&f.readAhead, "readahead", "fetch at most `SIZE` ahead of a reader")
	flags.Var(&f.readTimeout, "read-timeout", "fail a read that has waited for `DUR`")
	flags.BoolVar(&f.noWait, "no-wait", false, "mount before everything is found")
	flags.BoolVar(&f.allowOther, "allow-other", false, "let other users read the mount")
	flags.BoolVar(&f.allowNonEmpty, "allow-non-empty", false, "mount over a directory that is not empty")
}

// check refuses what makes no sense.
func (f *mountFlags) check(cmd *cobra.Command) error {
	f.letGo = cmd.Flags().Changed("keep") && !f.keep && f.cacheSize > 0
	switch {
	case f.memory < minMemory:
		return usagef(cmd, "--memory: %s is too little; give at least %s", byteCount(int64(f.memory)), formatSize(minMemory))
	case f.keep && f.cacheSize == 0:
		return usagef(cmd, "--keep needs a place on disk, but --cache-size is 0")
	}
	return nil
}

// checkPlaces refuses to keep anything below the mountpoint.
func (f *mountFlags) checkPlaces(cmd *cobra.Command, logFile, mountpoint string) error {
	if err := checkOutside(cmd, "--log-file", logFile, mountpoint); err != nil {
		return err
	}
	store, err := f.open()
	if err != nil {
		return nil //nolint:nilerr // nothing will be kept, which openOrNone tells
	}
	return checkOutside(cmd, "--cache-dir", string(store), mountpoint)
}

func newMount(logs *logFlags) *cobra.Command {
	flags := defaultMountFlags()
	var daemon bool
	var logFile string
	cmd := &cobra.Command{
		Use:   "mount [flags] SOURCE... MOUNTPOINT",
		Short: "Mount torrents",
		Long: `Mount shows the files of torrents below MOUNTPOINT, an empty directory, read-only. What is read is
downloaded, verified, and kept in memory and on disk. Ctrl-C or 'torrentfs unmount MOUNTPOINT' ends it.

` + sourceHelp + `

Mount waits until every torrent is found. With --no-wait or --daemon it does not: until then, the file
` + noticeName + ` at MOUNTPOINT says how that goes, and --resolve-timeout does not count.

The exit code is 0 after a clean unmount by whomever, 1 after a failure, 2 for a wrong command line.`,
		Example: `  torrentfs mount film.torrent /mnt/t
  torrentfs mount 'magnet:?xt=urn:btih:...' /mnt/t
  torrentfs mount --memory 1GiB --cache-size 100GB data1.torrent data2.torrent /mnt/t
  torrentfs mount --daemon --log-file /var/log/torrentfs.log data.torrent /srv/data`,
		Args: mountArgs,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return completeTorrents(nil, nil, "")
			}
			return nil, cobra.ShellCompDirectiveDefault // another SOURCE or the MOUNTPOINT
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if logFile != "" && !daemon {
			return usagef(cmd, "--log-file is for --daemon; in the foreground, redirect stderr: 2>%s", shellQuote(logFile))
		}
		if err := flags.check(cmd); err != nil {
			return err
		}
		if err := flags.checkPlaces(cmd, logFile, args[len(args)-1]); err != nil {
			return err
		}
		flags.noWait = flags.noWait || daemon
		stderr := cmd.ErrOrStderr()
		if !daemon {
			return runMount(cmd.Context(), args, flags, logs, stderr, nil)
		}
		parent, err := takeReadyPipe()
		if err != nil {
			return err
		}
		if parent == nil {
			return startDaemon(os.Args[1:], stderr)
		}
		var file *os.File
		if logFile != "" {
			if file, err = os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
				return fmt.Errorf("--log-file: %w", err)
			}
			defer file.Close()
		}
		return runMount(cmd.Context(), args, flags, logs, stderr, func() error { return parent.ready(file) })
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&daemon, "daemon", false, "return once the mount is usable and serve it in the background")
	cmd.Flags().StringVar(&logFile, "log-file", "", "with --daemon: append the log to `FILE`; without, it is dropped")
	return cmd
}

// mountArgs demands SOURCE... MOUNTPOINT.
func mountArgs(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return usagef(cmd, "SOURCE and MOUNTPOINT are missing")
	case 1:
		if isDirectory(args[0]) {
			return usagef(cmd, "SOURCE is missing: what is to be mounted on %s?", shellQuote(args[0]))
		}
		return usagef(cmd, "MOUNTPOINT is missing: where is %s to be mounted?", shellQuote(args[0]))
	}
	first, last := args[0], args[len(args)-1]
	if isDirectory(first) && !isDirectory(last) {
		return usagef(cmd, "MOUNTPOINT comes last; did you mean: torrentfs mount %s %s?",
			shellQuoteAll(args[1:]), shellQuote(first))
	}
	if strings.HasSuffix(last, ".torrent") && !isDirectory(last) {
		return usagef(cmd, "MOUNTPOINT is missing: where are %s and %s to be mounted?", shellQuote(first), shellQuote(last))
	}
	return notEmpty(cmd, args)
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// runMount mounts the sources that args name on the mountpoint that they end with, and serves until somebody
// unmounts it or a signal comes. ready, which may be nil, is called once the mount is usable.
func runMount(ctx context.Context, args []string, flags mountFlags, logs *logFlags, stderr io.Writer, ready func() error) error {
	screen := newScreen(stderr)
	log := logs.logger(screen, screen.live())
	ends := catchSignals(ctx)
	defer ends.stop()

	names, dir := args[:len(args)-1], args[len(args)-1]
	store := flags.openOrNone(log)
	sources, err := parseSources(names, store.torrents(), func(arg, first string) {
		log.Warn("the same torrent again, mounted once", "source", arg, "first", first)
	})
	if err != nil {
		return err
	}
	s, err := startSession(dir, sources, flags, store, log)
	if err != nil {
		return err
	}
	if err := s.findAll(ends, sources, screen); err != nil {
		return errors.Join(err, s.close(ends.hard))
	}
	s.logMounted()
	if ready != nil {
		if err := ready(); err != nil {
			_ = s.close(ends.hard) // the first error tells more
			return err
		}
	}
	if screen.live() {
		log.Info("Ctrl-C or 'torrentfs unmount " + shellQuote(dir) + "' ends it")
	}
	return s.serve(ends, screen)
}

// findAll looks for the torrents that are not known yet, and waits for them unless told not to.
func (s *session) findAll(ends endings, sources []source, screen *screen) error {
	if s.flags.noWait {
		s.search(context.Background(), sources, true)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.flags.resolveTimeout))
	defer cancel()
	return s.wait(ends, s.search(ctx, sources, false), screen)
}

// logMounted writes the line that tells people and scripts that the mount is ready.
func (s *session) logMounted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hashes []string
	for _, t := range s.torrents {
		hashes = append(hashes, t.meta.InfoHash.String())
	}
	args := []any{"mountpoint", s.dir, "info_hash", strings.Join(hashes, ",")}
	if len(s.torrents) == 1 {
		args = append(args, "name", s.torrents[0].meta.Name)
	}
	if n := len(s.searches); n > 0 {
		args = append(args, "not_found_yet", n)
	}
	s.log.Info("mounted", args...)
}

// absolute returns path as it will be named after the working directory has changed.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return abs, nil
}

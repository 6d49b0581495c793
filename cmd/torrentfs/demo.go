package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newDemo(logs *logFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "demo [flags] [MOUNTPOINT]",
		Short: "Mount sample content from a swarm on this machine, to see that it works",
		Long: `Demo makes some sample files, shares them by a tracker and three seeders inside this process, on the
loopback interface, and mounts them as mount does. It needs no network and about 70 MB in $TMPDIR.

Without MOUNTPOINT it reads everything back through the mount, compares it with the originals and ends;
the exit code is 0 if all is well. With MOUNTPOINT, an empty directory, the mount stays until Ctrl-C.`,
		Example: `  torrentfs demo
  torrentfs demo /mnt/t`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "only a MOUNTPOINT is wanted, but there is also %s", shellQuote(args[1]))
			}
			return notEmpty(cmd, args)
		},
		ValidArgsFunction: completeDirectories,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("log-level") {
				logs.level.value = "warn" // what goes well, demo tells itself
			}
			dir := ""
			if len(args) == 1 {
				dir = args[0]
			}
			return runDemo(cmd.Context(), dir, logs, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// demo is one run of the verb.
type demo struct {
	out    io.Writer // what it tells
	screen *screen
	ends   endings
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, format+"\n", args...)
}

// runDemo mounts the sample on dir and stays, or, when dir is "", on a temporary directory and checks it.
func runDemo(ctx context.Context, dir string, logs *logFlags, stdout, stderr io.Writer) (err error) {
	screen := newScreen(stderr)
	log := logs.logger(screen, screen.live())
	d := &demo{out: screen.above(stdout), screen: screen, ends: catchSignals(ctx)}
	defer d.ends.stop()

	temp, err := os.MkdirTemp("", "torrentfs-demo-")
	if err != nil {
		return err
	}
	folder := filepath.Join(temp, "original", sampleName)
	// Only what demo made itself: should the mount linger, nothing reaches into it.
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Join(temp, "original")), os.Remove(temp)) }()

	if err := makeSample(folder); err != nil {
		return fmt.Errorf("make the sample: %w", err)
	}
	swarm, err := startSwarm(d.ends.soft, folder, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, swarm.close()) }()
	d.say("sharing %s in %s, by the tracker %s and %d seeders",
		humanize.IBytes(uint64(swarm.torrent.Length)), plural(len(swarm.torrent.Files), "file"), swarm.tracker, len(swarm.seeders))

	stay := dir != ""
	if !stay {
		dir = filepath.Join(temp, "mount")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(dir)) }()
	}
	flags := defaultMountFlags()
	flags.noDHT, flags.noLSD, flags.noPortMap = true, true, true // the swarm is here
	session, err := startSession(dir, []source{{torrent: swarm.torrent}}, flags, "", log)
	if err != nil {
		return err
	}
	d.say("mounted on %s", dir)
	if stay {
		if err := d.suggest(dir); err != nil {
			return errors.Join(err, session.close(d.ends.hard))
		}
		return session.serve(d.ends, screen)
	}
	compared := make(chan error, 1)
	var read atomic.Int64 // bytes through the mount
	var comparing sync.WaitGroup
	comparing.Go(func() { compared <- d.compare(filepath.Dir(folder), dir, &read) })
	result := d.follow(compared, &read, swarm.torrent.Length)
	screen.setLine(nil)
	if err := session.close(d.ends.hard); err != nil {
		return errors.Join(result, err)
	}
	comparing.Wait() // unmounting has ended the read that it may have been blocked in
	if result == nil {
		d.say("unmounted")
	}
	return result
}

// follow shows how far the comparison is, until it has a result or a signal comes.
func (d *demo) follow(compared <-chan error, read *atomic.Int64, total int64) error {
	tick := time.NewTicker(refresh / 5)
	defer tick.Stop()
	for {
		select {
		case err := <-compared:
			return err
		case <-d.ends.soft.Done():
			return errors.New("interrupted")
		case <-tick.C:
			d.screen.setLine(func(width int) string { return renderProgress(read.Load(), total, width) })
		}
	}
}

// suggest says what to try with the mount at dir.
func (d *demo) suggest(dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	path := func(name string) string { return shellQuote(filepath.Join(dir, sampleName, name)) }
	d.say(`
try, in another terminal:
  cat %s
  mpv %s
  cp -r %s /tmp/copy
  dd if=%s bs=1M skip=40 count=1 | sha256sum
Ctrl-C here ends it`, path("read-me.txt"), path("chime.wav"), path(""), path("random.bin"))
	return nil
}

// compare reads everything below mounted, adding the bytes to read, and returns the first difference from what is
// below original.
func (d *demo) compare(original, mounted string, read *atomic.Int64) error {
	want, err := filesBelow(original)
	if err != nil {
		return err
	}
	got, err := filesBelow(mounted)
	if err != nil {
		return fmt.Errorf("list the mount: %w", err)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s holds %v, not %v", mounted, got, want)
	}
	var reading time.Duration
	for _, f := range want {
		start := time.Now()
		hash, err := hashFile(filepath.Join(mounted, f.path), read)
		if err != nil {
			return fmt.Errorf("read the mount: %w", err)
		}
		reading += time.Since(start)
		if originalHash, err := hashFile(filepath.Join(original, f.path), nil); err != nil {
			return err
		} else if hash != originalHash {
			return fmt.Errorf("%s differs from its original", filepath.Join(mounted, f.path))
		}
		d.say("  equal  %8s  sha256 %x...  %s", humanize.IBytes(uint64(f.size)), hash[:8], f.path)
	}
	d.say("all %d files, read through the mount, equal their originals by SHA-256: %s in %.1f s, %s", len(want),
		humanize.IBytes(uint64(read.Load())), reading.Seconds(), formatRate(float64(read.Load())/reading.Seconds()))
	return nil
}

// fileBelow is a file with its path below some directory.
type fileBelow struct {
	path string
	size int64
}

// filesBelow returns the files below dir in lexical order.
func filesBelow(dir string) ([]fileBelow, error) {
	var files []fileBelow
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, path)
		files = append(files, fileBelow{below, info.Size()})
		return err
	})
	return files, err
}

// hashFile returns the SHA-256 of a file, adding the bytes read to done unless that is nil.
func hashFile(path string, done *atomic.Int64) (sum [sha256.Size]byte, err error) {
	f, err := openUnpolled(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(countingHash{h, done}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// openUnpolled opens a file that may lie in a mount that this very process serves. os.Open would have the runtime register
// the file for polling, which asks the mount, in a system call that the scheduler does not know to wait: with a few of
// them nothing is left to answer.
func openUnpolled(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// countingHash adds what it hashes to n.
type countingHash struct {
	hash.Hash
	n *atomic.Int64
}

func (h countingHash) Write(p []byte) (int, error) {
	if h.n != nil {
		h.n.Add(int64(len(p)))
	}
	return h.Hash.Write(p)
}

// renderProgress returns a line of at most width columns that says how much was read.
func renderProgress(done, total int64, width int) string {
	line := fmt.Sprintf("reading through the mount: %s of %s", humanize.IBytes(uint64(done)), humanize.IBytes(uint64(total)))
	return line[:min(len(line), max(width, 0))]
}

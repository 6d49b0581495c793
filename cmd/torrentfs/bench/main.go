// Command bench measures how fast a torrent's bytes reach a program: through torrentfs and, in the same run
// and from the same swarm, by other clients. Seeders are libtorrent's, the tracker is opentracker, distance
// and rate come from fetchtest.Shape, and every byte read passes the kernel's mount.
//
// It never judges correctness beyond a look at some of the bytes: that is the tests' work.
//
//	go run ./cmd/torrentfs/bench                            everything, about a quarter of an hour
//	go run ./cmd/torrentfs/bench -case lan -runs 1          one case, once
//	go run ./cmd/torrentfs/bench -case 'play*' -readers torrentfs
//
// docs/benchmarks.md says what each case is and holds the latest figures.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bench is one run of the program.
type bench struct {
	work    string // a directory of its own, removed at the end
	local   string // a file on a local disk with the content's beginning, made when needed
	tmpfs   string // the same where readers write
	shelf   shelf
	readers []reader
	rounds  int
	drains  bool // drain takes part wherever a whole file is read
	began   time.Time

	mu   sync.Mutex // guards what follows, since some cases run together
	runs int
	log  io.Writer
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		only    = flag.String("case", "", "cases to run, separated by commas; * stands for any characters (all)")
		rounds  = flag.Int("runs", 3, "rounds of each case; figures are medians over them")
		names   = flag.String("readers", "", "readers to run, separated by commas (all there are)")
		noRival = flag.Bool("no-rivals", false, "run torrentfs alone")
		drains  = flag.Bool("drain", false, "have the reader that discards take part wherever a whole file is read, to see what the shaped links give")
		scale   = flag.Float64("scale", 1, "multiply the files' sizes")
		asJSON  = flag.Bool("json", false, "print JSON, with every run, instead of tables")
		out     = flag.String("o", "", "write the JSON to this file besides")
		binary  = flag.String("torrentfs", "", "the torrentfs to measure (built from this tree)")
		extra   = flag.String("torrentfs-flags", "", "more flags for torrentfs mount, separated by spaces")
		other   = flag.String("mount", "", "one more mount to measure, as `name=command` with {torrent} or {torrents}, {data} and {dir} in it")
		dir     = flag.String("dir", "", "where readers put what they download: 2 GiB, best in memory (/dev/shm, else the temporary directory)")
		content = flag.String("content", "", "where the seeders' files go: 3 GiB, best on a disk, whose pages are cached and cheaper to map than a tmpfs's (the temporary directory)")
		list    = flag.Bool("list", false, "list the cases and readers, and end")
	)
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	chosen, err := choose(split(*only))
	if err != nil {
		return err
	}
	if *list {
		for _, c := range chosen {
			fmt.Printf("%-12s %s (%s)\n", c.Name, c.About, strings.Join(c.Readers, ", "))
		}
		return nil
	}
	if *rounds < 1 || *scale <= 0 {
		return errors.New("-runs and -scale must be positive")
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{rounds: *rounds, drains: *drains, log: os.Stderr}
	if b.work, err = workDir(*dir); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	if b.shelf.dir, err = os.MkdirTemp(*content, "torrentfs-bench-content-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.shelf.dir)
	b.local, b.tmpfs = filepath.Join(b.shelf.dir, fileName), filepath.Join(b.work, fileName)

	if err := b.gather(ctx, *binary, strings.Fields(*extra)); err != nil {
		return err
	}
	if *other != "" {
		r, err := guest(*other)
		if err != nil {
			return err
		}
		b.readers = append(b.readers, r)
	}
	if *noRival {
		*names = "torrentfs,memory only"
	}
	if n := split(*names); n != nil {
		b.readers = slices.DeleteFunc(b.readers, func(r reader) bool { return !slices.Contains(n, r.name) })
	}
	if len(b.readers) == 0 {
		return errors.New("none of the readers asked for is here")
	}
	report := b.all(ctx, chosen, *scale)
	if err := ctx.Err(); err != nil && len(report.Results) == 0 {
		return err
	}
	report.judge()
	js, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if *out != "" {
		if err := os.WriteFile(*out, append(js, '\n'), 0o644); err != nil {
			return err
		}
	}
	if *asJSON {
		fmt.Println(string(js))
	} else {
		report.print(os.Stdout)
	}
	return ctx.Err()
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// workDir makes a directory to work in under dir, by default in memory, so that no disk is measured.
func workDir(dir string) (string, error) {
	if dir == "" {
		var room syscall.Statfs_t
		const need = 2 * gib
		if syscall.Statfs("/dev/shm", &room) == nil && int64(room.Bavail)*room.Bsize > need {
			dir = "/dev/shm"
		}
	}
	work, err := os.MkdirTemp(dir, "torrentfs-bench-")
	if err != nil {
		return "", err
	}
	return work, os.Chmod(work, 0o755) // opentracker looks into it as nobody
}

// gather finds the readers this machine has, torrentfs first.
func (b *bench) gather(ctx context.Context, binary string, extra []string) error {
	for _, need := range []string{python, "opentracker", "fusermount3"} {
		if _, err := exec.LookPath(need); err != nil {
			return fmt.Errorf("%w (apt-get install python3-libtorrent opentracker fuse3; for the rivals also btfs aria2)", err)
		}
	}
	if binary == "" {
		binary = filepath.Join(b.work, "torrentfs")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "torrentfs/cmd/torrentfs").CombinedOutput(); err != nil {
			fmt.Fprintf(b.log, "torrentfs does not build, so it is left out: %v\n%s\n", err, lastLines(string(out)))
			binary = ""
		}
	}
	b.readers = append(b.readers, drain)
	if binary != "" {
		b.readers = append(b.readers, torrentfs("torrentfs", "this project's mount", binary, extra),
			torrentfs("memory only", "the same with --cache-size=0", binary, append(slices.Clone(extra), "--cache-size=0")))
	}
	b.readers = append(b.readers, rivals()...)
	return nil
}

// all runs the cases, every reader once a round and each round beginning with another reader, so that
// whatever else the machine does falls on all alike.
func (b *bench) all(ctx context.Context, chosen []Case, scale float64) *Report {
	b.began = time.Now()
	report := &Report{Date: b.began.Format(time.DateOnly), Machine: thisMachine(), Rounds: b.rounds, Readers: map[string]string{}}
	var last *group
	var groups []*group
	for _, c := range chosen {
		readers := b.take(&c)
		if len(readers) == 0 {
			continue
		}
		res := &Result{Case: c.scaled(scale)}
		for _, r := range readers {
			report.Readers[r.name] = r.about
			res.Rows = append(res.Rows, &Row{Reader: r.name})
		}
		report.Results = append(report.Results, res)
		if last == nil || c.Together == "" || c.Together != last.name {
			last = &group{name: c.Together}
			groups = append(groups, last)
		}
		for _, r := range readers {
			if !slices.ContainsFunc(last.readers, func(have reader) bool { return have.name == r.name }) {
				last.readers = append(last.readers, r)
			}
		}
		last.results = append(last.results, res)
	}
	for _, g := range groups {
		b.group(ctx, g)
	}
	report.Took = time.Since(b.began).Seconds()
	return report
}

// take gives the readers that take part in a case, in its order.
func (b *bench) take(c *Case) (readers []reader) {
	for _, name := range c.Readers {
		for _, r := range b.readers {
			if r.name == name {
				readers = append(readers, r)
			}
		}
	}
	for _, r := range b.readers {
		if r.guest {
			readers = append(readers, r)
		}
	}
	if b.drains && c.Ideal > playRate && !slices.Contains(c.Readers, drain.name) {
		readers = append(readers, drain)
	}
	return readers
}

// A group is the results of cases that run at the same time, each with a swarm of its own: those that wait
// for slow links most of the time. Most groups are of one.
type group struct {
	name    string
	readers []reader
	results []*Result
}

func (b *bench) group(ctx context.Context, g *group) {
	for round := range b.rounds {
		for i := range g.readers {
			r := g.readers[(i+round)%len(g.readers)]
			var wg sync.WaitGroup
			for _, res := range g.results {
				row := res.row(r.name)
				if row == nil {
					continue
				}
				wg.Go(func() {
					sample, err := res.Case.measure(ctx, b, &res.Case, r, uint64(round))
					if ctx.Err() != nil {
						return
					}
					if err != nil {
						sample.Error = err.Error()
					}
					row.Runs = append(row.Runs, sample)
					b.progress(&res.Case, r, round, sample)
				})
			}
			wg.Wait()
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// progress says on one line what a run gave.
func (b *bench) progress(c *Case, r reader, round int, s Sample) {
	one := &Result{Case: *c, Rows: []*Row{{Reader: r.name, Runs: []Sample{s}}}}
	var parts []string
	for _, col := range columns {
		if cell, ok := col.cell(one, one.Rows[0]); ok {
			parts = append(parts, col.head+" "+cell)
		}
	}
	if s.Error != "" {
		parts = append(parts, s.Error)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(b.log, "%4.0fs %s %d %s: %s\n", time.Since(b.began).Seconds(), c.Name, round+1, r.name, strings.Join(parts, "; "))
}

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// screen is where log lines go, with one line below them that changes in place if it is a terminal. Log lines
// and the line are written under one lock and each in one write, so neither garbles the other.
type screen struct {
	w     io.Writer
	tty   *os.File // nil: no status line
	color bool

	mu   sync.Mutex
	line string // what is shown now below the log lines
}

// newScreen returns a screen on w. The caller ends it with setLine("").
func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if tty, ok := terminal(w); ok {
		s.tty = tty
		s.color = os.Getenv("NO_COLOR") == ""
	}
	return s
}

// live says whether a person watches, so that a status line makes sense.
func (s *screen) live() bool { return s.tty != nil }

const clearLine = "\r\x1b[K"

// Write puts whole log lines above the status line.
func (s *screen) Write(p []byte) (int, error) { return s.write(s.w, p) }

// above returns a writer to w that leaves the status line alone, should both be the same terminal.
func (s *screen) above(w io.Writer) io.Writer {
	return writerFunc(func(p []byte) (int, error) { return s.write(w, p) })
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// write puts p on w while the status line is out of the way.
func (s *screen) write(w io.Writer, p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == "" {
		return w.Write(p)
	}
	// A terminal that is gone is no reason to stop.
	_, _ = io.WriteString(s.w, clearLine)
	n, err := w.Write(p)
	_, _ = io.WriteString(s.w, s.line)
	return n, err
}

// setLine shows the line that render returns for the width of the terminal, in columns; nil takes it away.
// It does nothing without a terminal, or while another job has the terminal.
func (s *screen) setLine(render func(width int) string) {
	if s.tty == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	line := ""
	if render != nil && foreground(s.tty) {
		width, _, err := term.GetSize(int(s.tty.Fd()))
		if err != nil || width <= 0 {
			width = 80
		}
		line = render(width - 1) // the last column would wrap on some terminals
		if s.color && line != "" {
			line = "\x1b[2m" + line + "\x1b[0m"
		}
	}
	if line == s.line {
		return
	}
	shown := clearLine + line
	if line == "" && !foreground(s.tty) {
		shown = "" // the line is the shell's by now
	}
	s.line = line
	_, _ = io.WriteString(s.w, shown)
}

// foreground says whether this process may write to the terminal without disturbing another job's output.
func foreground(tty *os.File) bool {
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// snapshot is what the status line tells, summed over the torrents of a mount.
type snapshot struct {
	torrents   int
	searches   int     // torrents that are not found yet
	connected  int     // peers connected
	known      int     // peers known
	down, up   float64 // bytes a second
	downloaded int64   // bytes
	uploaded   int64   // bytes
	waiting    []int   // pieces that reads wait for
	cached     int64   // bytes of verified pieces in memory
	disk       int64   // bytes that the cache takes on disk
}

// render returns the status line, which is plain ASCII, in at most width columns, leaving out the least important when they are few.
func (s snapshot) render(width int) string {
	type part struct {
		text   string
		weight int // the lightest go first
	}
	parts := []part{
		{plural(s.connected, "peer"), 5},
		{"down " + formatRate(s.down), 4},
		{"up " + formatRate(s.up), 1},
		{s.waitingFor(), 3},
		{"cache " + humanize.IBytes(uint64(s.cached)), 0},
		{s.onDisk(), 0},
		{"total " + humanize.IBytes(uint64(s.downloaded)), 2},
	}
	if s.up < 1 {
		parts[2].text = ""
	}
	for lightest := 0; ; lightest++ {
		var texts []string
		for _, p := range parts {
			if p.text != "" && p.weight >= lightest {
				texts = append(texts, p.text)
			}
		}
		line := strings.Join(texts, "  ")
		if len(line) <= width || lightest == 5 {
			return line[:min(len(line), max(width, 0))]
		}
	}
}

func (s snapshot) onDisk() string {
	if s.disk == 0 {
		return ""
	}
	return "disk " + humanize.IBytes(uint64(s.disk))
}

// waitingFor says what reads wait for.
func (s snapshot) waitingFor() string {
	switch n := len(s.waiting); {
	case n == 0 && s.searches > 0:
		return "looking for " + plural(s.searches, "torrent")
	case n == 0:
		return "no read waits"
	case s.connected == 0:
		return "reads wait for a peer"
	case s.torrents == 1 && n == 1:
		return fmt.Sprintf("reads wait for piece %d", s.waiting[0])
	case s.torrents == 1 && n == 2:
		return fmt.Sprintf("reads wait for pieces %d and %d", s.waiting[0], s.waiting[1])
	case s.torrents == 1:
		return fmt.Sprintf("reads wait for piece %d and %d more", s.waiting[0], n-1)
	default:
		return "reads wait for " + plural(n, "piece")
	}
}

// stall notices that reads wait and nothing comes, once for each time that it happens.
type stall struct {
	since      time.Time // the last progress
	downloaded int64
	told       bool
}

// observe says whether it is time to tell that reads have been waiting for longer than patience.
func (s *stall) observe(now time.Time, snap snapshot, patience time.Duration) bool {
	if len(snap.waiting) == 0 || snap.downloaded != s.downloaded || s.since.IsZero() {
		*s = stall{since: now, downloaded: snap.downloaded}
		return false
	}
	if s.told || now.Sub(s.since) < patience {
		return false
	}
	s.told = true
	return true
}

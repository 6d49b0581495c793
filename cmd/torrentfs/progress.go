package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// bar is a progress bar on the status line of a screen. Its methods may be called from any goroutine.
type bar struct {
	screen *screen
	began  time.Time

	mu    sync.Mutex
	shown time.Time
}

func newBar(s *screen) *bar { return &bar{screen: s, began: time.Now()} }

// show shows that done of total bytes are done; what it does not show because it just showed something, is soon
// followed by something newer.
func (b *bar) show(done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if now.Sub(b.shown) < refresh/5 {
		return
	}
	b.shown = now
	b.screen.setLine(func(width int) string { return renderBar(done, total, now.Sub(b.began), width) })
}

// end takes the bar away.
func (b *bar) end() { b.screen.setLine(nil) }

// renderBar returns a bar of at most width columns, plain ASCII.
func renderBar(done, total int64, took time.Duration, width int) string {
	const steps = 24
	share := 1.0
	if total > 0 {
		share = float64(done) / float64(total)
	}
	text := fmt.Sprintf("%6s  %s of %s", percent(share), humanize.IBytes(uint64(done)), humanize.IBytes(uint64(total)))
	if seconds := took.Seconds(); seconds >= 1 && done > 0 {
		rate := float64(done) / seconds
		left := time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second)
		text += fmt.Sprintf("  %s  %v left", formatRate(rate), left)
	}
	full := min(int(share*steps), steps)
	line := "[" + strings.Repeat("#", full) + strings.Repeat(".", steps-full) + "] " + text
	if len(line) > width {
		line = text
	}
	return cut(line, width)
}

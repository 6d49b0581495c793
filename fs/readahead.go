package fs

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// What the policy takes for granted; all sizes in bytes.
const (
	slack       = 1 << 20         // a read this far from a cursor's end belongs to its run: the kernel's own read-ahead arrives out of order
	kernelRead  = 128 << 10       // the kernel's largest READ; one alone proves nothing about the next
	openingRead = 64 << 10        // a first read at the file's first byte of this size is a copy or a player, not a look at a header
	minWindow   = 4 << 20         // where the window begins, unless two pieces are more
	minStep     = 512 << 10       // a window that moved less is not announced again
	shortRun    = 4 << 20         // a proven run that ends before this was likely one large read at a random place
	memory      = 8 << 20         // over how many bytes the density of a run is judged
	maxCursors  = 8               // in one handle
	quiet       = time.Second     // a cursor silent for this long while another runs is where the reader was, not where it is
	pause       = 5 * time.Second // a longer gap is a pause and says nothing about the rate of reading
	rateSpan    = 4 * time.Second // over which the rate is averaged
)

// A hint is what Content.Ahead is told, in offsets of the file.
type hint struct {
	cursor uint64
	off, n int64 // n == 0 withdraws
	rate   int64 // bytes a second; 0: as fast as they come
}

// A readahead decides, for one open file, what is likely to be read soon. It follows a few runs of sequential reads, each with
// a cursor of its own, and keeps a window ahead of every run that has proven itself: the window is fixed to the position, so
// that a reader that stops stops the fetching too. Reads at random places get none.
//
// It is pure policy: it owns no clock, no lock and no goroutine.
type readahead struct {
	size  int64 // of the file
	piece int64 // length of a piece
	max   int64 // cap of one window

	cursors []*cursor
	last    *cursor // of the newest read
	proof   int64   // bytes a run must exceed to earn a window; grows when such windows turned out useless
	open    int     // windows announced and not withdrawn
	hints   []hint  // reused from call to call
}

// A cursor is one sequential run of reads.
type cursor struct {
	id       uint64 // process-unique, given with the first window
	first    int64  // where the run began
	end      int64  // highest offset read, exclusive
	run      int64  // bytes read in order
	span     int64  // bytes passed over lately, and
	got      int64  // how many of these were read
	proven   bool
	from, to int64 // the window announced; empty when withdrawn
	used     time.Time
	flow     flow
}

var cursorIDs atomic.Uint64

func newReadahead(size, piece, limit int64) *readahead {
	return &readahead{size: size, piece: piece, max: limit, proof: kernelRead}
}

// begin accounts for a read of [off, off+n) that is about to be served, n > 0, and returns the cursor it belongs to and what to
// tell Content first. No window exceeds limit. The hints are valid until the next call.
func (r *readahead) begin(now time.Time, off, n, limit int64) (*cursor, []hint) {
	r.hints = r.hints[:0]
	c := r.find(off)
	if c == nil {
		c = r.start(off)
	}
	r.last = c
	c.used = now
	c.flow.begin(now, n)
	c.advance(off, n)
	switch gaps := c.span - c.got; {
	case gaps > c.got+slack: // hops forward, not a run
		c.run, c.first, c.proven = 0, -1, false
	case gaps > c.got: // hops, or reads out of order: too early to tell
	case c.run > r.proof, c.first == 0 && c.run >= openingRead:
		c.proven = true
	}
	if !c.proven {
		r.withdraw(c)
		return c, r.hints
	}
	for _, o := range r.cursors {
		if o != c && o.flow.reads == 0 && now.Sub(o.used) > quiet {
			r.withdraw(o)
		}
	}
	r.announce(c, now, limit)
	return c, r.hints
}

// finish accounts for the end of a read that begin returned c for.
func (r *readahead) finish(c *cursor, now time.Time) {
	c.used = now
	c.flow.finish(now)
}

// withdrawAll takes every window back; a read that follows announces its own again.
func (r *readahead) withdrawAll() []hint {
	r.hints = r.hints[:0]
	for _, c := range r.cursors {
		r.withdraw(c)
	}
	return r.hints
}

// covers says whether a run has all of the file in it, what it has announced included.
func (r *readahead) covers(c *cursor) bool {
	return c.first == 0 && c.run == c.end && (c.end == r.size || c.from < c.to && c.to == r.size)
}

// find returns the cursor whose run a read at off continues, the nearest if there are several.
func (r *readahead) find(off int64) (best *cursor) {
	near := int64(slack)
	for _, c := range r.cursors {
		if d := max(off-c.end, c.end-off); d <= near && (best == nil || d < near) {
			best, near = c, d
		}
	}
	return best
}

// start begins a new run at off, in place of the least useful one when there are too many.
func (r *readahead) start(off int64) *cursor {
	if p := r.last; p != nil && p.proven {
		// A reader that jumps after a short run reads in large strides at random places: ask the next run for more proof.
		if p.run < shortRun {
			r.proof = max(r.proof, min(2*p.run, shortRun))
		} else {
			r.proof = kernelRead
		}
	}
	if len(r.cursors) == maxCursors {
		old := slices.MinFunc(r.cursors, func(a, b *cursor) int {
			if a.proven != b.proven { // random reads never cost a run its place
				if a.proven {
					return 1
				}
				return -1
			}
			return a.used.Compare(b.used)
		})
		r.withdraw(old)
		r.cursors = slices.DeleteFunc(r.cursors, func(c *cursor) bool { return c == old })
	}
	c := &cursor{first: off, end: off}
	r.cursors = append(r.cursors, c)
	return c
}

// advance moves the cursor over a read. A read behind the end fills a gap that an earlier one, delivered out of order, left.
func (c *cursor) advance(off, n int64) {
	if off < c.first && c.run <= kernelRead { // the run's second read overtook its first
		c.span += c.first - off
		c.first = off
	}
	if end := off + n; end > c.end {
		c.span += end - c.end
		c.end = end
	}
	read := min(n, c.span-c.got)
	c.got += read
	c.run += read
	if c.span > memory {
		c.span /= 2
		c.got /= 2
	}
}

// announce renews the window of c where it moved by a noticeable amount.
func (r *readahead) announce(c *cursor, now time.Time, limit int64) {
	w := r.window(c.run, limit)
	from := min(c.end, r.size)
	to := min(from+w, r.size)
	if from >= to {
		r.withdraw(c)
		return
	}
	if c.from < c.to {
		step := min(w/8, max(r.piece, minStep))
		if from-c.from < step && to-c.to < step && c.to-to < step {
			return
		}
	} else {
		r.open++
	}
	if c.id == 0 {
		c.id = cursorIDs.Add(1)
	}
	c.from, c.to = from, to
	r.hints = append(r.hints, hint{c.id, from, to - from, c.flow.rate()})
}

func (r *readahead) withdraw(c *cursor) {
	if c.from < c.to {
		r.open--
		r.hints = append(r.hints, hint{cursor: c.id, off: c.from})
		c.from, c.to = 0, 0
	}
}

// window returns how many bytes ahead a run of that length earns: as much as it has read, in doublings.
func (r *readahead) window(run, limit int64) int64 {
	w := max(2*r.piece, minWindow)
	top := min(r.max, limit)
	for w < top && w <= run {
		w *= 2
	}
	return min(w, top)
}

// A flow measures how fast a cursor consumes bytes, as sums that fade over rateSpan.
type flow struct {
	bytes, span, busy float64 // bytes; seconds; seconds with a read under way
	reads             int     // under way
	mark              time.Time
}

func (f *flow) begin(now time.Time, n int64) {
	f.pass(now)
	f.bytes += float64(n)
	f.reads++
}

func (f *flow) finish(now time.Time) {
	f.pass(now)
	f.reads--
}

func (f *flow) pass(now time.Time) {
	d := now.Sub(f.mark)
	if f.mark.IsZero() || f.reads == 0 && d > pause {
		*f = flow{reads: f.reads, mark: now}
		return
	}
	if d <= 0 {
		return
	}
	f.mark = now
	tau := rateSpan.Seconds()
	keep := math.Exp(-d.Seconds() / tau)
	passed := tau * (1 - keep)
	f.bytes *= keep
	f.span = f.span*keep + passed
	f.busy *= keep
	if f.reads > 0 {
		f.busy += passed
	}
}

// rate returns bytes a second, or 0 while too little was seen or when the reader waits for data most of the time and so reads
// as fast as they come.
func (f *flow) rate() int64 {
	if f.span < 1 || f.busy > f.span/2 {
		return 0
	}
	return int64(f.bytes / f.span)
}

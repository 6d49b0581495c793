package fs

import (
	"math/rand/v2"
	"testing"
	"time"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// A reader drives a readahead the way a program and the kernel do, on a clock of its own, and keeps what
// Content would know.
type reader struct {
	t       *testing.T
	r       *readahead
	now     time.Time
	limit   int64
	windows map[uint64]hint // not withdrawn
	calls   int
}

func newReader(t *testing.T, size, piece, limit int64) *reader {
	t.Helper()
	return &reader{
		t:       t,
		r:       newReadahead(size, piece, limit),
		now:     time.Unix(1e9, 0),
		limit:   limit,
		windows: make(map[uint64]hint),
	}
}

// read makes one read that takes took and comes after a while of thinking.
func (r *reader) read(off, n int64, think, took time.Duration) []hint {
	r.t.Helper()
	r.now = r.now.Add(think)
	c, hints := r.r.begin(r.now, off, n, r.limit)
	r.note(hints)
	r.now = r.now.Add(took)
	r.r.finish(c, r.now)
	return hints
}

func (r *reader) note(hints []hint) {
	r.t.Helper()
	for _, h := range hints {
		r.calls++
		if h.off < 0 || h.n < 0 || h.off+h.n > r.r.size {
			r.t.Fatalf("window [%d, %d) of a file of %d bytes", h.off, h.off+h.n, r.r.size)
		}
		if h.n == 0 {
			if _, ok := r.windows[h.cursor]; !ok {
				r.t.Fatalf("cursor %d withdrawn twice", h.cursor)
			}
			delete(r.windows, h.cursor)
			continue
		}
		r.windows[h.cursor] = h
	}
	if len(r.windows) != r.r.open {
		r.t.Fatalf("%d windows announced, %d counted", len(r.windows), r.r.open)
	}
}

// run reads [from, to) in order, in reads of n bytes.
func (r *reader) run(from, to, n int64, think time.Duration) {
	r.t.Helper()
	for ; from < to; from += n {
		r.read(from, min(n, to-from), think, time.Millisecond)
	}
}

// only returns the one window there is.
func (r *reader) only() hint {
	r.t.Helper()
	if len(r.windows) != 1 {
		r.t.Fatalf("windows %v, want one", r.windows)
	}
	for _, h := range r.windows {
		return h
	}
	panic("unreachable")
}

func (r *reader) none() {
	r.t.Helper()
	if len(r.windows) != 0 {
		r.t.Fatalf("windows %v, want none", r.windows)
	}
}

func TestReadaheadGrowsWithTheRun(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	hints := r.read(0, 128*kib, 0, 0)
	if len(hints) != 1 || hints[0].off != 128*kib || hints[0].n != 4*mib {
		t.Fatalf("the opening read announces %v, want 4 MiB behind it", hints)
	}
	for _, step := range []struct{ at, window int64 }{
		{3 * mib, 4 * mib},
		{5 * mib, 8 * mib},
		{9 * mib, 16 * mib},
		{17 * mib, 32 * mib},
		{34 * mib, 64 * mib},
		{200 * mib, 64 * mib},
	} {
		r.run(r.r.last.end, step.at, 128*kib, time.Millisecond)
		w := r.only()
		if behind := step.at - w.off; behind < 0 || behind > mib {
			t.Errorf("at %d: the window begins at %d", step.at, w.off)
		}
		if w.n != step.window {
			t.Errorf("at %d: a window of %d bytes, want %d", step.at, w.n, step.window)
		}
	}
	if reads := int(200 * mib / (128 * kib)); r.calls > reads/6 {
		t.Errorf("%d announcements for %d reads", r.calls, reads)
	}
}

func TestReadaheadWindowIsAtLeastTwoPiecesUnlessCapped(t *testing.T) {
	for _, c := range []struct{ size, piece, max, limit, want int64 }{
		{gib, 16 * kib, 64 * mib, 64 * mib, 4 * mib},
		{gib, 16 * mib, 64 * mib, 64 * mib, 32 * mib},
		{gib, 16 * mib, 8 * mib, 64 * mib, 8 * mib},
		{gib, mib, 64 * mib, mib, mib},
		{gib, mib, 0, 0, 0},
		{300 * kib, mib, 64 * mib, 64 * mib, 172 * kib},
		{128 * kib, mib, 64 * mib, 64 * mib, 0},
	} {
		r := newReader(t, c.size, c.piece, c.max)
		r.limit = c.limit
		r.read(0, 128*kib, 0, 0)
		if c.want == 0 {
			r.none()
		} else if w := r.only(); w.n != c.want {
			t.Errorf("%+v: window of %d bytes", c, w.n)
		}
	}
}

func TestReadaheadEndsWithTheFile(t *testing.T) {
	r := newReader(t, 10*mib+5, mib, 64*mib)
	r.run(0, 10*mib+5, 128*kib, 0)
	r.none()
}

func TestReadaheadBeginsInTheMiddleWithTheSecondRead(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	r.read(500*mib, 128*kib, 0, 0)
	r.none()
	r.read(500*mib+128*kib, 128*kib, 0, 0)
	if w := r.only(); w.off != 500*mib+256*kib || w.n != 4*mib {
		t.Errorf("window %+v", w)
	}
}

func TestReadaheadGivesNothingForALookAtAHeader(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	r.read(0, 16*kib, 0, 0)
	r.none()
}

func TestReadaheadGivesRandomReadsNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int64{4 * kib, 64 * kib, 128 * kib} {
		r := newReader(t, 100*gib, mib, 64*mib)
		for range 1000 {
			r.read(mib+rng.Int64N(99*gib), n, time.Millisecond, time.Millisecond)
			r.none()
		}
	}
}

func TestReadaheadGivesHopsNothing(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	for off := mib; off < 900*mib; off += 700 * kib {
		r.read(off, 64*kib, time.Millisecond, time.Millisecond)
		r.none()
	}
}

// A program that reads large records at random places makes the kernel send short runs.
func TestReadaheadLearnsThatRunsAreShort(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := newReader(t, 100*gib, mib, 64*mib)
	granted := 0
	for range 100 {
		from := mib + rng.Int64N(99*gib)
		before := r.calls
		r.run(from, from+mib, 128*kib, 0)
		if r.calls > before {
			granted++
		}
	}
	if granted > 2 {
		t.Errorf("%d of 100 random records were taken for a run", granted)
	}
	// A long run is recognised all the same, and the next one at once again.
	r.now = r.now.Add(time.Minute)
	r.run(20*gib, 20*gib+20*mib, 128*kib, 0)
	if w := r.only(); w.n < 16*mib {
		t.Errorf("after a run of 20 MiB the window has %d bytes", w.n)
	}
	r.now = r.now.Add(time.Minute)
	r.run(50*gib, 50*gib+256*kib, 128*kib, 0)
	if w := r.only(); w.off != 50*gib+256*kib {
		t.Errorf("window %+v", w)
	}
}

func TestReadaheadToleratesReadsOutOfOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, start := range []int64{0, 300 * mib} {
		r := newReader(t, gib, mib, 64*mib)
		const batch = 8 // of the kernel's reads, 1 MiB
		for from := start; from < start+100*mib; from += batch * 128 * kib {
			for _, i := range rng.Perm(batch) {
				r.read(from+int64(i)*128*kib, 128*kib, 0, time.Millisecond)
			}
		}
		if n := len(r.r.cursors); n != 1 {
			t.Errorf("from %d: %d cursors", start, n)
		}
		if w := r.only(); w.n != 64*mib || w.off < start+99*mib {
			t.Errorf("from %d: window %+v after 100 MiB", start, w)
		}
	}
}

func TestReadaheadCountsASecondReadThatOvertookTheFirst(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	r.read(128*kib, 128*kib, 0, 0)
	r.none()
	r.read(0, 128*kib, 0, 0)
	if w := r.only(); w.off != 256*kib {
		t.Errorf("window %+v", w)
	}
}

func TestReadaheadFollowsTwoTracks(t *testing.T) {
	r := newReader(t, 4*gib, mib, 64*mib)
	video, audio := int64(0), 3*gib
	for range 400 {
		r.read(video, 128*kib, 10*time.Millisecond, time.Millisecond)
		video += 128 * kib
		r.read(audio, 64*kib, 10*time.Millisecond, time.Millisecond)
		audio += 64 * kib
	}
	if len(r.windows) != 2 {
		t.Fatalf("windows %v, want two", r.windows)
	}
	for _, w := range r.windows {
		near := func(pos int64) bool { return pos-w.off >= 0 && pos-w.off < 4*mib }
		if !near(video) && !near(audio) {
			t.Errorf("window %+v belongs to neither track (%d, %d)", w, video, audio)
		}
		if w.n < 16*mib {
			t.Errorf("window %+v has not grown", w)
		}
	}
}

func TestReadaheadSurvivesProbesOfHeadAndTail(t *testing.T) {
	const size = 2 * gib
	r := newReader(t, size, mib, 64*mib)
	r.run(0, 100*mib, 128*kib, time.Millisecond)
	grown := r.only()
	r.run(size-300*kib, size, 64*kib, time.Millisecond)
	r.run(0, 512*kib, 64*kib, time.Millisecond)
	if w, ok := r.windows[grown.cursor]; !ok || w != grown {
		t.Fatalf("the probes changed the main window %+v to %+v", grown, w)
	}
	r.run(100*mib, 102*mib, 128*kib, time.Millisecond)
	if w := r.windows[grown.cursor]; w.n != grown.n || w.off <= grown.off {
		t.Errorf("the run goes on with the window %+v, before it had %+v", w, grown)
	}
}

func TestReadaheadKeepsTheRunAmongRandomReads(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	r := newReader(t, 100*gib, mib, 64*mib)
	pos := int64(0)
	for range 500 {
		r.read(pos, 128*kib, 0, time.Millisecond)
		pos += 128 * kib
		for range 10 {
			r.read(10*gib+rng.Int64N(80*gib), 64*kib, 0, time.Millisecond)
		}
	}
	if w := r.only(); w.n < 32*mib || w.off < pos-2*mib {
		t.Errorf("window %+v at %d", w, pos)
	}
}

func TestReadaheadLeavesThePlaceBeforeASeek(t *testing.T) {
	r := newReader(t, 4*gib, mib, 64*mib)
	r.run(0, 50*mib, 128*kib, time.Millisecond)
	old := r.only()
	r.run(2*gib, 2*gib+mib, 128*kib, 200*time.Millisecond)
	if w := r.only(); w.cursor == old.cursor {
		t.Fatal("the window at the place before the seek is still there")
	}
	// Back again: the old run goes on.
	r.read(50*mib, 128*kib, 0, 0)
	if w, ok := r.windows[old.cursor]; !ok || w.n != old.n {
		t.Errorf("back at the old place the window is %+v, was %+v", w, old)
	}
}

// A pause stops nothing by itself: the window is fixed to the position, so what is fetched ahead has an end.
func TestReadaheadWindowStaysDuringAPause(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	r.run(0, 10*mib, 128*kib, 100*time.Millisecond)
	before := r.only()
	if before.rate == 0 {
		t.Error("no rate before the pause")
	}
	r.read(10*mib, 128*kib, 10*time.Minute, time.Millisecond)
	r.run(10*mib+128*kib, 11*mib+128*kib, 128*kib, 0)
	after := r.only()
	if after.cursor != before.cursor || after.n != before.n {
		t.Errorf("window %+v before the pause, %+v after it", before, after)
	}
	if after.rate != 0 {
		t.Errorf("rate %d counts the pause", after.rate)
	}
}

func TestReadaheadWithdrawsAndAnnouncesAgain(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	r.run(0, 20*mib, 128*kib, 0)
	before := r.only()
	r.note(r.r.withdrawAll())
	r.none()
	r.read(20*mib, 128*kib, 0, 0)
	if w := r.only(); w.cursor != before.cursor || w.n != before.n {
		t.Errorf("window %+v, before it was withdrawn %+v", w, before)
	}
}

func TestReadaheadObeysAShrinkingLimit(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	r.run(0, 100*mib, 128*kib, 0)
	r.limit = 8 * mib
	r.read(100*mib, 128*kib, 0, 0)
	if w := r.only(); w.n != 8*mib {
		t.Errorf("window of %d bytes", w.n)
	}
}

func TestReadaheadReadsBackwards(t *testing.T) {
	r := newReader(t, gib, mib, 64*mib)
	for off := 900 * mib; off > 800*mib; off -= 64 * kib {
		r.read(off, 64*kib, 0, 0)
	}
	if r.calls > 2*maxCursors*20 {
		t.Errorf("%d announcements for a file read backwards", r.calls)
	}
}

func TestReadaheadMeasuresTheRate(t *testing.T) {
	const player = 1_250_000
	for _, c := range []struct {
		name        string
		n           int64
		think, took time.Duration
		min, max    int64
	}{
		{"player", 128 * kib, time.Second * 128 * 1024 / player, time.Millisecond, player * 9 / 10, player * 11 / 10},
		{"player with large reads", mib, time.Second * 1024 * 1024 / player, 20 * time.Millisecond, player * 8 / 10, player * 12 / 10},
		{"waits for data", 128 * kib, 5 * time.Millisecond, 100 * time.Millisecond, 0, 0},
		{"copies from memory", 128 * kib, 0, 100 * time.Microsecond, 0, 0},
	} {
		r := newReader(t, 10*gib, mib, 64*mib)
		for off := int64(0); r.now.Before(time.Unix(1e9+60, 0)) && off < 9*gib; off += c.n {
			r.read(off, c.n, c.think, c.took)
		}
		if w := r.only(); w.rate < c.min || w.rate > c.max {
			t.Errorf("%s: rate %d, want %d to %d", c.name, w.rate, c.min, c.max)
		}
	}
}

func TestReadaheadCursorsAreUniqueInTheProcess(t *testing.T) {
	a, b := newReader(t, gib, mib, 64*mib), newReader(t, gib, mib, 64*mib)
	a.read(0, 128*kib, 0, 0)
	b.read(0, 128*kib, 0, 0)
	if a.only().cursor == b.only().cursor {
		t.Error("two open files share a cursor")
	}
}

func BenchmarkReadahead(b *testing.B) {
	r := newReadahead(1<<60, mib, 64*mib)
	now := time.Unix(1e9, 0)
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		c, _ := r.begin(now, off, 128*kib, 64*mib)
		r.finish(c, now)
		off += 128 * kib
		now = now.Add(50 * time.Microsecond)
	}
}

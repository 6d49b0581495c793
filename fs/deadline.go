package fs

import (
	"context"
	"slices"
	"time"
)

const (
	// echo is for how long after a read failed the kernel's next attempt at it is expected.
	echo = time.Second
	// echoTimeout is what such an attempt gets after a time-out: time for data that is at hand by now, not for peers.
	echoTimeout = 100 * time.Millisecond
	// maxInterrupted is how many reads a handle remembers as interrupted: of so many threads at once.
	maxInterrupted = 64
)

// A lateRead is a read that timed out. Where the kernel read ahead for a program, it answers the failure by
// reading the one page that the program waits for once more, and that would take the whole time again.
type lateRead struct {
	off, n int64
	at     time.Time
}

// An interruption is a read that a signal ended. If it was made for a mapping, then the program touches the same page again as
// soon as it has handled the signal, and the kernel reads again. Such attempts share the deadline of the first, or one who gets
// signals all the time would wait for ever.
type interruption struct {
	off, n   int64
	deadline time.Time
	at       time.Time
}

// read fills p from the file's offset off, within the mount's time limit, and says in the log why it can't.
func (h *handle) read(ctx context.Context, p []byte, off int64) error {
	f, n := h.file, int64(len(p))
	if err := f.tree.life.Err(); err != nil {
		return err
	}
	deadline, again := h.deadline(off, n, time.Now())
	req := ctx
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(f.tree.life, cancel)()
	err := f.content.ReadAt(ctx, p, f.begin+off)
	switch {
	case err == nil || f.tree.life.Err() != nil:
		return err
	case req.Err() != nil:
		h.interrupted(interruption{off, n, deadline, time.Now()})
		return err
	case again:
		return err
	}
	f.tree.log.Warn("read failed", "file", f.path, "offset", off, "bytes", n, "error", err)
	if ctx.Err() != nil {
		f.late.Store(&lateRead{off, n, time.Now()})
	}
	return err
}

// deadline returns until when a read may wait, and whether it is another attempt at one that is known to have failed.
func (h *handle) deadline(off, n int64, now time.Time) (deadline time.Time, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Some time after its deadline it is a new read of a program that does not give up.
	h.cut = slices.DeleteFunc(h.cut, func(i interruption) bool { return now.Sub(i.at) >= echo || now.Sub(i.deadline) >= echo })
	limit := h.file.tree.readTimeout
	l := h.file.late.Load()
	if again = l != nil && overlap(off, n, l.off, l.n) && now.Sub(l.at) < echo; again {
		limit = min(limit, echoTimeout)
	}
	for _, i := range h.cut {
		if overlap(off, n, i.off, i.n) {
			return i.deadline, again
		}
	}
	return now.Add(limit), again
}

// interrupted remembers a read that was interrupted.
func (h *handle) interrupted(i interruption) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut = slices.DeleteFunc(h.cut, func(o interruption) bool { return overlap(o.off, o.n, i.off, i.n) })
	if len(h.cut) == maxInterrupted {
		h.cut = slices.Delete(h.cut, 0, 1)
	}
	h.cut = append(h.cut, i)
}

// overlap says whether the n bytes at a and the m bytes at b have some in common.
func overlap(a, n, b, m int64) bool { return a < b+m && b < a+n }

package fs

import (
	"sync"
	"time"
)

// A handle is an open file: one for every open, shared by those who inherited or duplicated it.
type handle struct {
	file *file

	mu       sync.Mutex // over what follows; held while Content.Ahead is called, so that hints arrive in order
	ahead    *readahead
	flushes  int  // calls of Flush
	held     bool // no window is announced
	released bool
	passed   bool           // the walk knows of it
	cut      []interruption // lately, the newest last
}

func newHandle(f *file) *handle {
	return &handle{file: f, ahead: newReadahead(f.size, f.piece, f.tree.readAhead)}
}

// began tells Content what is likely to follow a read before that read waits, so that both are fetched at once.
func (h *handle) began(off, n int64) (c *cursor, flushes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released || h.file.tree.life.Err() != nil {
		return nil, 0
	}
	limit := h.file.tree.windowLimit()
	if h.held {
		limit = 0
	}
	open := h.ahead.open
	c, hints := h.ahead.begin(time.Now(), off, n, limit)
	h.tell(hints, open)
	if !h.passed && !h.held && h.ahead.covers(c) {
		h.passed = true
		h.file.walk.pass(h.file)
	}
	return c, h.flushes
}

func (h *handle) finished(c *cursor, flushes int) {
	if c == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ahead.finish(c, time.Now())
	if flushes == h.flushes {
		h.held = false
	}
}

// flush is called whenever a descriptor of the file is closed, and withdraws all windows: the Release of the
// last one may be long in coming, since the kernel holds it back while a read is under way, even one that it
// made ahead for a program that has been killed.
//
// There may be other descriptors, whose reads announce what they need again, but not the first: it may have
// been sent before the Flush and overtaken by it. A second one can only come from somebody alive.
func (h *handle) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flushes++
	h.held = true
	h.withdraw()
}

// release is called when the last descriptor and the last mapping of the file are gone.
func (h *handle) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = true
	h.withdraw()
}

// withdraw takes all windows back. It is called with mu held.
func (h *handle) withdraw() {
	open := h.ahead.open
	h.tell(h.ahead.withdrawAll(), open)
}

// tell passes hints on; open is how many windows the handle had before. It is called with mu held.
func (h *handle) tell(hints []hint, open int) {
	for _, hint := range hints {
		h.file.content.Ahead(hint.cursor, h.file.begin+hint.off, hint.n, hint.rate)
	}
	if d := h.ahead.open - open; d != 0 {
		h.file.tree.windows.Add(int64(d))
	}
}

// windowLimit returns the most that one window may take now, in bytes. Two windows may be as large as they
// like; more have to share what these two would take, so that what is fetched ahead for one reader doesn't
// push what was fetched for another out of the cache before it is read.
func (t *Tree) windowLimit() int64 {
	return 2 * t.readAhead / max(2, t.windows.Load())
}

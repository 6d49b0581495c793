package fs

import (
	"slices"
	"sync"
	"time"
)

const (
	// walkProof is how many files in a row have to be read whole before the next ones are read ahead: a person who looks at
	// one file, or a program that reads two that belong together, wants no more.
	walkProof = 3
	// maxWalks is how many programs are followed at a time in one torrent.
	maxWalks = 4
)

// A walk follows programs that read the files of a torrent whole and in its order, as cp -r, tar and grep -r do, and keeps a
// window ahead of each across the borders of files. Without that every small file would cost a round trip to a peer. There is one
// for each torrent; a nil walk follows nobody.
type walk struct {
	tree    *Tree
	content Content

	mu    sync.Mutex // over what follows; held while Content.Ahead is called
	ahead *readahead // announces and withdraws, in offsets of the torrent; its own cursors are not used
	runs  []*walkRun
	idle  *time.Timer // withdraws the windows of those who have gone; nil: no window has ever been announced
}

// A walkRun is one program on its way.
type walkRun struct {
	cursor
	files int   // read in a row
	next  int64 // where the file begins that follows
}

func newWalk(t *Tree, c Content, piece int64) *walk {
	return &walk{tree: t, content: c, ahead: newReadahead(0, piece, t.readAhead)}
}

// pass accounts for a file that has been read whole, or will have been in a moment.
func (w *walk) pass(f *file) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now, limit := time.Now(), w.tree.windowLimit()
	w.tell(func() {
		r := w.find(f)
		if r == nil {
			r = w.start(f)
		}
		ahead := f.begin+f.size > r.end
		r.used = now
		r.advance(f.begin, f.size)
		if gaps := r.span - r.got; gaps > r.got+slack { // it picks some
			r.files, r.run, r.proven = 0, 0, false
		}
		if ahead {
			r.files++
			r.next = f.next
		}
		if r.proven = r.proven || r.files >= walkProof; !r.proven {
			w.ahead.withdraw(&r.cursor)
			return
		}
		w.ahead.size = f.reach
		w.ahead.announce(&r.cursor, now, limit)
	})
	if w.ahead.open == 0 {
		return
	}
	if w.idle == nil {
		w.idle = time.AfterFunc(pause, w.rest)
	} else {
		w.idle.Reset(pause)
	}
}

// find returns the run that a file continues: as the very next file, or once the run has proven itself as one near by, since
// several may be read at once and the kernel may have had some already.
func (w *walk) find(f *file) *walkRun {
	for _, r := range w.runs {
		if f.begin == r.next || r.proven && f.begin >= r.end-slack && f.begin <= max(r.to, r.end+slack) {
			return r
		}
	}
	return nil
}

// start begins a new run, in place of the one silent for longest when there are too many.
func (w *walk) start(f *file) *walkRun {
	if len(w.runs) == maxWalks {
		old := slices.MinFunc(w.runs, func(a, b *walkRun) int { return a.used.Compare(b.used) })
		w.ahead.withdraw(&old.cursor)
		w.runs = slices.DeleteFunc(w.runs, func(r *walkRun) bool { return r == old })
	}
	r := &walkRun{cursor: cursor{first: f.begin, end: f.begin}}
	w.runs = append(w.runs, r)
	return r
}

// rest withdraws all windows: nobody has read on for a while.
func (w *walk) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(func() {
		for _, r := range w.runs {
			w.ahead.withdraw(&r.cursor)
		}
	})
}

// tell passes on the hints that change leaves. It is called with mu held.
func (w *walk) tell(change func()) {
	open := w.ahead.open
	w.ahead.hints = w.ahead.hints[:0]
	change()
	for _, h := range w.ahead.hints {
		w.content.Ahead(h.cursor, h.off, h.n, 0)
	}
	w.tree.windows.Add(int64(w.ahead.open - open))
}

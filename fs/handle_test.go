package fs

import (
	"context"
	"errors"
	"syscall"
	"testing"
)

// wish keeps what Ahead was told.
type wish struct {
	windows map[uint64]span
	order   []string // "ahead" and "read", as they come
	err     error
}

func (w *wish) ReadAt(_ context.Context, p []byte, off int64) error {
	w.order = append(w.order, "read")
	for i := range p {
		p[i] = byte(off + int64(i))
	}
	return w.err
}

func (w *wish) View(int64, int64) ([]byte, func(), bool) { return nil, nil, false }

func (w *wish) Ahead(cursor uint64, off, n, rate int64) {
	w.order = append(w.order, "ahead")
	w.windows[cursor] = span{off, n, rate}
	if n == 0 {
		delete(w.windows, cursor)
	}
}

// openFile returns an open file of a tree that nobody mounted; it begins at 1000 in its torrent.
func openFile(t *testing.T, w *wish, size int64) *handle {
	w.windows = make(map[uint64]span)
	tree := bare()
	tree.readTimeout, tree.readAhead = patient, 64*mib
	tree.life, tree.abort = context.WithCancel(t.Context())
	return newHandle(&file{tree: tree, content: w, stat: stat{size: size}, begin: 1000, piece: mib})
}

// read reads as the server does.
func read(t *testing.T, h *handle, off int64, n int) ([]byte, error) {
	p := make([]byte, max(0, min(int64(n), h.file.size-off)))
	if len(p) == 0 {
		return nil, nil
	}
	c, flushes := h.began(off, int64(len(p)))
	err := errno(t.Context(), h.read(t.Context(), p, off))
	h.finished(c, flushes)
	if err != nil {
		p = nil
	}
	return p, err
}

func TestReadAnswersAllOfIt(t *testing.T) {
	h := openFile(t, new(wish), 300_001)
	for _, c := range []struct{ off, n, want int64 }{
		{0, 4096, 4096}, {5, 131072, 131072}, {299_999, 4096, 2}, {300_000, 1, 1}, {300_001, 1, 0}, {1 << 40, 4096, 0},
	} {
		data, err := read(t, h, c.off, int(c.n))
		if err != nil || int64(len(data)) != c.want || c.want > 0 && data[0] != byte(1000+c.off) {
			t.Errorf("%+v: %d bytes, %v", c, len(data), err)
		}
	}
	h = openFile(t, &wish{err: errors.New("no")}, 300_001)
	if data, err := read(t, h, 0, 4096); err != syscall.EIO || len(data) != 0 { //nolint:errorlint // as the kernel gets it
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestAheadIsToldBeforeTheReadWaits(t *testing.T) {
	w := new(wish)
	h := openFile(t, w, gib)
	if _, err := read(t, h, 0, 128<<10); err != nil {
		t.Fatal(err)
	}
	if len(w.order) != 2 || w.order[0] != "ahead" {
		t.Errorf("%v", w.order)
	}
	for _, s := range w.windows {
		if s.Off != 1000+128<<10 || s.N != 4*mib {
			t.Errorf("%+v", s)
		}
	}
}

func TestReleaseWithdrawsAllWindows(t *testing.T) {
	w := new(wish)
	h := openFile(t, w, 8*gib)
	for i := range int64(3) {
		for j := range int64(40) {
			_, _ = read(t, h, i*gib+j*128*kib, 128<<10)
		}
	}
	if len(w.windows) != 3 || h.file.tree.windows.Load() != 3 {
		t.Errorf("%v", w.windows)
	}
	h.release()
	if len(w.windows) != 0 || h.file.tree.windows.Load() != 0 {
		t.Errorf("%v", w.windows)
	}
}

func TestNothingIsReadOrAnnouncedAfterTheMount(t *testing.T) {
	w := new(wish)
	h := openFile(t, w, gib)
	h.file.tree.abort()
	if _, err := read(t, h, 0, 128<<10); err != syscall.EIO || len(w.order) != 0 { //nolint:errorlint // as the kernel gets it
		t.Errorf("%v, %v", err, w.order)
	}
}

// A read that was sent before a descriptor was closed, and is served after it, announces nothing.
func TestFlushHoldsWindowsBackUntilSomebodyReadsOn(t *testing.T) {
	w := new(wish)
	h := openFile(t, w, gib)
	late, flushes := h.began(0, 128*kib)
	h.flush()
	if len(w.windows) != 0 {
		t.Fatalf("after the flush: %v", w.windows)
	}
	h.finished(late, flushes)
	overtaken, flushes := h.began(128*kib, 128*kib)
	if len(w.windows) != 0 {
		t.Errorf("a read that the flush overtook: %v", w.windows)
	}
	h.finished(overtaken, flushes)
	if _, err := read(t, h, 256*kib, 128<<10); err != nil || len(w.windows) != 1 {
		t.Errorf("somebody reads on: %v, %v", w.windows, err)
	}
}

func BenchmarkHandleRead(b *testing.B) {
	tree := bare()
	tree.readTimeout, tree.readAhead = patient, 64*mib
	tree.life, tree.abort = context.WithCancel(b.Context())
	h := newHandle(&file{tree: tree, content: nothing{}, stat: stat{size: 1 << 60}, piece: mib})
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		c, flushes := h.began(off, 128<<10)
		_, release, _ := h.file.view(off, 128<<10)
		release()
		h.finished(c, flushes)
		off += 128 << 10
	}
}

// nothing is a Content that costs nothing.
type nothing struct{}

func (nothing) ReadAt(context.Context, []byte, int64) error { return nil }
func (nothing) View(int64, int64) ([]byte, func(), bool)    { return nil, func() {}, true }
func (nothing) Ahead(uint64, int64, int64, int64)           {}

package fs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// noPeers is a Content that has nothing and waits for it.
type noPeers struct{}

func (noPeers) ReadAt(ctx context.Context, _ []byte, _ int64) error {
	<-ctx.Done()
	return ctx.Err()
}

func (noPeers) View(int64, int64) ([]byte, func(), bool) { return nil, nil, false }

func (noPeers) Ahead(uint64, int64, int64, int64) {}

// waiting returns an open file that has no content, in a tree that nobody mounted.
func waiting(t *testing.T) *handle {
	tree := bare()
	tree.readTimeout = time.Minute
	tree.life, tree.abort = context.WithCancel(t.Context())
	return newHandle(&file{tree: tree, content: noPeers{}, stat: stat{size: 1 << 30}})
}

// The kernel answers the failure of what it read ahead with a second attempt; a program is not to wait twice.
func TestASecondAttemptIsBrief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := waiting(t)
		takes := func(off, n int64, want time.Duration) {
			t.Helper()
			begun := time.Now()
			if err := h.read(t.Context(), make([]byte, n), off); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if d := time.Since(begun); d != want {
				t.Errorf("a read at %d takes %v, want %v", off, d, want)
			}
		}
		takes(128<<10, 128<<10, time.Minute)
		takes(200<<10, 4<<10, echoTimeout)   // the page that the program waits for
		takes(252<<10, 4<<10, echoTimeout)   // that another program waits for
		takes(256<<10, 128<<10, time.Minute) // another read
		takes(128<<10, 4<<10, time.Minute)   // long after
		takes(128<<10, 128<<10, echoTimeout) // overlaps
		time.Sleep(echo)                     // virtual time
		takes(128<<10, 128<<10, time.Minute) // the program itself, once more
	})
}

// A program that gets signals all the time waits no longer than others: what is interrupted and tried again goes on with what is
// left of its time.
func TestInterruptedAttemptsShareADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := waiting(t)
		attempt := func(off int64, interrupt time.Duration) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			defer time.AfterFunc(interrupt, cancel).Stop()
			return h.read(ctx, make([]byte, 4096), off)
		}
		for _, every := range []time.Duration{time.Millisecond, echo / 2, 40 * time.Second} {
			for _, off := range []int64{0, 1 << 20} {
				begun := time.Now()
				for !errors.Is(attempt(off, every), context.DeadlineExceeded) {
					if time.Since(begun) > 10*time.Minute {
						t.Fatalf("interrupted every %v it never ends", every)
					}
				}
				if d := time.Since(begun); d != time.Minute {
					t.Errorf("interrupted every %v it takes %v", every, d)
				}
				if err := attempt(off, every); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("interrupted every %v: the kernel's last attempt gives %v", every, err)
				}
			}
		}
		_ = attempt(0, 10*time.Second)
		time.Sleep(echo) // virtual time
		begun := time.Now()
		_ = attempt(0, time.Hour)
		if d := time.Since(begun); d != time.Minute {
			t.Errorf("a read some time after one that was interrupted takes %v", d)
		}
	})
}

// A handle remembers only so many.
func TestInterruptionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := waiting(t)
		for i := range int64(10 * maxInterrupted) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = h.read(ctx, make([]byte, 4096), i<<20)
		}
		if len(h.cut) != maxInterrupted {
			t.Errorf("%d are remembered", len(h.cut))
		}
	})
}

func TestReadEndsWithTheMountOrTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := waiting(t)
		req, interrupt := context.WithCancel(t.Context())
		begun := time.Now()
		time.AfterFunc(time.Second, interrupt)
		if err := h.read(req, make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.AfterFunc(time.Second, h.file.tree.abort)
		if err := h.read(t.Context(), make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := h.read(t.Context(), make([]byte, 1), 0); !errors.Is(err, context.Canceled) { // from now on, all
			t.Error(err)
		}
		if d := time.Since(begun); d != 2*time.Second {
			t.Errorf("took %v", d)
		}
		if h.file.late.Load() != nil {
			t.Error("taken for a time-out")
		}
	})
}

func TestManyReadersShareTheRoom(t *testing.T) {
	tree := &Tree{readAhead: 64 * mib}
	for windows, want := range map[int64]int64{0: 64 * mib, 1: 64 * mib, 2: 64 * mib, 4: 32 * mib, 128: mib} {
		tree.windows.Store(windows)
		if got := tree.windowLimit(); got != want {
			t.Errorf("with %d windows open one may have %d bytes, want %d", windows, got, want)
		}
	}
}

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

// waiting returns a file that has no content, in a tree that nobody mounted.
func waiting(t *testing.T) *file {
	tree := bare()
	tree.readTimeout = time.Minute
	tree.life, tree.abort = context.WithCancel(t.Context())
	return &file{tree: tree, content: noPeers{}, stat: stat{size: 1 << 30}}
}

// The kernel answers the failure of what it read ahead with a second attempt; a program is not to wait twice.
func TestASecondAttemptIsBrief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := waiting(t)
		takes := func(off, n int64, want time.Duration) {
			t.Helper()
			begun := time.Now()
			if err := f.read(t.Context(), make([]byte, n), off); !errors.Is(err, context.DeadlineExceeded) {
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

func TestReadEndsWithTheMountOrTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := waiting(t)
		req, interrupt := context.WithCancel(t.Context())
		begun := time.Now()
		time.AfterFunc(time.Second, interrupt)
		if err := f.read(req, make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.AfterFunc(time.Second, f.tree.abort)
		if err := f.read(t.Context(), make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := f.read(t.Context(), make([]byte, 1), 0); !errors.Is(err, context.Canceled) { // from now on, all
			t.Error(err)
		}
		if d := time.Since(begun); d != 2*time.Second {
			t.Errorf("took %v", d)
		}
		if f.late.Load() != nil {
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

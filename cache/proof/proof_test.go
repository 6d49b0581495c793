package proof

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// file is a piece on a disk that counts what is read of it.
type file struct {
	data []byte
	read atomic.Int64 // bytes
	err  error
	gate chan struct{} // if not nil, reads wait for it
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.gate != nil {
		<-f.gate
	}
	if f.err != nil {
		return 0, f.err
	}
	n, err := bytes.NewReader(f.data).ReadAt(p, off)
	f.read.Add(int64(n))
	return n, err
}

// piece makes a piece of random bytes.
func piece(key uint64, size int) (Piece, *file) {
	f := &file{data: make([]byte, size)}
	_, _ = rand.NewChaCha8([32]byte{byte(key)}).Read(f.data)
	return Piece{Key: key, Size: int64(size), Hash: sha1.Sum(f.data), Bytes: f}, f
}

func TestAppend(t *testing.T) {
	const size = 2*step + 3*BlockSize + 5
	for _, r := range []struct{ begin, length int }{
		{0, BlockSize}, {3 * BlockSize, BlockSize}, {size - 5, 5}, {size - BlockSize - 5, BlockSize + 5}, // as peers ask
		{1, 1}, {BlockSize - 1, 2}, {step - 7, 128 << 10}, {size - 1, 1}, {0, 0}, {size, 0}, {0, size},
	} {
		b := New(1 << 20)
		p, f := piece(1, size)
		for _, known := range []bool{false, true} {
			before := f.read.Load()
			got, err := b.Append([]byte("before"), p, int64(r.begin), int64(r.length))
			if want := append([]byte("before"), f.data[r.begin:r.begin+r.length]...); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%+v, known %v: %v, other bytes than the piece's", r, known, err)
			}
			most := int64(size) // read through once, with what was asked for
			if known {
				most = int64(r.length + 2*BlockSize)
			}
			if read := f.read.Load() - before; read > most {
				t.Errorf("%+v, known %v: %d bytes read", r, known, read)
			}
		}
	}
}

// Any bit that changes is seen, in a piece that was right before and in one that never was.
func TestChanged(t *testing.T) {
	const size = step + BlockSize + 100
	for _, verified := range []bool{false, true} {
		b := New(1 << 20)
		p, f := piece(1, size)
		if verified {
			if err := b.Verify(p); err != nil {
				t.Fatal(err)
			}
		}
		for _, at := range []int{0, BlockSize - 1, BlockSize, step - 1, step, size - 1} {
			f.data[at] ^= 1
			begin := int64(at / BlockSize * BlockSize)
			got, err := b.Append([]byte("x"), p, begin, min(BlockSize, size-begin))
			if !errors.Is(err, ErrWrong) || string(got) != "x" {
				t.Errorf("byte %d, verified %v: %v, %d bytes", at, verified, err, len(got))
			}
			if err := b.Verify(p); !errors.Is(err, ErrWrong) {
				t.Errorf("Verify: %v", err)
			}
			f.data[at] ^= 1
		}
		if _, err := b.Append(nil, p, 0, BlockSize); err != nil {
			t.Errorf("mended: %v", err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	for _, verified := range []bool{false, true} {
		b := New(1 << 20)
		p, f := piece(1, 3*BlockSize)
		if verified {
			_ = b.Verify(p)
		}
		f.err = os.ErrClosed
		if _, err := b.Append(nil, p, 0, 1); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%v", err)
		}
		f.err = nil
		f.data = f.data[:BlockSize+1]
		if _, err := b.Append(nil, p, BlockSize, BlockSize); !errors.Is(err, ErrWrong) || errors.Is(err, io.EOF) {
			t.Errorf("cut short: %v", err)
		}
	}
}

// A piece that many ask for is hashed once, whether it is right or not, while they wait.
func TestHashedOnce(t *testing.T) {
	for _, right := range []bool{true, false} {
		b := New(1 << 20)
		p, f := piece(1, 4*step)
		if !right {
			f.data[0] ^= 1
		}
		f.gate = make(chan struct{})
		var (
			begun, wg sync.WaitGroup
			wrong     atomic.Int64
		)
		for i := range 8 {
			begun.Add(1)
			wg.Go(func() {
				begun.Done()
				if _, err := b.Append(nil, p, int64(i)*BlockSize, BlockSize); err != nil {
					wrong.Add(1)
				}
			})
		}
		begun.Wait()
		close(f.gate)
		wg.Wait()
		if right && (wrong.Load() != 0 || f.read.Load() > p.Size+8*BlockSize) || !right && wrong.Load() != 8 {
			t.Errorf("right %v: %d failed, %d bytes read of a piece of %d", right, wrong.Load(), f.read.Load(), p.Size)
		}
	}
}

// What is remembered stays within the limit, and what was not asked for longest goes first.
// Who reads something else does not believe that a piece is wrong.
func TestWrongElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(1 << 20)
		right, _ := piece(1, 5*BlockSize)
		wrong := right
		stale := &file{data: make([]byte, right.Size), gate: make(chan struct{})}
		wrong.Bytes, wrong.From = stale, "what was there before"
		bad, good := make(chan error), make(chan error)
		for range 3 {
			go func() { bad <- b.Verify(wrong) }()
			synctest.Wait()
		}
		go func() { good <- b.Verify(right) }()
		synctest.Wait()
		close(stale.gate)
		if err := <-good; err != nil {
			t.Errorf("who read what is right was told: %v", err)
		}
		for range 3 {
			<-bad
		}
		if n := stale.read.Load(); n != right.Size {
			t.Errorf("%d bytes were read of what is wrong, not %d", n, right.Size)
		}
	})
}

func TestLimit(t *testing.T) {
	const size = 64 * BlockSize
	one := (&page{tags: make([]byte, 64*tagSize)}).size()
	b := New(3 * one)
	verify := func(key uint64) *file {
		p, f := piece(key, size)
		if _, err := b.Append(nil, p, 0, 1); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for key := range uint64(3) {
		verify(key)
	}
	verify(0)
	verify(3)
	for key, known := range []bool{true, false, true, true} {
		if (b.pages[uint64(key)] != nil) != known {
			t.Errorf("piece %d known: %v", key, !known)
		}
	}
	for key := range uint64(100) {
		verify(key)
	}
	if b.size != 3*one || len(b.pages) != 3 || b.order.Len() != 3 {
		t.Errorf("%d bytes, %d pieces, %d in order", b.size, len(b.pages), b.order.Len())
	}
	// One piece larger than the limit is remembered all the same, alone.
	p, f := piece(200, 5*size)
	for range 2 {
		if _, err := b.Append(nil, p, 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.pages) != 1 || f.read.Load() > p.Size+BlockSize {
		t.Errorf("%d pieces, %d bytes read", len(b.pages), f.read.Load())
	}
}

// zeros is a piece of zeros, however large.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// A piece of any size is hashed in little memory.
func TestMemory(t *testing.T) {
	const size = 256 << 20
	h := sha1.New()
	for range size / step {
		h.Write(make([]byte, step))
	}
	p := Piece{Size: size, Hash: [20]byte(h.Sum(nil)), Bytes: zeros{}}
	b := New(0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := b.Verify(p); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 2<<20 {
		t.Errorf("%d bytes", took)
	}
}

func BenchmarkAppend(b *testing.B) {
	book := New(1 << 20)
	p, _ := piece(1, 1<<20)
	buf := make([]byte, 0, BlockSize)
	b.SetBytes(BlockSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := book.Append(buf, p, int64(i%64)*BlockSize, BlockSize); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	book := New(1 << 20)
	p, _ := piece(1, 1<<20)
	b.SetBytes(p.Size)
	for b.Loop() {
		if err := book.Verify(p); err != nil {
			b.Fatal(err)
		}
	}
}

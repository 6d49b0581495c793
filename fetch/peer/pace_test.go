package peer

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"torrentfs/fetch/wire"
)

// pacer is a limit in bytes a second.
type pacer struct {
	*rate.Limiter
	mu sync.Mutex
}

func newPacer(limit int) *pacer { return &pacer{Limiter: rate.NewLimiter(rate.Limit(limit), 256)} }

func (p *pacer) Reserve(n int) (from, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Duration(float64(n) / float64(p.Limit()) * float64(time.Second))
	for ; n > 0; n -= 256 {
		until = time.Now().Add(p.ReserveN(time.Now(), min(n, 256)).Delay())
	}
	return until.Add(-took), until
}

func (*pacer) Reserved(int) {}

func (p *pacer) Return(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ReserveN(time.Now(), -n)
}

// zeros is a source of zeros that lacks the last piece.
type zeros struct{}

func (zeros) AppendBlock(dst []byte, piece int, _, length uint32) ([]byte, bool) {
	return append(dst, make([]byte, length)...), piece < pieces-1
}

// leecher is a connection that serves a peer which always asks for more, and the peer's end of it.
type leecher struct {
	*Conn
	nc     net.Conn
	events chan *Batch
	done   chan struct{}
	wg     sync.WaitGroup
}

// newLeecher lets a peer in that asks for what it is told to ask for, or for much.
func newLeecher(p Pacer, ask ...wire.Message) *leecher {
	near, far := net.Pipe()
	l := &leecher{nc: far, events: make(chan *Batch, 100), done: make(chan struct{})}
	link := &Torrent{Pieces: pieces, PieceLength: 16 << 10, Length: pieces * 16 << 10, Source: zeros{}, Pace: p, Events: l.events, Done: l.done}
	l.Conn = newConn(near, link, wire.Handshake{Features: all})
	if l.serve = ask; ask == nil {
		l.serve = slices.Repeat([]wire.Message{{ID: wire.Request, Length: 16 << 10}}, ReqQ)
	}
	l.unchoked = true // and no word of it, which would hurry a block that is half sent
	l.Start(nil, &l.wg)
	return l
}

func (l *leecher) end() {
	close(l.done)
	_ = l.nc.Close()
	l.Close()
	l.wg.Wait()
}

// However many are served, a limit holds in whichever ten seconds, and what we ask for ourselves doesn't wait for it.
func TestPace(t *testing.T) {
	const window, windows, ticks = 10, 3, 4 // seconds; ticks of a second
	for _, limit := range []int{5_000, 20_000, 100_000, 4_000_000} {
		for _, n := range []int{1, 20} {
			t.Run(fmt.Sprintf("limit=%d, leechers=%d", limit, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPacer(limit)
					var mu sync.Mutex
					var sent [window * windows * ticks]int
					asked := make(chan int, 2*n)
					began := time.Now()
					var all []*leecher
					for i := range n {
						l := newLeecher(p)
						defer l.end()
						all = append(all, l)
						l.take(func(bytes int) {
							mu.Lock()
							defer mu.Unlock()
							if at := int(time.Since(began) * ticks / time.Second); at < len(sent) {
								sent[at] += bytes
							}
						}, func() { asked <- i })
					}
					time.Sleep(windows * window * time.Second)
					mu.Lock()
					for i := range len(sent) - window*ticks + 1 {
						sum := 0
						for _, n := range sent[i : i+window*ticks] {
							sum += n
						}
						if got := float64(sum) / window / float64(limit); got > 1.05 || got < 0.95 {
							t.Errorf("%.3f of the limit was sent in ten seconds that began after %v", got, time.Duration(i)*time.Second/ticks)
						}
					}
					mu.Unlock()
					for _, l := range all {
						l.Send(wire.Message{ID: wire.Request, Length: 16 << 10})
					}
					at := time.Now()
					for range n {
						<-asked
					}
					if took := time.Since(at); took > 0 {
						t.Errorf("our requests waited for %v", took)
					}
				})
			})
		}
	}
}

// take takes whatever comes and always asks for more.
func (l *leecher) take(came func(bytes int), asked func()) {
	more := make(chan struct{}, ReqQ)
	l.wg.Go(func() {
		for range more {
			if _, err := l.nc.Write(wire.Message{ID: wire.Request, Length: 16 << 10}.Append(nil)); err != nil {
				return
			}
		}
	})
	l.wg.Go(func() {
		defer close(more)
		rd := wire.NewReader(counter{l.nc, came}, 1<<20)
		for {
			switch m, err := rd.Next(); {
			case err != nil:
				return
			case m.ID == wire.Request:
				asked()
			case m.ID == wire.Piece:
				more <- struct{}{}
			}
		}
	})
}

// counter tells of the bytes that it reads.
type counter struct {
	io.Reader
	came func(bytes int)
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.came(n)
	return n, err
}

// first is how long a peer waits for its first block, if it is let in now.
func first(t *testing.T, p Pacer, ask ...wire.Message) time.Duration {
	t.Helper()
	l := newLeecher(p, ask...)
	defer l.end()
	at := time.Now()
	rd := wire.NewReader(l.nc, 1<<20)
	for {
		m, err := rd.Next()
		if err != nil {
			t.Fatal(err)
		}
		if m.ID == wire.Piece {
			return time.Since(at)
		}
	}
}

// What was reserved for peers that hang up, and for blocks that are refused, is there for others.
func TestReservationsAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 16 << 10
		p := newPacer(limit)
		for range 40 {
			l := newLeecher(p)
			synctest.Wait()
			l.end()
		}
		if took := first(t, p); took > 3*time.Second {
			t.Errorf("after forty peers came and went a block takes %v", took)
		}
		var ask []wire.Message
		for range 60 {
			ask = append(ask, wire.Message{ID: wire.Request, Index: pieces - 1, Length: 16 << 10})
		}
		if took := first(t, p, append(ask, wire.Message{ID: wire.Request, Length: 16 << 10})...); took > 3*time.Second {
			t.Errorf("after sixty refused ones a block takes %v", took)
		}
	})
}

// A peer that takes little at a time is served as long as it takes anything.
func TestSlowLeecher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeecher(nil)
		defer l.end()
		b := make([]byte, 1000)
		slow := func(every time.Duration) {
			for at := time.Now(); time.Since(at) < 10*writeTimeout; {
				if _, err := l.nc.Read(b); err != nil {
					t.Fatalf("after %d bytes: %v", l.Uploaded(), err)
				}
				time.Sleep(every)
				if l.ended() {
					t.Fatalf("a peer that takes %d bytes in %v was cut off", len(b), every)
				}
				if _, err := l.nc.Write(wire.Message{ID: wire.KeepAlive}.Append(nil)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for l.Uploaded() < 16*maxBatch { // it was fast once
			if _, err := l.nc.Read(b); err != nil {
				t.Fatal(err)
			}
		}
		slow(time.Second)
		slow(writeTimeout * 3 / 4)
		time.Sleep(writeTimeout + time.Second)
		if !l.ended() {
			t.Error("a peer that takes nothing at all is kept")
		}
	})
}

// Under a limit, the time that it keeps blocks back for is not the peer's.
func TestLimitIsNoDelayOfThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeecher(newPacer(20)) // a block in a quarter of an hour
		defer l.end()
		blocks := 0
		l.take(func(n int) { blocks += n }, func() {})
		for range 10 {
			time.Sleep(writeTimeout + writeTimeout/2)
			if _, err := l.nc.Write(wire.Message{ID: wire.KeepAlive}.Append(nil)); err != nil || l.ended() {
				t.Fatalf("the peer was cut off after %d bytes: %v", blocks, err)
			}
		}
	})
}

package peer

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"torrentfs/fetch/wire"
)

// pacer is a limit in bytes a second.
type pacer struct{ *rate.Limiter }

func newPacer(limit int) pacer { return pacer{rate.NewLimiter(rate.Limit(limit), 256)} }

func (p pacer) Spend(n int) (wait time.Duration) {
	for ; n > 0; n -= 256 {
		wait = p.ReserveN(time.Now(), min(n, 256)).Delay()
	}
	return wait
}

func (p pacer) Charge(n int) { p.Spend(n) }

// zeros is a source of zeros.
type zeros struct{}

func (zeros) AppendBlock(dst []byte, _ int, _, length uint32) ([]byte, bool) {
	return append(dst, make([]byte, length)...), true
}

// leecher is a connection that serves a peer which always asks for more, and the peer's end of it.
type leecher struct {
	*Conn
	nc     net.Conn
	events chan *Batch
	done   chan struct{}
	wg     sync.WaitGroup
}

func newLeecher(p Pacer) *leecher {
	near, far := net.Pipe()
	l := &leecher{nc: far, events: make(chan *Batch, 100), done: make(chan struct{})}
	link := &Torrent{Pieces: pieces, PieceLength: 16 << 10, Length: pieces * 16 << 10, Source: zeros{}, Pace: p, Events: l.events, Done: l.done}
	l.Conn = newConn(near, link, wire.Handshake{Features: all})
	for range ReqQ {
		l.serve = append(l.serve, wire.Message{ID: wire.Request, Length: 16 << 10})
	}
	l.Start(nil, &l.wg)
	l.Unchoke(true)
	return l
}

func (l *leecher) end() {
	close(l.done)
	_ = l.nc.Close()
	l.Close()
	l.wg.Wait()
}

// However many are served, a limit holds from the first second on, and what we ask for ourselves doesn't wait for it.
func TestPace(t *testing.T) {
	const seconds = 10
	for _, limit := range []int{5_000, 100_000, 4_000_000} {
		for _, n := range []int{1, 20} {
			t.Run(fmt.Sprintf("limit=%d, leechers=%d", limit, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPacer(limit)
					var mu sync.Mutex
					sent := 0
					asked := make(chan int, 2*n)
					var all []*leecher
					for i := range n {
						l := newLeecher(p)
						defer l.end()
						all = append(all, l)
						go func() {
							rd := wire.NewReader(l.nc, 1<<20)
							for {
								m, err := rd.Next()
								if err != nil {
									return
								}
								mu.Lock()
								sent += len(m.Data)
								mu.Unlock()
								switch m.ID {
								case wire.Request:
									asked <- i
								case wire.Piece:
									_, _ = l.nc.Write(wire.Message{ID: wire.Request, Length: 16 << 10}.Append(nil))
								}
							}
						}()
					}
					time.Sleep(seconds * time.Second)
					mu.Lock()
					got := float64(sent) / seconds / float64(limit)
					mu.Unlock()
					if block := 16384. / seconds / float64(limit) * float64(n); got > 1.05 || got < 0.95-block {
						t.Errorf("%.2f of the limit was sent in %d seconds", got, seconds)
					}
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

// A peer that takes little at a time is served as long as it takes anything.
func TestSlowLeecher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeecher(nil)
		defer l.end()
		b := make([]byte, 1000)
		for range 600 {
			if _, err := l.nc.Read(b); err != nil {
				t.Fatalf("after %d bytes: %v", l.Uploaded(), err)
			}
			time.Sleep(time.Second)
			if l.ended() {
				t.Fatal("the peer was cut off")
			}
			if _, err := l.nc.Write(wire.Message{ID: wire.KeepAlive}.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * writeTimeout)
		if !l.ended() {
			t.Error("a peer that takes nothing at all is kept")
		}
	})
}

package fetch

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// spring is a connection that always has something to read.
type spring struct {
	net.Conn
	given *atomic.Int64
}

func (s spring) Read(p []byte) (int, error) {
	s.given.Add(int64(len(p)))
	return len(p), nil
}

func (spring) Close() error { return nil }

// However many connections share a limit, it holds from the first second on, and who says little is heard at once.
func TestDownloadLimit(t *testing.T) {
	const seconds = 10
	for _, limit := range []int64{20_000, 100_000, 1_000_000, 4_000_000} {
		for _, conns := range []int{1, 20} {
			t.Run(fmt.Sprintf("limit=%d, connections=%d", limit, conns), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLimiter(limit)
					var given atomic.Int64
					var open []net.Conn
					for range conns {
						c := l.limit(spring{given: &given})
						open = append(open, c)
						go func() {
							b := make([]byte, 256<<10)
							for {
								if _, err := c.Read(b); err != nil {
									return
								}
							}
						}()
					}
					time.Sleep(seconds * time.Second)
					if got := float64(given.Load()) / seconds / float64(limit); got > 1.05 || got < 0.95 {
						t.Errorf("%.3f of the limit was read in %d seconds", got, seconds)
					}
					quiet := l.limit(spring{given: new(atomic.Int64)})
					at := time.Now()
					for range 3 {
						_, _ = quiet.Read(make([]byte, 5))
					}
					if took := time.Since(at); took > time.Second {
						t.Errorf("three short messages took %v", took)
					}
					for _, c := range open {
						_ = c.Close()
					}
				})
			})
		}
	}
}

// What was sent without waiting holds up blocks for a while, not for ever.
func TestDebtIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(10_000)
		for range 1000 {
			l.Charge(17_000)
		}
		if wait := l.Spend(16 << 10); wait < maxDebt*time.Second || wait > 2*maxDebt*time.Second {
			t.Errorf("a block waits for %v", wait)
		}
	})
}

func TestClosingEndsTheWaitForALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLimiter(1).limit(spring{given: new(atomic.Int64)})
		ended := make(chan error)
		go func() {
			for {
				if _, err := c.Read(make([]byte, 1000)); err != nil {
					ended <- err
					return
				}
			}
		}()
		synctest.Wait()
		at := time.Now()
		_ = c.Close()
		if <-ended; time.Since(at) > 0 {
			t.Errorf("it took %v", time.Since(at))
		}
	})
}

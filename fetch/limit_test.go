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
	for _, limit := range []int64{5_000, 20_000, 100_000, 1_000_000, 4_000_000} {
		for _, conns := range []int{1, 20} {
			t.Run(fmt.Sprintf("limit=%d, connections=%d", limit, conns), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := &Client{download: newLimiter(limit)}
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

func TestClosingEndsTheWaitForALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := (&Client{download: newLimiter(1)}).limit(spring{given: new(atomic.Int64)})
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

// drain is a connection that takes whatever is written.
type drain struct{ net.Conn }

func (drain) Write(p []byte) (int, error) { return len(p), nil }

// What does not wait for the limit of uploads is paid for by the blocks that come after it, and not for longer than the limit is
// to hold.
func TestUploadLimitCountsAll(t *testing.T) {
	const limit = 10_000
	for _, tc := range []struct {
		name               string
		reserved, sent     int
		payLater, payWhole time.Duration // how long a block of a second's worth waits then: for its beginning and for its end
	}{
		{"nothing", 0, 0, 0, time.Second},
		{"a handshake", 0, limit / 2, time.Second / 2, 3 * time.Second / 2},
		{"a block", limit, limit, 0, time.Second},
		{"more than was reserved", limit, 2 * limit, time.Second, 2 * time.Second},
		{"much", 0, 1000 * limit, maxDebt * time.Second, (maxDebt + 1) * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := &Client{upload: newLimiter(limit)}
			c := client.limit(drain{})
			spare := client.upload.spend(client.upload.rate.Burst()) // so that there is none
			if time.Until(spare) > 0 {
				t.Fatal("there was no burst")
			}
			if tc.reserved > 0 {
				_, until := client.upload.Reserve(tc.reserved)
				time.Sleep(time.Until(until))
				client.upload.Reserved(tc.reserved)
			}
			for sent := 0; sent < tc.sent; sent += limit / 2 {
				at := time.Now()
				if _, err := c.Write(make([]byte, limit/2)); err != nil || time.Since(at) > 0 {
					t.Fatalf("%s: a write took %v: %v", tc.name, time.Since(at), err)
				}
			}
			from, until := client.upload.Reserve(limit)
			if wait, whole := time.Until(from).Round(time.Millisecond), time.Until(until).Round(time.Millisecond); wait != tc.payLater ||
				whole != tc.payWhole {
				t.Errorf("%s: the next block waits for %v to %v, want %v to %v", tc.name, wait, whole, tc.payLater, tc.payWhole)
			}
		})
	}
}

func TestNoLimitNoWrapper(t *testing.T) {
	nc := spring{given: new(atomic.Int64)}
	if got := (&Client{}).limit(nc); got != nc {
		t.Errorf("%T is in the way", got)
	}
}

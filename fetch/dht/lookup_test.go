package dht

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// TestLookupTimes looks at the times between the rounds of a lookup.
func TestLookupTimes(t *testing.T) {
	const takes = 5 * time.Second // a round
	for _, c := range []struct {
		name     string
		out      outcome
		want     bool // more peers are wanted all the time
		min, max time.Duration
		tenth    time.Duration // the tenth pause is no longer
	}{
		{"peers found", outcome{100, 10}, false, lookEvery, lookEvery + lookEvery/8, lookEvery + lookEvery/8},
		{"peers found, more wanted", outcome{100, 10}, true, wantedEvery - takes, wantedEvery - takes, wantedEvery - takes},
		{"none found", outcome{100, 0}, false, 4 * time.Second, 4 * time.Second, lookEvery},
		{"none found, more wanted", outcome{100, 0}, true, 0, 4 * time.Second, wantedEvery - takes},
		{"nobody there", outcome{0, 0}, false, time.Second, time.Second, time.Minute},
		{"nobody there, more wanted", outcome{0, 0}, true, 0, time.Second, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(Config{}, nil)
				defer n.Close()
				ctx, cancel := context.WithCancel(t.Context())
				l := n.Lookup([20]byte{}, 0, nil)
				var ended time.Time
				var pauses []time.Duration
				l.round = func(context.Context) outcome {
					if !ended.IsZero() {
						pauses = append(pauses, time.Since(ended))
					}
					time.Sleep(takes)
					if ended = time.Now(); len(pauses) == 12 {
						cancel()
					}
					if c.want {
						l.Want()
					}
					return c.out
				}
				l.Run(ctx)
				if p := pauses[0]; p < c.min || p > c.max {
					t.Errorf("first pause %v", p)
				}
				if p := pauses[10]; p > c.tenth || p < 0 {
					t.Errorf("later pause %v", p)
				}
			})
		})
	}
}

// TestWantDuringPause has the next round come when more peers are wanted, but not too soon.
func TestWantDuringPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(Config{}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		l := n.Lookup([20]byte{}, 0, nil)
		var rounds atomic.Int32
		l.round = func(context.Context) outcome { rounds.Add(1); return outcome{100, 10} }
		expect := func(want int32, when string) {
			t.Helper()
			if synctest.Wait(); rounds.Load() != want {
				t.Errorf("%d rounds %s", rounds.Load(), when)
			}
		}
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		time.Sleep(time.Second)
		l.Want()
		time.Sleep(wantedEvery - 2*time.Second)
		expect(1, "before the least pause")
		time.Sleep(time.Second)
		expect(2, "when they have")
		time.Sleep(2 * wantedEvery)
		expect(2, "when no more are wanted")
		l.Want()
		expect(3, "when there are")
		n.Close() // ends Run
		<-done
		cancel()
	})
}

func TestNews(t *testing.T) {
	var told [][]netip.AddrPort
	n := news{tell: func(p []netip.AddrPort) { told = append(told, p) }, told: make(map[netip.AddrPort]struct{})}
	one := krpc.NodeAddr{IP: []byte{198, 51, 100, 1}, Port: 1}
	two := krpc.NodeAddr{IP: []byte{198, 51, 100, 1}, Port: 2}
	bad := krpc.NodeAddr{IP: []byte{1}, Port: 2}
	n.add([]krpc.NodeAddr{one, one, bad})
	n.add([]krpc.NodeAddr{one})
	n.add([]krpc.NodeAddr{one, two})
	if len(told) != 2 || len(told[0]) != 1 || len(told[1]) != 1 || told[1][0].Port() != 2 {
		t.Errorf("told %v", told)
	}
	for i := range 3 * maxFound {
		n.add([]krpc.NodeAddr{{IP: []byte{198, 51, 100, 2}, Port: i + 1}})
	}
	if len(n.told) != maxFound {
		t.Errorf("told of %d peers", len(n.told))
	}
}

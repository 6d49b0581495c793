package tracker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stage plays the trackers of an Announcer in a bubble of time, and writes down who was asked when.
type stage struct {
	t     *testing.T
	begin time.Time
	a     *Announcer

	mu       sync.Mutex
	script   map[string]func(ctx context.Context, r Request) (Response, error)
	asked    []string // "0s a started"
	requests []Request
	got      []string // urls of the peers given
	left     int64
	numWant  int
}

// perform runs an Announcer with the tiers, whose URLs are http://NAME/announce, and calls f beside it.
func perform(t *testing.T, tiers [][]string, script map[string]func(context.Context, Request) (Response, error), f func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, begin: time.Now(), script: script, left: 5}
		s.open(tiers)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.a.Run(ctx) })
		f(s)
		cancel()
		wg.Wait()
	})
}

func (s *stage) open(tiers [][]string) {
	var urls [][]string
	for _, names := range tiers {
		var tier []string
		for _, n := range names {
			tier = append(tier, "http://"+n+"/announce")
		}
		urls = append(urls, tier)
	}
	request := func() Request {
		s.mu.Lock()
		defer s.mu.Unlock()
		return Request{Left: s.left, NumWant: s.numWant, Key: 7, Port: 7}
	}
	peers := func(url string, p []netip.AddrPort) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, name(url))
	}
	s.a = NewAnnouncer(NewClient(ClientOptions{}), urls, request, peers, nil)
	s.a.announce = s.announce
	for i, tier := range s.a.tiers { // undo the shuffling
		slices.SortFunc(tier.entries, func(x, y *entry) int {
			return slices.Index(tiers[i], name(x.url)) - slices.Index(tiers[i], name(y.url))
		})
	}
}

func name(url string) string {
	return strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/announce")
}

func (s *stage) announce(ctx context.Context, url string, r Request, got func(Response)) (Response, error) {
	s.mu.Lock()
	line := fmt.Sprintf("%v %s %v", s.now(), name(url), r.Event)
	s.asked = append(s.asked, strings.TrimSpace(line))
	s.requests = append(s.requests, r)
	script := s.script[name(url)]
	s.mu.Unlock()
	resp, err := script(ctx, r)
	if err == nil {
		got(resp)
	}
	return resp, err
}

// now is the time since the begin, without what is due to goroutines taking turns.
func (s *stage) now() time.Duration { return time.Since(s.begin).Truncate(5 * time.Millisecond) }

// set sets what is left to get.
func (s *stage) set(left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = left
}

// expect checks who was asked since the last check.
func (s *stage) expect(want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.asked, want) {
		s.t.Errorf("asked %q, want %q", s.asked, want)
	}
	s.asked = nil
}

// count is how often name was asked since the last check, whatever for.
func (s *stage) count(name string) int {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, line := range s.asked {
		if strings.Fields(line)[1] == name {
			n++
		}
	}
	s.asked = nil
	return n
}

var somePeers = addrs("1.2.3.4:5", "1.2.3.4:6")

// gives answers with peers, after a time.
func gives(after time.Duration, resp Response) func(context.Context, Request) (Response, error) {
	return func(ctx context.Context, r Request) (Response, error) {
		select {
		case <-time.After(after):
			return resp, nil
		case <-ctx.Done():
			return Response{}, ctx.Err()
		}
	}
}

func fails(err error) func(context.Context, Request) (Response, error) {
	return func(context.Context, Request) (Response, error) { return Response{}, err }
}

// silent never answers.
func silent(ctx context.Context, _ Request) (Response, error) {
	<-ctx.Done()
	return Response{}, ctx.Err()
}

type script = map[string]func(context.Context, Request) (Response, error)

var (
	halfHour = Response{Interval: 30 * time.Minute, MinInterval: 5 * time.Minute, Peers: somePeers}
	errDead  = errors.New("connection refused")
)

func TestEvents(t *testing.T) {
	perform(t, [][]string{{"a"}}, script{"a": gives(0, halfHour)}, func(s *stage) {
		s.expect("0s a started")
		time.Sleep(29 * time.Minute)
		s.expect()
		time.Sleep(3 * time.Minute)
		if n := s.count("a"); n != 1 {
			t.Errorf("asked %d times", n)
		}
		s.set(0)
		s.a.Completed()
		s.expect("32m0s a completed")
		s.a.Completed()
		time.Sleep(time.Hour)
		s.mu.Lock()
		for _, r := range s.requests[3:] {
			if r.Event != None && r.Event != Completed {
				t.Errorf("event %v", r.Event)
			}
		}
		s.mu.Unlock()
		t.Cleanup(func() {
			last := s.requests[len(s.requests)-1]
			if last.Event != Stopped || last.Key != 7 {
				t.Errorf("the last announce is %+v, want stopped", last)
			}
		})
	})
}

// TestStopped covers who is told that we stopped: those who know us, and for no longer than two seconds.
func TestStopped(t *testing.T) {
	var s *stage
	var took time.Duration
	synctest.Test(t, func(t *testing.T) {
		s = &stage{t: t, begin: time.Now()}
		down := false
		s.script = script{
			"works": gives(0, halfHour),
			"dead":  fails(errDead),
			"quiet": silent,
			"dies": func(ctx context.Context, r Request) (Response, error) {
				if down {
					return silent(ctx, r)
				}
				return halfHour, nil
			},
		}
		s.open([][]string{{"works"}, {"dead"}, {"quiet"}, {"dies"}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.a.Run(ctx) })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		s.asked, down = nil, true
		stopping := time.Now()
		cancel()
		wg.Wait()
		took = time.Since(stopping)
	})
	slices.Sort(s.asked)
	if want := []string{"5s dies stopped", "5s works stopped"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
	if took != stopLimit {
		t.Errorf("it took %v, want %v", took, stopLimit)
	}
}

func TestTiersTogether(t *testing.T) {
	perform(t, [][]string{{"a"}, {"b"}, {"c"}}, script{
		"a": silent, "b": fails(errDead), "c": gives(time.Second, halfHour),
	}, func(s *stage) {
		synctest.Wait()
		slices.Sort(s.asked)
		s.expect("0s a started", "0s b started", "0s c started")
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(s.got, []string{"c"}) {
			t.Errorf("peers of %v", s.got)
		}
	})
}

// TestWithinTier covers whom a tier asks and in which order.
func TestWithinTier(t *testing.T) {
	none := Response{Interval: 30 * time.Minute}
	for title, c := range map[string]struct {
		script  script
		numWant int
		first   []string // asked in the first ten seconds
		second  string   // the first to be asked when the interval is over
	}{
		"the first works": {
			script: script{"a": gives(0, halfHour)},
			first:  []string{"0s a started"}, second: "a",
		},
		"the first is dead": {
			script: script{"a": fails(errDead), "b": gives(0, halfHour)},
			first:  []string{"0s a started", "0s b started"}, second: "b",
		},
		"the first is silent": {
			script: script{"a": silent, "b": gives(0, halfHour)},
			first:  []string{"0s a started", "75ms b started"}, second: "b",
		},
		"the first is slow": {
			script: script{"a": gives(time.Second, halfHour), "b": gives(0, halfHour)},
			first:  []string{"0s a started", "75ms b started"}, second: "b",
		},
		"two are silent": {
			script: script{"a": silent, "b": silent, "c": gives(0, halfHour)},
			first:  []string{"0s a started", "75ms b started", "150ms c started"}, second: "c",
		},
		"a silent one and a dead one": {
			script: script{"a": silent, "b": fails(errDead), "c": gives(0, halfHour)},
			first:  []string{"0s a started", "75ms b started", "75ms c started"}, second: "c",
		},
		"the first has no peers": {
			script: script{"a": gives(0, none), "b": gives(0, halfHour)},
			first:  []string{"0s a started", "0s b started"}, second: "b",
		},
		"the first knows ourselves only": {
			script: script{"a": gives(0, Response{Peers: addrs("9.9.9.9:7", "[2001:db8::1]:7")}), "b": gives(0, halfHour)},
			first:  []string{"0s a started", "0s b started"}, second: "b",
		},
		"nobody has peers": {
			script: script{"a": gives(0, none), "b": gives(0, none), "c": fails(errDead)},
			first:  []string{"0s a started", "0s b started", "0s c started"}, second: "a",
		},
		"nobody has peers, and none are wanted": {
			script: script{"a": gives(0, none)}, numWant: -1,
			first: []string{"0s a started"}, second: "a",
		},
	} {
		t.Run(title, func(t *testing.T) {
			for _, n := range []string{"a", "b", "c"} {
				if c.script[n] == nil {
					c.script[n] = func(context.Context, Request) (Response, error) {
						t.Errorf("%s was asked", n)
						return Response{}, errDead
					}
				}
			}
			synctest.Test(t, func(t *testing.T) {
				s := &stage{t: t, begin: time.Now(), script: c.script, left: 5, numWant: c.numWant}
				s.open([][]string{{"a", "b", "c"}})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { s.a.Run(ctx) })
				time.Sleep(9 * time.Second)
				s.expect(c.first...)
				if got := name(s.a.tiers[0].entries[0].url); got != c.second {
					t.Errorf("%s is first, want %s", got, c.second)
				}
				time.Sleep(29*time.Minute - 9*time.Second)
				synctest.Wait()
				s.asked = slices.DeleteFunc(s.asked, func(line string) bool { return strings.Contains(line, " "+"c") })
				s.expect()
				time.Sleep(160 * time.Second) // a minute, what is added to the interval by chance, and what the first answer took
				synctest.Wait()
				if len(s.asked) == 0 || strings.Fields(s.asked[0])[1] != c.second {
					t.Errorf("asked %q after the interval, want %s first", s.asked, c.second)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// TestEarlyPeers covers a tracker whose one family gives peers while the other is silent: nobody else is asked, and it
// is the working one.
func TestEarlyPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, begin: time.Now(), script: script{"a": gives(5*time.Second, halfHour)}, left: 5}
		s.open([][]string{{"a", "b"}})
		s.a.announce = func(ctx context.Context, url string, r Request, got func(Response)) (Response, error) {
			got(halfHour)
			return s.announce(ctx, url, r, func(Response) {})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.a.Run(ctx) })
		time.Sleep(29 * time.Minute)
		s.expect("0s a started")
		cancel()
		wg.Wait()
	})
}

func TestIntervals(t *testing.T) {
	for _, c := range []struct {
		interval, min time.Duration
		next, soonest time.Duration
	}{
		{0, 0, defaultInterval, defaultWantInterval},
		{time.Second, 0, minInterval, minInterval},
		{time.Second, time.Second, minInterval, minWantInterval},
		{20 * time.Minute, 0, 20 * time.Minute, defaultWantInterval},
		{20 * time.Minute, 10 * time.Minute, 20 * time.Minute, 10 * time.Minute},
		{20 * time.Minute, 40 * time.Minute, 40 * time.Minute, 40 * time.Minute},
		{maxInterval, maxInterval, maxRegular, maxWantInterval},
		{0, 3 * time.Hour, maxWantInterval, maxWantInterval},
	} {
		perform(t, [][]string{{"a"}}, script{"a": gives(0, Response{Interval: c.interval, MinInterval: c.min, Peers: somePeers})}, func(s *stage) {
			s.expect("0s a started")
			at := s.a.Status()[0].Next.Sub(s.begin)
			if at < c.next || at > c.next+c.next/20 {
				t.Errorf("%v: next announce after %v", c, at)
			}
			// However much it is wanted, it waits for min interval.
			s.a.Want()
			time.Sleep(c.soonest - time.Second)
			s.expect()
			s.a.Want()
			time.Sleep(time.Second)
			s.expect(fmt.Sprintf("%v a", c.soonest))
			// One wish, one announce.
			time.Sleep(c.soonest)
			if n := s.count("a"); n > 1 || n == 1 && c.soonest < c.next {
				t.Errorf("%v: asked %d times again", c, n)
			}
		})
	}
}

// TestWant covers that a want asks who has not been asked yet, and that it waits out a refusal.
func TestWant(t *testing.T) {
	perform(t, [][]string{{"a", "b"}, {"c"}}, script{
		"a": gives(0, halfHour),
		"b": gives(0, halfHour),
		"c": fails(&RefusedError{Reason: "closed", RetryIn: 3 * time.Hour}),
	}, func(s *stage) {
		synctest.Wait()
		slices.Sort(s.asked)
		s.expect("0s a started", "0s c started")
		time.Sleep(10 * time.Second)
		s.a.Want()
		s.expect("10s b started")
		time.Sleep(2 * time.Hour)
		s.a.Want()
		synctest.Wait()
		if n := s.count("c"); n != 0 {
			t.Errorf("asked %d times in spite of its retry in", n)
		}
		time.Sleep(2 * time.Hour)
		if n := s.count("c"); n != 1 {
			t.Errorf("asked %d times after its retry in", n)
		}
	})
}

// TestBackoff covers that a dead tracker is asked ever less often, but once a minute when it is needed.
func TestBackoff(t *testing.T) {
	perform(t, [][]string{{"a"}}, script{"a": fails(errDead)}, func(s *stage) {
		var at []time.Duration
		for range 12 {
			st := s.a.Status()[0]
			for !st.Next.After(time.Now()) {
				synctest.Wait()
				st = s.a.Status()[0]
			}
			at = append(at, time.Until(st.Next))
			time.Sleep(time.Until(st.Next))
			synctest.Wait()
		}
		for i, d := range at {
			want := min(firstBackoff<<i, maxBackoff)
			if d < want || d > want+firstBackoff/2 {
				t.Errorf("waits %v after %d failures, want %v", d, i+1, want)
			}
		}
		s.count("a")
		for range 60 {
			s.a.Want()
			time.Sleep(time.Minute)
		}
		if n := s.count("a"); n < 55 || n > 61 {
			t.Errorf("asked %d times in an hour of want", n)
		}
		for range 5 * 3600 {
			s.a.Want()
			time.Sleep(time.Second / 5)
		}
		if n := s.count("a"); n < 55 || n > 61 {
			t.Errorf("asked %d times in an hour of much want", n)
		}
	})
}

// TestRecovery covers a network that is down at first, in the middle of things, and for long.
func TestRecovery(t *testing.T) {
	var mu sync.Mutex
	up := false
	set := func(v bool) { mu.Lock(); up = v; mu.Unlock() }
	tracker := func(context.Context, Request) (Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if up {
			return halfHour, nil
		}
		return Response{}, errDead
	}
	perform(t, [][]string{{"a", "b"}}, script{"a": tracker, "b": tracker}, func(s *stage) {
		time.Sleep(time.Minute)
		set(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.got) == 0 {
			t.Errorf("no peers a minute after the network came up; asked %q", s.asked)
		}
		set(false)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		s.got = nil
		set(true)
		s.a.Want()
		time.Sleep(maxWantedWait)
		synctest.Wait()
		if len(s.got) == 0 {
			t.Errorf("no peers a minute after the network came up again and they were wanted")
		}
	})
}

// TestCompletedMeanwhile covers a completion while a tracker is being told something else, or can't be reached.
func TestCompletedMeanwhile(t *testing.T) {
	t.Run("started under way", func(t *testing.T) {
		perform(t, [][]string{{"a"}}, script{"a": gives(time.Second, halfHour)}, func(s *stage) {
			s.expect("0s a started")
			s.set(0)
			s.a.Completed()
			time.Sleep(10 * time.Second)
			s.expect("1s a completed")
			time.Sleep(35 * time.Minute)
			if s.count("a") != 1 || s.requests[len(s.requests)-1].Event != None {
				t.Errorf("%+v", s.requests)
			}
		})
	})
	t.Run("before it was ever reached", func(t *testing.T) {
		var mu sync.Mutex
		err := errDead
		perform(t, [][]string{{"a"}}, script{"a": func(context.Context, Request) (Response, error) {
			mu.Lock()
			defer mu.Unlock()
			return halfHour, err
		}}, func(s *stage) {
			synctest.Wait()
			s.set(0)
			s.a.Completed()
			synctest.Wait()
			mu.Lock()
			err = nil
			mu.Unlock()
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			for _, r := range s.requests {
				if r.Event == Completed {
					t.Error("completed was told to one who knew of no start")
				}
			}
		})
	})
	t.Run("lost", func(t *testing.T) {
		perform(t, [][]string{{"a"}}, script{"a": func(_ context.Context, r Request) (Response, error) {
			if r.Event == Completed && r.Uploaded == 0 {
				return Response{}, errDead
			}
			return halfHour, nil
		}}, func(s *stage) {
			synctest.Wait()
			s.a.Completed()
			time.Sleep(time.Minute)
			synctest.Wait()
			n := 0
			for _, r := range s.requests {
				if r.Event == Completed {
					n++
				}
			}
			if n < 2 || n > 4 {
				t.Errorf("completed was tried %d times in a minute", n)
			}
		})
	})
}

func TestTrackerID(t *testing.T) {
	perform(t, [][]string{{"a"}}, script{"a": func(_ context.Context, r Request) (Response, error) {
		resp := halfHour
		if r.TrackerID == "" {
			resp.TrackerID = "x"
		}
		return resp, nil
	}}, func(s *stage) {
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for i, r := range s.requests {
			if (r.TrackerID == "x") != (i > 0) {
				t.Errorf("announce %d has tracker id %q", i, r.TrackerID)
			}
		}
	})
}

func TestStatusAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		a := NewAnnouncer(NewClient(ClientOptions{}), [][]string{
			{"http://a/k/secret/announce"}, {"wss://b/secret", "http://a/k/secret/announce"}, {}, {"http://c/announce?secret"},
		}, func() Request { return Request{} }, nil, log)
		a.announce = func(_ context.Context, url string, _ Request, got func(Response)) (Response, error) {
			if strings.Contains(url, "//c") {
				return Response{}, &RefusedError{Reason: "not registered"}
			}
			r := Response{Warning: "old client", Seeders: 3, Leechers: 4}
			got(r)
			return r, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.Run(ctx) })
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		st := a.Status()
		cancel()
		wg.Wait()
		if len(st) != 3 || len(a.tiers) != 2 {
			t.Fatalf("%d trackers in %d tiers: %+v", len(st), len(a.tiers), st)
		}
		var refused *RefusedError
		if st[0].Warning != "old client" || st[0].Seeders != 3 || st[0].Leechers != 4 || st[0].Err != nil || st[0].Last.IsZero() ||
			!errors.Is(st[1].Err, ErrScheme) || !errors.As(st[2].Err, &refused) || st[0].Announcing || st[0].Next.Before(st[0].Last) {
			t.Errorf("status is %+v", st)
		}
		log0 := out.String()
		if strings.Count(log0, "old client") != 1 || strings.Count(log0, "not registered") != 1 {
			t.Errorf("not once each:\n%s", log0)
		}
		if strings.Contains(log0, "secret") {
			t.Errorf("secrets are logged:\n%s", log0)
		}
	})
}

func TestManyTrackers(t *testing.T) {
	var tiers [][]string
	for i := range 3 * maxTrackers {
		tiers = append(tiers, []string{fmt.Sprintf("http://%d/announce", i/2)})
	}
	a := NewAnnouncer(NewClient(ClientOptions{}), tiers, nil, nil, nil)
	if len(a.tiers) != maxTrackers || len(a.Status()) != maxTrackers {
		t.Errorf("%d tiers", len(a.tiers))
	}
	// Nobody at all: Run just waits.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	NewAnnouncer(NewClient(ClientOptions{}), nil, nil, nil, nil).Run(ctx)
}

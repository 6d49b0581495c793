package tracker

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// How long a tier waits for one tracker before it asks the next as well. Before any has answered, somebody may be
// waiting for the first peer, and a tracker that never answers must not be what they wait for.
const (
	hurriedPatience = 75 * time.Millisecond
	patience        = 10 * time.Second
)

// tier is one tier of trackers and the goroutine that announces to them. It works in rounds: the trackers are asked
// in order, each when the one before has failed, has no peers, or has kept us waiting; the first to give peers ends
// the round and is moved to the front. Who was asked in vain is not given up before its own time is over, but nothing
// waits for it.
type tier struct {
	a               *Announcer
	want, completed flag
	early           flag // peers have come of an announce that is not over yet
	results         chan result

	entries []*entry // the working one first
	busy    int      // announces under way
	wanted  bool     // Want was called, and the first tracker has not been asked since

	// The round under way, if any.
	queue    []*entry  // who is still to be asked
	latest   *entry    // who was asked last
	pending  int       // how many were asked and have not answered
	advance  time.Time // when the next one is asked at the latest
	hurried  bool      // because of Want: min intervals count instead of intervals
	gotPeers bool      // nobody else needs to be asked
	settled  bool      // and who gave them is at the front
}

// entry is one tracker of a tier. All but its status belongs to the tier's goroutine.
type entry struct {
	url, site string
	status    *Status // guarded by Announcer.mu

	busy      bool
	inRound   bool // asked by the round under way
	works     bool // the last announce succeeded
	known     bool // it has taken our started
	owed      bool // it is to be told that the download is complete
	trackerID string
	failures  int       // in a row
	next      time.Time // of the regular announce, or of the next try
	soonest   time.Time // when it may be asked if peers are wanted
}

// result is what came of an announce.
type result struct {
	e    *entry
	sent Request
	resp Response
	err  error
}

func newTier(a *Announcer) *tier {
	return &tier{a: a, want: newFlag(), completed: newFlag(), early: newFlag()}
}

// add puts a tracker into the tier, at a random place (BEP 12).
func (t *tier) add(url, site string, s *Status) {
	t.entries = slices.Insert(t.entries, rand.IntN(len(t.entries)+1), &entry{url: url, site: site, status: s})
}

// run announces until ctx ends.
func (t *tier) run(ctx context.Context) {
	t.results = make(chan result, len(t.entries))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		t.ask(ctx)
		timer.Reset(time.Until(t.wake()))
		select {
		case r := <-t.results:
			t.take(r)
		case <-timer.C:
		case <-t.early:
			t.gotPeers, t.queue = true, nil
		case <-t.want:
			t.wanted = true
		case <-t.completed:
			t.complete()
		case <-ctx.Done():
			for t.busy > 0 {
				t.take(<-t.results)
			}
			return
		}
	}
}

// ask starts the announces that are due.
func (t *tier) ask(ctx context.Context) {
	now := time.Now()
	for _, e := range t.entries {
		if e.owed && !e.busy && !now.Before(e.next) {
			t.start(ctx, e)
		}
	}
	if t.idle() && !now.Before(t.due()) {
		t.begin(now)
	}
	for len(t.queue) > 0 && !now.Before(t.advance) {
		e := t.queue[0]
		t.queue = t.queue[1:]
		if e.busy || now.Before(t.ripe(e)) {
			continue
		}
		e.inRound = true
		t.latest = e
		t.pending++
		t.advance = now.Add(t.patience())
		t.start(ctx, e)
	}
}

// begin begins a round.
func (t *tier) begin(now time.Time) {
	t.queue = slices.Clone(t.entries)
	t.advance = now
	t.gotPeers, t.settled = false, false
	t.hurried = t.wanted
	// A want is met once the tracker most likely to help has been asked.
	if first := t.entries[0]; !now.Before(first.soonest) {
		t.wanted = false
	}
}

// idle says whether no round is under way.
func (t *tier) idle() bool { return len(t.queue) == 0 && (t.pending == 0 || t.settled) }

// due is when the next round should begin: when the working tracker says so, or the first of those that fail. Who is
// being asked does not count, so that a round always has somebody to ask.
func (t *tier) due() time.Time {
	due := time.Now().Add(time.Hour) // to look again
	for i, e := range t.entries {
		if e.busy || t.entries[0].works && i > 0 && !t.wanted {
			continue
		}
		at := e.next
		if t.wanted {
			at = e.soonest
		}
		if at.Before(due) {
			due = at
		}
	}
	return due
}

// ripe is when the round under way may ask a tracker.
func (t *tier) ripe(e *entry) time.Time {
	if t.hurried {
		return e.soonest
	}
	return e.next
}

func (t *tier) patience() time.Duration {
	if slices.ContainsFunc(t.entries, func(e *entry) bool { return e.known }) {
		return patience
	}
	return hurriedPatience
}

// wake is when to look again if nothing happens before.
func (t *tier) wake() time.Time {
	at := time.Now().Add(time.Hour)
	switch {
	case len(t.queue) > 0:
		at = t.advance
	case t.idle():
		at = t.due()
	}
	for _, e := range t.entries {
		if e.owed && !e.busy && e.next.Before(at) {
			at = e.next
		}
	}
	return at
}

// complete has the trackers that know of us told that the download is complete, out of turn where they work.
func (t *tier) complete() {
	for _, e := range t.entries {
		e.owed = e.known || e.busy
		if e.owed && e.works {
			e.next = time.Now()
		}
	}
}

// start starts one announce.
func (t *tier) start(ctx context.Context, e *entry) {
	r := t.a.fill(e)
	switch {
	case !e.known:
		r.Event = Started
	case e.owed:
		r.Event = Completed
	default:
		r.Event = None
	}
	e.busy = true
	t.busy++
	t.a.mu.Lock()
	e.status.Announcing = true
	t.a.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(ctx, announceLimit)
		defer cancel()
		resp, err := t.a.announce(ctx, e.url, r, func(part Response) {
			if t.a.Outside != nil && part.ExternalIP.IsValid() {
				t.a.Outside(part.ExternalIP)
			}
			if len(part.Peers) > 0 {
				t.a.peers(e.url, part.Peers)
			}
			if useful(r, part) {
				t.early.raise()
			}
		})
		t.results <- result{e, r, resp, err}
	}()
}

// take takes in what came of an announce.
func (t *tier) take(r result) {
	e, now := r.e, time.Now()
	e.busy = false
	t.busy--
	if e.inRound {
		e.inRound = false
		t.pending--
		if e == t.latest {
			t.advance = now
		}
	}
	if r.err == nil {
		t.succeeded(r, now)
		// A tracker that was asked out of turn, to be told of the completion, may settle a round as well.
		useful := useful(r.sent, r.resp)
		if useful && !t.settled || !t.entries[0].works {
			t.promote(e)
		}
		if useful {
			t.gotPeers, t.settled, t.queue = true, true, nil
		}
	} else {
		t.failed(r, now)
	}
	t.report(r, now)
}

// useful says whether an answer makes it needless to ask another tracker of the tier. Many trackers tell us of
// ourselves, which is of no use; we go by the port, not knowing what address they see, and ask once too often at worst.
func useful(sent Request, resp Response) bool {
	others := slices.ContainsFunc(resp.Peers, func(p netip.AddrPort) bool { return p.Port() != sent.Port })
	return others || len(resp.Peers) > 2 || sent.numWant() == 0
}

func (t *tier) succeeded(r result, now time.Time) {
	e := r.e
	e.works, e.known, e.failures = true, true, 0
	if r.resp.TrackerID != "" {
		e.trackerID = r.resp.TrackerID
	}
	// A min interval above the interval is meant, too.
	low := bounded(r.resp.MinInterval, 0, minInterval, maxWantInterval)
	interval := bounded(r.resp.Interval, defaultInterval, low, maxRegular)
	soonest := bounded(r.resp.MinInterval, defaultWantInterval, minWantInterval, maxWantInterval)
	e.next = now.Add(jitter(interval, interval/20))
	e.soonest = now.Add(min(soonest, interval))
	if r.sent.Left == 0 || r.sent.Event == Completed {
		e.owed = false
	}
	if e.owed { // the download was completed meanwhile
		e.next = now
	}
}

func (t *tier) failed(r result, now time.Time) {
	e := r.e
	e.works = false
	e.failures++
	wait := jitter(min(firstBackoff<<min(e.failures-1, 20), maxBackoff), firstBackoff/2)
	soonest := min(wait, maxWantedWait)
	var refused *RefusedError
	if errors.As(r.err, &refused) && refused.RetryIn > 0 {
		wait = max(wait, min(refused.RetryIn, maxInterval))
		soonest = wait
	}
	e.next, e.soonest = now.Add(wait), now.Add(soonest)
}

// promote moves a tracker to the front.
func (t *tier) promote(e *entry) {
	i := slices.Index(t.entries, e)
	copy(t.entries[1:i+1], t.entries[:i])
	t.entries[0] = e
}

// report makes the outcome of an announce known.
func (t *tier) report(r result, now time.Time) {
	if !errors.Is(r.err, context.Canceled) {
		t.a.tell(r.e, r.resp, r.err)
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	s := r.e.status
	s.Announcing = false
	s.Last, s.Next = now, r.e.next
	s.Err, s.Warning = r.err, r.resp.Warning
	s.Peers, s.Seeders, s.Leechers = len(r.resp.Peers), r.resp.Seeders, r.resp.Leechers
}

// jitter adds a random part of spread to d, so that clients started together don't stay together.
func jitter(d, spread time.Duration) time.Duration {
	return d + rand.N(max(spread, 1))
}

package tracker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the schedule. A tracker's own interval and min interval count within them.
const (
	minInterval     = time.Minute
	maxRegular      = 6 * time.Hour
	defaultInterval = 30 * time.Minute // of a tracker that gives none

	minWantInterval     = 30 * time.Second
	maxWantInterval     = time.Hour
	defaultWantInterval = 2 * time.Minute

	firstBackoff  = 10 * time.Second // after a failure; doubled by each further one
	maxBackoff    = 30 * time.Minute
	maxWantedWait = time.Minute // after a failure, when peers are wanted

	announceLimit = time.Minute     // for one announce of the schedule
	stopLimit     = 2 * time.Second // for the stopped announces at the end, all together

	maxTrackers = 200 // of one torrent
)

// Announcer keeps one torrent announced: to all tiers at once, and within a tier to one tracker after another until
// one has peers, which comes first from then on (BEP 12). No tracker waits for one that does not answer.
type Announcer struct {
	announce func(ctx context.Context, url string, r Request, got func(Response)) (Response, error)
	request  func() Request
	peers    func(url string, p []netip.AddrPort)
	log      *slog.Logger
	key      uint32
	tiers    []*tier
	// Outside, if set before Run, is told of our address as trackers see it (BEP 24), before it is told of peers.
	Outside func(netip.Addr)

	mu     sync.Mutex
	status []*Status // of every tracker, in the order given
}

// Status tells how announcing to one tracker goes.
type Status struct {
	URL        string // may hold a passkey, so not for logs
	Tier       int
	Announcing bool      // an announce is under way
	Last       time.Time // when the last announce ended; zero before the first
	Next       time.Time // when the next one is due; zero while the tracker only stands by
	Err        error     // why the last announce failed; nil if it did not
	Warning    string    // the tracker's own, from the last announce
	Peers      int       // how many the last announce gave
	Seeders    int
	Leechers   int
}

// NewAnnouncer returns an Announcer of one torrent. request is asked for what to announce before every announce; its
// Event, TrackerID, and Key if zero, are filled in. peers is given what each announce brings. Both may be called from
// several goroutines at once, and should not block. A nil log is silent.
func NewAnnouncer(c *Client, tiers [][]string, request func() Request, peers func(url string, p []netip.AddrPort),
	log *slog.Logger) *Announcer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Announcer{announce: c.announce, request: request, peers: peers, log: log, key: rand.Uint32()}
	seen := make(map[string]bool)
	for _, urls := range tiers {
		t := newTier(a)
		for _, raw := range urls {
			if seen[raw] || len(seen) == maxTrackers {
				continue
			}
			seen[raw] = true
			s := &Status{URL: raw, Tier: len(a.tiers)}
			a.status = append(a.status, s)
			if u, err := parseURL(raw); err != nil {
				s.Err = err
				log.Info("tracker left out", "err", err)
			} else {
				t.add(raw, site(u), s)
			}
		}
		if len(t.entries) > 0 {
			a.tiers = append(a.tiers, t)
		}
	}
	return a
}

// Run announces until ctx ends. Then it tells the trackers that know us that we stopped, which takes two seconds at
// most, and returns. It is called once.
func (a *Announcer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, t := range a.tiers {
		wg.Go(func() { t.run(ctx) })
	}
	<-ctx.Done()
	wg.Wait()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	for _, t := range a.tiers {
		for _, e := range t.entries {
			if e.known {
				wg.Go(func() { a.stop(ctx, e) })
			}
		}
	}
	wg.Wait()
}

// stop tells one tracker that we are gone.
func (a *Announcer) stop(ctx context.Context, e *entry) {
	r := a.fill(e)
	r.Event = Stopped
	if _, err := a.announce(ctx, e.url, r, func(Response) {}); err != nil {
		a.log.Debug("tracker not told that we stopped", "err", err)
	}
}

// Want says that the swarm is short of peers: trackers are announced to again as soon as their min interval allows.
// It never blocks, and may be called as often as the need is felt.
func (a *Announcer) Want() {
	for _, t := range a.tiers {
		t.want.raise()
	}
}

// Completed says that the torrent has been downloaded to its end, which trackers are told once. It is not for a
// torrent that was complete from the start. It never blocks.
func (a *Announcer) Completed() {
	for _, t := range a.tiers {
		t.completed.raise()
	}
}

// Status returns how announcing goes, for every tracker in the order they were given.
func (a *Announcer) Status() []Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]Status, len(a.status))
	for i, s := range a.status {
		all[i] = *s
	}
	return all
}

// fill asks for what to announce to a tracker, but for the event.
func (a *Announcer) fill(e *entry) Request {
	r := a.request()
	r.TrackerID = e.trackerID
	if r.Key == 0 {
		r.Key = a.key
	}
	return r
}

// tell logs what a user should know of an announce, without repeating itself.
func (a *Announcer) tell(e *entry, resp Response, err error) {
	var refused *RefusedError
	switch {
	case err == nil && resp.Warning != "" && resp.Warning != e.status.Warning:
		a.log.Warn("tracker warns", "tracker", e.site, "warning", resp.Warning)
	case err == nil:
		a.log.Debug("tracker answered", "tracker", e.site, "peers", len(resp.Peers), "interval", resp.Interval)
	case e.status.Err != nil && e.status.Err.Error() == err.Error():
		a.log.Debug("tracker fails again", "err", err)
	case errors.As(err, &refused):
		a.log.Warn("tracker refuses", "err", err)
	default:
		a.log.Info("tracker fails", "err", err)
	}
}

// flag is a wish that keeps until it is seen.
type flag chan struct{}

func newFlag() flag { return make(flag, 1) }

func (f flag) raise() {
	select {
	case f <- struct{}{}:
	default:
	}
}

// bounded bounds a tracker's interval, def standing for one not given.
func bounded(d, def, low, high time.Duration) time.Duration {
	if d == 0 {
		d = def
	}
	return min(max(d, low), high)
}

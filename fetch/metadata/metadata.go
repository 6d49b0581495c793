// Package metadata gets the info dictionary of a torrent of which only the info-hash is known, from its peers (BEP 9). It
// asks several peers at once, believes none of them, and returns only what hashes to the info-hash. It finds no peers and
// downloads no content.
package metadata

import (
	"context"
	"crypto/sha1"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxSize     = 64 << 20    // bytes of an info dictionary, whatever a peer claims
	maxHeld     = 2 * maxSize // bytes of all that is under construction: peers may claim many sizes
	maxPeers    = 40          // asked at once
	maxKnown    = 2000        // addresses remembered
	maxHearsay  = 1000        // of them, those that peers named, who may name anything
	dialTimeout = 8 * time.Second
	patience    = 15 * time.Second // for which a peer may leave us without an answer
	firstPause  = time.Second      // before a peer that failed is asked again; doubles with each failure
	longPause   = time.Minute
)

// Config says what to get and as whom.
type Config struct {
	InfoHash [20]byte
	PeerID   [20]byte
	Version  string
	NoPEX    bool // listen to no peer about others
	Dial     func(ctx context.Context, addr string) (net.Conn, error)
	// Room reports whether one more connection may be opened. Each true is for one call of Dial, which gives it back. Nil:
	// there always is.
	Room func() bool
	// Redial reports whether a peer that was dialled and did not shake hands is worth another call of Dial at once, as it
	// would go about it differently; true also has the meaning of Room. Nil: none is.
	Redial func(addr string) bool
	Logger *slog.Logger
}

// Progress is how far it has come.
type Progress struct {
	Known     int   // addresses of peers
	Connected int   // peers that shook hands
	Size      int64 // bytes of the info dictionary, as the peers say; 0 unknown
	Have      int64 // of these, bytes that came
}

// Fetcher gets one info dictionary. Its methods are safe for concurrent use.
type Fetcher struct {
	cfg  Config
	wake chan struct{}      // capacity 1: something has changed for the dialler
	done chan struct{}      // closed when info is there
	info []byte             // written before done is closed
	came chan *conversation // with peers that dialled us
	over chan struct{}      // closed when Run reads came no more

	mu    sync.Mutex
	known map[netip.AddrPort]*source
	// hearsay is how many of those known peers have named.
	hearsay int
	active  int
	held    int64                      // bytes that all grids take
	grids   map[*grid]struct{}         // all of them
	shared  map[int64]*grid            // by size: what the peers that claim this size put together
	talks   map[*conversation]struct{} // those under way
	callers []*conversation            // of these, with peers that dialled us, the oldest first
	live    []Live                     // connections that were open when it ended
}

// source is an address that may have the info dictionary.
type source struct {
	addr      netip.AddrPort
	named     string // by whom
	active    bool
	answered  bool // shook hands
	bad       bool // sent wrong bytes, or is another torrent's
	failures  int
	notBefore time.Time
}

// New returns a Fetcher that knows no peer yet.
func New(cfg Config) *Fetcher {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Fetcher{
		cfg: cfg, wake: make(chan struct{}, 1), done: make(chan struct{}), came: make(chan *conversation), over: make(chan struct{}),
		known: make(map[netip.AddrPort]*source), grids: make(map[*grid]struct{}), shared: make(map[int64]*grid),
		talks: make(map[*conversation]struct{}),
	}
}

// byPeers is who named the addresses that peers tell of (BEP 11).
const byPeers = "pex"

// AddPeers tells of addresses to ask; named says who named them.
func (f *Fetcher) AddPeers(named string, addrs []netip.AddrPort) {
	f.mu.Lock()
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if f.known[a] != nil || len(f.known) == maxKnown || named == byPeers && f.hearsay == maxHearsay || a.Port() == 0 {
			continue
		}
		f.known[a] = &source{addr: a, named: named}
		if named == byPeers {
			f.hearsay++
		}
	}
	f.mu.Unlock()
	f.poke()
}

func (f *Fetcher) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Progress returns how far it has come.
func (f *Fetcher) Progress() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := Progress{Known: len(f.known)}
	for c := range f.talks {
		if c.s.answered {
			p.Connected++
		}
	}
	for _, g := range f.shared {
		if have := g.have(); p.Size == 0 || have > p.Have {
			p.Size, p.Have = g.size, have
		}
	}
	return p
}

// Watch calls show with the progress, once a second, until ctx ends.
func (f *Fetcher) Watch(ctx context.Context, show func(Progress)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		show(f.Progress())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Peers returns the addresses known, by who named them. Those that are of no use are left out.
func (f *Fetcher) Peers() map[string][]netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	addrs := make(map[string][]netip.AddrPort)
	for _, s := range f.known {
		if !s.bad {
			addrs[s.named] = append(addrs[s.named], s.addr)
		}
	}
	return addrs
}

// Run asks the peers it is told of, and those that dial us, until the info dictionary is there, and returns it, or until ctx
// ends. Nothing of it runs when it returns, but connections to peers that may be of further use are open: see Live.
func (f *Fetcher) Run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer close(f.over)
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		for s := f.next(); s != nil; s = f.next() {
			wg.Go(func() {
				err := f.ask(ctx, s)
				f.left(s, err)
			})
		}
		select {
		case <-f.done:
			return f.info, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case c := <-f.came:
			if !f.admit(c) {
				_ = c.nc.Close()
				continue
			}
			wg.Go(func() {
				err := c.hold(ctx, c.greet)
				f.dismiss(c, err)
			})
		case <-f.wake:
		case <-again.C:
		}
	}
}

// next takes a source to ask, nil when there is none for now.
func (f *Fetcher) next() *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.active >= maxPeers {
		return nil
	}
	now := time.Now()
	var best *source
	for _, s := range f.known {
		if !s.active && !s.bad && !now.Before(s.notBefore) && (best == nil || s.better(best)) {
			best = s
		}
	}
	if best == nil || f.cfg.Room != nil && !f.cfg.Room() {
		return nil
	}
	best.active = true
	f.active++
	return best
}

// better reports whether s comes before other: who failed less, and then those that not only peers have named.
func (s *source) better(other *source) bool {
	if s.failures != other.failures {
		return s.failures < other.failures
	}
	return s.named != byPeers && other.named == byPeers
}

// left notes that asking a source is over.
func (f *Fetcher) left(s *source, err error) {
	f.mu.Lock()
	s.active = false
	f.active--
	s.notBefore = time.Now().Add(min(firstPause<<min(s.failures, 10), longPause))
	s.failures++
	s.bad = s.bad || errors.Is(err, errLiar)
	f.mu.Unlock()
	if err != nil {
		f.cfg.Logger.Debug("no metadata from peer", "peer", s.addr, "err", err)
	}
	f.poke()
}

// errLiar says that a peer sent an info dictionary that is not the torrent's.
var errLiar = errors.New("sent metadata that fails its hash")

// finish takes an info dictionary if it is the right one. The caller holds mu.
func (f *Fetcher) finish(info []byte) bool {
	if sha1.Sum(info) != f.cfg.InfoHash {
		return false
	}
	if f.info == nil {
		f.info = info
		close(f.done)
	}
	return true
}

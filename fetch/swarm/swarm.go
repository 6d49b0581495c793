// Package swarm downloads the pieces of one torrent that readers want, from the peers it is given. One goroutine, the
// event loop, owns every changing relationship: who wants which piece, which block is asked of whom, what each peer has.
// Everything else talks to it over channels, and it never blocks: it hashes nothing, touches no disk and resolves no name.
// It finds no peers (that is package fetch's affair) and decides no order of blocks (package picker's).
package swarm

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/peer"
)

// Store keeps verified pieces. Its methods are safe for concurrent use; all but Load and AppendBlock return at once. A
// release func ends the use of the bytes it came with; until then they stay where they are, unchanged.
type Store interface {
	// Source is what peers are served from. What they take says nothing about what readers will want again.
	peer.Source
	// Get returns a piece that is in memory.
	Get(piece int) (data []byte, release func(), ok bool)
	// Has reports whether Load is likely to find the piece.
	Has(piece int) bool
	// Load returns a piece from memory or from a slower place, verified; it may block on a disk.
	Load(piece int) (data []byte, release func(), ok bool)
	// Alloc returns a buffer of the piece's size, which counts in the store's budget of memory.
	Alloc(piece int) []byte
	// Free takes back a buffer from Alloc that nobody writes to any more.
	Free(piece int, buf []byte)
	// Add takes over a buffer from Alloc that holds the verified piece; nobody may write to it from here on.
	Add(piece int, buf []byte) (release func())
}

// Config is what a swarm is made of. All fields are read once.
type Config struct {
	Torrent   *metainfo.Torrent
	Store     Store
	PeerID    [20]byte
	Port      uint16     // where we accept connections; 0: nowhere
	Version   string     // our client's name and version, as the extension handshake says it
	InFlight  int64      // bytes of incomplete pieces held at once; at least two pieces are
	ReadAhead int64      // bytes that may be wanted ahead of a reader that is stuck, and of all of those together
	MaxPeers  int        // connections
	Upload    bool       // serve what we hold
	Pace      peer.Pacer // how fast, of all torrents together; nil: no limit
	Seed      bool       // want nothing
	Keep      bool       // fetch everything, in the background
	PEX       bool       // exchange peers with peers (BEP 11); a private torrent never does
	DHTPort   uint16     // of our DHT node, told to peers (BEP 5) unless the torrent is private; 0: none
	// Node is told of the DHT nodes that peers say they run; it must not block. Nil: nobody is.
	Node func(netip.AddrPort)
	// Outside tells at which addresses, of IPv4 and IPv6, others see us, as far as that is known (BEP 40); it must not
	// block. Nil: it never is.
	Outside func() [2]netip.Addr
	// Dial connects to a peer.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Room reports whether one more connection may be opened, of all torrents together; it must not block. Each true is
	// for one call of Dial, which gives it back when it fails or its connection is closed. Nil: there always is.
	Room func() bool
	// Redial reports whether a peer that was dialled and did not shake hands is worth another call of Dial at once, as it
	// would go about it differently; true also has the meaning of Room. It must not block. Nil: none is.
	Redial func(addr string) bool
	Logger *slog.Logger
}

// ErrClosed is returned by reads of a swarm that was closed.
var ErrClosed = errors.New("the torrent was closed")

// Swarm is a running swarm. Its methods are safe for concurrent use.
type Swarm struct {
	cfg   Config
	store Store
	link  *peer.Torrent

	wants     chan *want         // reads that miss something
	leaves    chan *want         // reads that gave up
	calls     chan func(*loop)   // everything rare
	events    chan *peer.Batch   // what peers did
	hashes    chan hashJob       // to the hash workers
	hashed    chan hashResult    // and back
	ahead     aheadTable         // what cursors said, until the loop looks
	losses    lossTable          // what the store evicted, until the loop looks
	completed chan struct{}      // closed when all has come
	sheds     atomic.Int32       // connections that other torrents have a right to
	nudge     chan struct{}      // capacity 1: there are such, or there is room for more connections
	cancel    context.CancelFunc // ends the loop and all dials
	done      chan struct{}      // closed when the loop no longer reads its channels
	wg        sync.WaitGroup     // every goroutine of the swarm

	loop    *loop // touched by its own goroutine only, until that has ended
	closing sync.Once
}

// New starts a swarm, which runs until Close.
func New(cfg Config) *Swarm {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Swarm{
		cfg: cfg, store: cfg.Store, cancel: cancel,
		wants: make(chan *want), leaves: make(chan *want), calls: make(chan func(*loop)),
		events: make(chan *peer.Batch, 64), hashes: make(chan hashJob, hashers()), hashed: make(chan hashResult, 4*hashers()),
		ahead: newAheadTable(), losses: newLossTable(), completed: make(chan struct{}), nudge: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	s.link = &peer.Torrent{
		InfoHash: cfg.Torrent.InfoHash, PeerID: cfg.PeerID,
		Pieces: cfg.Torrent.NumPieces(), PieceLength: cfg.Torrent.PieceLength, Length: cfg.Torrent.Length,
		Info: cfg.Torrent.Info, Hello: hello(cfg),
		Events: s.events, Done: s.done,
	}
	if !cfg.Torrent.Private {
		s.link.DHTPort = cfg.DHTPort
	}
	s.link.Pace = cfg.Pace
	if cfg.Upload {
		s.link.Source = cfg.Store
	}
	l := newLoop(ctx, s)
	s.loop = l
	s.wg.Add(1 + hashers())
	go func() {
		defer s.wg.Done()
		l.run()
	}()
	for range hashers() {
		go func() {
			defer s.wg.Done()
			s.hash()
		}()
	}
	return s
}

func hashers() int { return runtime.GOMAXPROCS(0) }

// Close ends the swarm: blocked reads return ErrClosed, connections are closed, and all its goroutines have ended when
// it returns.
func (s *Swarm) Close() {
	s.closing.Do(func() {
		s.cancel()
		s.wg.Wait()
		s.loop.discard()
	})
}

// call runs f on the loop and waits for its end; false when the swarm is closed.
func (s *Swarm) call(f func(*loop)) bool {
	ran := make(chan struct{})
	select {
	case s.calls <- func(l *loop) { f(l); close(ran) }:
		<-ran
		return true
	case <-s.done:
		return false
	}
}

// Link is what a connection needs to know of the torrent, for peers that dial us.
func (s *Swarm) Link() *peer.Torrent { return s.link }

// Accept takes over a connection whose peer dialled us; it is closed if there is no room.
func (s *Swarm) Accept(c *peer.Conn) {
	if !s.call(func(l *loop) { l.join(c, nil) }) {
		c.Close()
	}
}

// Resume takes over a connection to addr that was made before the pieces were known; source says who named the address.
func (s *Swarm) Resume(source string, addr netip.AddrPort, c *peer.Conn) {
	if !s.call(func(l *loop) { l.resume(source, addr, c) }) {
		c.Close()
	}
}

// loop is the event loop's state: only its goroutine touches it.
type loop struct {
	*Swarm
	ctx      context.Context //nolint:containedctx // the loop's own lifetime, for the dials that it starts
	start    time.Time
	now      time.Duration // since start, read once per event
	demand   demand
	builds   builds
	members  members
	pool     candidates
	trust    trust
	choker   choker
	holdings holdings
	keeper   keeper
	lull     lull
	claims   claims
	meters   meters
}

func newLoop(ctx context.Context, s *Swarm) *loop {
	l := &loop{Swarm: s, ctx: ctx, start: time.Now()}
	l.demand = newDemand()
	l.builds = newBuilds(s.cfg)
	l.members = newMembers(s.cfg.Torrent)
	l.members.picker.Salt(salt(s.cfg.PeerID))
	l.pool = newCandidates()
	l.trust = newTrust()
	l.choker = choker{slots: firstSlots}
	l.holdings = newHoldings(s.cfg)
	l.keeper = newKeeper(s.cfg)
	return l
}

// run is the event loop.
func (l *loop) run() {
	defer l.shutdown()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case w := <-l.wants:
			l.tell()
			l.want(w)
		case w := <-l.leaves:
			l.leave(w)
		case <-l.ahead.wake:
			l.tell()
		case <-l.losses.wake:
			l.disclaim()
		case <-l.nudge:
			l.tell()
			l.makeWay()
			l.dial()
		case f := <-l.calls:
			l.tell()
			f(l)
		case b := <-l.events:
			l.tell()
			l.batch(b)
			l.drain()
		case r := <-l.hashed:
			l.tell()
			l.verified(r)
		case <-timer.C:
		case <-tick.C:
			l.tell()
			l.sweep()
		}
		l.tell()
		l.takeAhead()
		l.keep()
		l.activate()
		wake := l.request()
		if l.reach() {
			l.activate()
			wake = l.request()
		}
		if wake = soonest(soonest(wake, l.demand.reachAgain()), l.sayClaims()); wake > 0 {
			timer.Reset(max(wake-l.now, time.Millisecond))
		} else {
			timer.Stop()
		}
	}
}

// soonest is the earlier of two times of which zero means never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// tell reads the clock.
func (l *loop) tell() { l.now = time.Since(l.start) }

// drain takes the batches that are here already, so that one look at the picker serves them all.
func (l *loop) drain() {
	for range cap(l.events) {
		select {
		case b := <-l.events:
			l.tell() // it may have come since: dated back, a block would seem to have taken no time
			l.batch(b)
		default:
			return
		}
	}
}

// shutdown releases what the loop holds; it reads no channel after.
func (l *loop) shutdown() {
	close(l.done)
	for _, m := range l.members.all {
		m.conn.Close()
	}
	close(l.hashes)
}

// sweep does what need not be done at once.
func (l *loop) sweep() {
	l.measure()
	l.hasten()
	l.rotate()
	l.audit()
	l.review()
	l.locate()
	l.turnover()
	l.listen()
	l.pool.wait(l.now)
	l.dial()
	l.rechoke()
	l.gossip()
}

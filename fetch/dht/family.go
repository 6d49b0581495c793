package dht

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lib "github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	alog "github.com/anacrolix/log"
	"golang.org/x/time/rate"
)

const (
	// askRate is how many queries a family sends a second. A search takes some hundred, and it is the user who waits
	// for it; the library's 25 would stretch it, ever more with every torrent.
	askRate  = 60
	askBurst = 60
	// patience is how long an answer is awaited.
	patience = 2 * time.Second

	greeters   = 4
	greetRate  = 4 // a second
	greetBurst = 16
)

// family is the node in one of the two networks, IPv4's and IPv6's: each has its own socket, id and table (BEP 32).
type family struct {
	six      bool
	log      *slog.Logger
	guard    *guard
	contacts contacts
	votes    votes
	store    *store
	hosts    *hosts
	other    *family // nil if there is none
	greet    chan netip.AddrPort
	manners  *rate.Limiter // of greetings

	session atomic.Pointer[session]
	// searches is held for reading by whoever relies on a session to last, for writing to replace it.
	searches sync.RWMutex
}

// session is one server of the library, which has one id for its whole life.
type session struct {
	id         [idSize]byte
	server     *lib.Server
	line       *line
	maintained chan struct{} // closed when the upkeep of the table has ended; nil until it begins
}

func newFamily(conn net.PacketConn, six bool, cfg *Config, readOnly *atomic.Bool, hosts *hosts) *family {
	f := &family{six: six, log: cfg.Logger, store: newStore(), hosts: hosts, greet: make(chan netip.AddrPort, 64),
		manners: rate.NewLimiter(greetRate, greetBurst)}
	f.guard = &guard{conn: conn, six: six, log: cfg.Logger, readOnly: readOnly, side: f, queries: newGate()}
	return f
}

// begin starts a server under an id, with nodes known from before.
func (f *family) begin(id [idSize]byte, nodes []contact) error {
	l := newLine(f.guard)
	logger := alog.NewLogger("dht").WithFilterLevel(alog.Warning)
	logger.SetHandlers(handler{f.log})
	server, err := lib.NewServer(&lib.ServerConfig{
		NodeId: id, Conn: l, Passive: true, // it never sees a query
		// The ids that don't fit an address are kept out by contacts, which knows when one can afford that.
		NoSecurity:       true,
		QueryResendDelay: func() time.Duration { return patience },
		DefaultWant:      []krpc.Want{wantOf(f.six)},
		Logger:           logger,
		SendLimiter:      rate.NewLimiter(askRate, askBurst),
	})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		// An error means that there is no room.
		_ = server.AddNode(krpc.NodeInfo{
			ID: n.id, Addr: krpc.NodeAddr{IP: n.addr.Addr().AsSlice(), Port: int(n.addr.Port())},
		})
	}
	f.guard.line.Store(l)
	f.session.Store(&session{id: id, server: server, line: l})
	return nil
}

// end ends the server and waits for it.
func (s *session) end() {
	s.line.hangUp()
	s.server.Close()
	<-s.line.down
	if s.maintained != nil {
		<-s.maintained
	}
}

// run keeps the family's place in the network until ctx ends.
func (f *family) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(f.guard.run)
	for range greeters {
		wg.Go(func() { f.welcome(ctx) })
	}
	f.keep(ctx)
	f.searches.Lock() // searches end with ctx, and none begins any more
	f.session.Load().end()
	f.guard.conn.Close()
	wg.Wait()
	f.searches.Unlock()
}

// keep joins the network, again whenever it is lost.
func (f *family) keep(ctx context.Context) {
	const most = time.Minute
	for pause := time.Second; ; pause = min(2*pause, most) {
		if len(f.up()) < 4 {
			target := f.session.Load().id
			f.search(ctx, target, findNode, krpc.MsgArgs{Target: target, Want: f.want()}, func(*krpc.Return) {})
		}
		if ctx.Err() != nil {
			return
		}
		// The library's upkeep leaks when it finds the table empty; no table gets empty again.
		if s := f.session.Load(); s.maintained == nil && s.server.NumNodes() > 0 {
			s.maintained = make(chan struct{})
			go func() {
				defer close(s.maintained)
				s.server.TableMaintainer()
			}()
		}
		f.move()
		if len(f.up()) >= 4 {
			pause = most
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// want is the families to ask for nodes of: ours, and the other as long as it knows few.
func (f *family) want() []krpc.Want {
	want := []krpc.Want{wantOf(f.six)}
	if f.other != nil && f.other.contacts.size() < enough {
		want = append(want, wantOf(!f.six))
	}
	return want
}

func wantOf(six bool) krpc.Want {
	if six {
		return krpc.WantNodes6
	}
	return krpc.WantNodes
}

// move takes another id when ours doesn't fit the address that others see us at (BEP 42), unless searches are on.
func (f *family) move() {
	old := f.session.Load()
	ip := f.votes.winner()
	if !ip.IsValid() || lib.NodeIdSecure(old.id, ip.AsSlice()) || !f.searches.TryLock() {
		return
	}
	defer f.searches.Unlock()
	nodes := f.table()
	old.end()
	id := secureID(ip)
	if err := f.begin(id, nodes); err != nil {
		f.log.Warn("dht: cannot take a new id", "error", err) // never so far: it opens nothing
	}
	f.log.Debug("dht: took an id that fits our address", "address", ip)
}

// secureID is a random id that fits an address.
func secureID(ip netip.Addr) [idSize]byte {
	id := krpc.RandomNodeID()
	if ip.IsValid() {
		lib.SecureNodeId(&id, ip.AsSlice())
	}
	return id
}

// table is what the library has in its routing table.
func (f *family) table() []contact {
	var nodes []contact
	for _, n := range f.session.Load().server.Nodes() {
		if ip, ok := netip.AddrFromSlice(n.Addr.IP); ok {
			nodes = append(nodes, contact{n.ID, netip.AddrPortFrom(ip.Unmap(), uint16(n.Addr.Port))})
		}
	}
	return nodes
}

// up is those in the routing table that answered lately.
func (f *family) up() []contact {
	now := time.Now()
	return slices.DeleteFunc(f.table(), func(n contact) bool { return !f.contacts.up(n, now) })
}

// closest is up to n nodes that are up, those nearest to target first.
func (f *family) closest(target [idSize]byte, n int) []contact {
	nodes := f.up()
	slices.SortFunc(nodes, func(a, b contact) int {
		da, db := distance(a.id, target), distance(b.id, target)
		return bytes.Compare(da[:], db[:])
	})
	return nodes[:min(n, len(nodes))]
}

func distance(a, b [idSize]byte) (d [idSize]byte) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}

// heard is part of side.
func (f *family) heard(n contact, you netip.AddrPort) bool {
	if you.IsValid() && you.Addr().Is6() == f.six {
		f.votes.cast(n.addr.Addr(), you.Addr())
	}
	return f.contacts.admit(n, time.Now())
}

// elsewhere is part of side.
func (f *family) elsewhere(n contact) {
	if f.other != nil && f.other.contacts.size() < enough {
		f.other.meet(n.addr)
	}
}

// meet has a node asked whether it is there, unless that is known; it never blocks.
func (f *family) meet(a netip.AddrPort) {
	if a.Addr().Is6() != f.six || !sendable(a) || f.contacts.know(a, time.Now()) {
		return
	}
	select {
	case f.greet <- a:
	default:
	}
}

// welcome pings those we are told of; those who answer get into the table. It takes its time, so that nobody can have
// us send many packets to somewhere.
func (f *family) welcome(ctx context.Context) {
	for f.manners.Wait(ctx) == nil {
		select {
		case <-ctx.Done():
			return
		case a := <-f.greet:
			if f.contacts.know(a, time.Now()) {
				continue
			}
			ctx, cancel := context.WithTimeout(ctx, patience)
			s := f.session.Load().server
			s.Query(ctx, lib.NewAddr(net.UDPAddrFromAddrPort(a)), ping, lib.QueryInput{})
			cancel()
		}
	}
}

// handler takes the library's log lines.
type handler struct{ log *slog.Logger }

func (h handler) Handle(r alog.Record) { h.log.Debug("dht: " + r.Text()) }

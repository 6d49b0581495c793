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

	tendEvery    = time.Minute     // between two looks at the routing table
	refreshEvery = 5 * time.Minute // between two searches to fill it
	few          = 4               // nodes that are up; with less there is no waiting for refreshEvery

	greeters   = 4
	greetRate  = 4 // a second
	greetBurst = 16
	// lately is how long after an answer a node isn't asked again whether it is there.
	lately = 6 * time.Minute
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
	near     bool    // the latest refresh was near our id; for keep alone
	shut     bool    // the door was, when it was last looked at; for keep alone
	greet    chan netip.AddrPort
	manners  *rate.Limiter // of greetings
	ours     func(netip.Addr) bool

	session atomic.Pointer[session]
	// searches is held for reading by whoever relies on a session to last, for writing to replace it.
	searches sync.RWMutex
}

// session is one server of the library, which has one id for its whole life, and forgets no node that once answered.
type session struct {
	id     [idSize]byte
	server *lib.Server
	line   *line
	begun  time.Time
}

func newFamily(conn net.PacketConn, six bool, cfg *Config, hosts *hosts) *family {
	f := &family{six: six, log: cfg.Logger, store: newStore(), hosts: hosts, greet: make(chan netip.AddrPort, 64),
		manners: rate.NewLimiter(greetRate, greetBurst), shut: cfg.ReadOnly, ours: ofThisHost}
	f.guard = &guard{conn: conn, six: six, log: cfg.Logger, door: newDoor(cfg.ReadOnly), side: f, queries: newGate()}
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
	f.session.Store(&session{id, server, l, time.Now()})
	return nil
}

// end ends the server and waits for it.
func (s *session) end() {
	s.line.hangUp()
	s.server.Close()
	<-s.line.down
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

// keep joins the network, and looks after the routing table: the library's own upkeep is without bounds.
func (f *family) keep(ctx context.Context) {
	var searched time.Time
	for pause := time.Second; ; pause = min(2*pause, tendEvery) {
		if len(f.up()) < few || time.Since(searched) >= refreshEvery {
			searched = time.Now()
			f.refresh(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		f.check()
		f.renew()
		f.watchDoor()
		if len(f.up()) >= few {
			pause = tendEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// refresh looks for nodes, near our id and far from it by turns. Those that answer get into the routing table.
func (f *family) refresh(ctx context.Context) {
	target := f.session.Load().id
	if f.near = !f.near; !f.near {
		target = krpc.RandomNodeID()
	}
	f.search(ctx, target, findNode, krpc.MsgArgs{Target: target, Want: f.want()}, func(*krpc.Return) {})
}

// check has the nodes asked that have not answered for a while.
func (f *family) check() {
	for _, n := range f.table() {
		f.meet(n.addr)
	}
}

// renew begins another session when many in the routing table are gone, or when our id doesn't fit the address that
// others see us at (BEP 42): the new one begins with those that are up. It waits for a time without searches.
func (f *family) renew() {
	old := f.session.Load()
	up, all := f.up(), f.table()
	id := old.id
	if ip := f.votes.winner(); ip.IsValid() && !lib.NodeIdSecure(id, ip.AsSlice()) {
		id = secureID(ip)
	}
	stale := len(up) >= few && 4*len(up) < 3*len(all) && time.Since(old.begun) > fresh
	if id == old.id && !stale || !f.searches.TryLock() {
		return
	}
	defer f.searches.Unlock()
	old.end()
	if err := f.begin(id, up); err != nil {
		f.log.Warn("dht: cannot begin another session", "error", err) // never so far: it opens nothing
	}
}

// watchDoor has the node become read-only, or an ordinary one again (BEP 43). There is cause to doubt that it can be reached
// where others see it at an address that is not this host's, which is behind a NAT, and where it knows so many nodes that
// strangers should come to any address. In a network of a few, or on private addresses, there is none.
func (f *family) watchDoor() {
	ip := f.votes.winner()
	hidden := ip.IsValid() && (!f.ours(ip) || f.contacts.size() >= enough)
	f.guard.door.look(hidden, time.Now())
	shut := f.guard.door.shut.Load()
	if shut == f.shut {
		return
	}
	if f.shut = shut; shut {
		f.log.Info("dht: nobody gets through to us from outside: taking part as a read-only node", "address", ip)
	} else {
		f.log.Info("dht: taking part as an ordinary node again, for others to get through to us", "address", ip)
	}
}

// ofThisHost says whether one of this host's interfaces has an address.
func ofThisHost(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap().WithZone("") == ip
	})
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
	if a.Addr().Is6() != f.six || !sendable(a) || f.contacts.know(a, lately) {
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
			if f.contacts.know(a, lately) {
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

package swarm

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a swarm under test with peers around it. The peers are on a made-up network, in made-up time, unless the rig is
// real.
type rig struct {
	*Swarm
	t       testing.TB
	content *fetchtest.Content
	store   *fetchtest.Store
	network *fetchtest.Network // nil: real sockets
	peers   []*fetchtest.Peer
	hosts   int
}

const mebibyte = 1 << 20

// bubble runs a test in made-up time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// setup is what a rig's swarm is made of; its zero value is a swarm with room for everything.
type setup struct {
	cache    int64 // bytes of verified pieces kept; 0: as many as there are
	inFlight int64 // 0: 64 MiB
	ahead    int64 // bytes that may be wanted ahead of a reader that is stuck
	maxPeers int   // 0: 300
	upload   bool
	pex      bool
	keep     bool
	room     func() bool        // nil: there always is
	real     bool               // sockets
	id       [20]byte           // zero: any
	network  *fetchtest.Network // nil: one of its own
	addr     netip.Addr         // zero: any
}

func newRig(t testing.TB, content *fetchtest.Content, s setup) *rig {
	if s.network == nil {
		s.network = fetchtest.NewNetwork()
	}
	if s.id == [20]byte{} {
		s.id = [20]byte{'-', 'U', 'T'}
	}
	if !s.addr.IsValid() {
		s.addr = netip.MustParseAddr("10.9.9.9")
	}
	r := &rig{t: t, content: content, network: s.network}
	if s.cache == 0 {
		s.cache = content.Length
	}
	if s.inFlight == 0 {
		s.inFlight = 64 * mebibyte
	}
	if s.maxPeers == 0 {
		s.maxPeers = 300
	}
	r.store = fetchtest.NewStore(content.Torrent, s.cache)
	cfg := Config{
		Torrent: content.Torrent, Store: r.store, PeerID: s.id, Version: "under test", InFlight: s.inFlight,
		ReadAhead: s.ahead, MaxPeers: s.maxPeers, Upload: s.upload, PEX: s.pex, Keep: s.keep, Dial: r.network.Dialer(s.addr),
		Room: s.room,
	}
	if s.real {
		r.network, cfg.Dial = nil, func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	r.Swarm = New(cfg)
	t.Cleanup(r.close)
	return r
}

// close ends the swarm and its peers, and checks what the swarm did to its store.
func (r *rig) close() {
	r.Swarm.Close()
	for _, p := range r.peers {
		p.Close()
	}
	if err := r.store.CheckClosed(); err != nil {
		r.t.Errorf("the store: %v", err)
	}
	if limit := r.loop.builds.budget; r.store.Peak() > limit {
		r.t.Errorf("%d bytes were in flight, with a budget of %d", r.store.Peak(), limit)
	}
}

// address is the next host's: each has an IP address of its own.
func (r *rig) address() netip.AddrPort {
	r.hosts++
	first := byte(10)
	port := uint16(6881)
	if r.network == nil {
		first, port = 127, 0
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{first, 1, byte(r.hosts >> 8), byte(r.hosts)}), port)
}

// peer starts a peer that the swarm does not know of.
func (r *rig) peer(link fetchtest.Link, conduct fetchtest.Conduct) *fetchtest.Peer {
	r.t.Helper()
	addr := r.address()
	var l net.Listener
	if r.network != nil {
		l = r.network.Listen(addr, link)
	} else {
		var err error
		if l, err = net.Listen("tcp", addr.String()); err != nil {
			r.t.Fatal(err)
		}
	}
	p := fetchtest.NewPeer(r.content, l, conduct)
	r.peers = append(r.peers, p)
	return p
}

// join starts a peer and tells the swarm of it.
func (r *rig) join(link fetchtest.Link, conduct fetchtest.Conduct) *fetchtest.Peer {
	r.t.Helper()
	p := r.peer(link, conduct)
	r.AddPeers("test", []netip.AddrPort{p.Addr()})
	return p
}

// dialIn has a peer connect to the swarm from an address.
func (r *rig) dialIn(p *fetchtest.Peer, from netip.AddrPort) {
	near, far := fetchtest.Pipe(netip.MustParseAddrPort("10.9.9.9:6881"), from)
	p.Join(far)
	ctx, cancel := context.WithTimeout(r.t.Context(), 15*time.Second)
	defer cancel()
	c, err := peer.Receive(ctx, near, func([20]byte) *peer.Torrent { return r.Link() })
	if err == nil {
		r.Accept(c)
	}
}

// fast is a good line, slow a bad one.
var (
	fast = fetchtest.Link{Delay: 5 * time.Millisecond, Rate: 8 * mebibyte}
	slow = fetchtest.Link{Delay: 50 * time.Millisecond, Rate: mebibyte / 4}
)

var honest = fetchtest.Conduct{}

// read reads n bytes at off within a minute and compares them.
func (r *rig) read(off, n int64) {
	r.t.Helper()
	if err := r.tryRead(off, n); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryRead(off, n int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := make([]byte, n)
	if err := r.ReadAt(ctx, p, off); err != nil {
		return fmt.Errorf("%d bytes at %d: %w (%+v)", n, off, err, r.Stats())
	}
	if !bytes.Equal(p, r.content.Bytes[off:off+n]) {
		return fmt.Errorf("%d bytes at %d are wrong", n, off)
	}
	return nil
}

// readAll reads everything in order, with a window of read-ahead.
func (r *rig) readAll(window int64) {
	r.t.Helper()
	const step = 128 << 10
	length := r.content.Length
	for off := int64(0); off < length; off += step {
		if off%(4*step) == 0 {
			r.Ahead(1, off, window, 0)
		}
		r.read(off, min(step, length-off))
	}
	r.Ahead(1, 0, 0, 0)
}

// piece reads a piece.
func (r *rig) piece(i int) {
	r.t.Helper()
	r.read(int64(i)*r.content.PieceLength, r.content.PieceSize(i))
}

// settle waits until nothing happens any more but the passing of time.
func (r *rig) settle() { synctest.Wait() }

// on runs f on the loop.
func (r *rig) on(f func(l *loop)) {
	r.t.Helper()
	if !r.call(f) {
		r.t.Fatal("the swarm is closed")
	}
}

// banned reports whether the swarm would have nothing to do with a peer at an address.
func (r *rig) banned(p *fetchtest.Peer) (yes bool) {
	r.on(func(l *loop) { yes = l.pool.banned(p.Addr()) })
	return yes
}

// connected reports whether the swarm has a connection to a peer.
func (r *rig) connected(p *fetchtest.Peer) (yes bool) {
	r.on(func(l *loop) {
		for _, m := range l.members.all {
			yes = yes || m.conn.ID() == p.ID
		}
	})
	return yes
}

// served is how often each block came from any of the peers, by piece and begin.
func (r *rig) served() map[[2]uint32]int {
	sum := make(map[[2]uint32]int)
	for _, p := range r.peers {
		for k, n := range p.Served() {
			sum[k] += n
		}
	}
	return sum
}

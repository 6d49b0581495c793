package dht

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	lib "github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
)

const (
	// lookEvery is how long a lookup rests when it found peers. Nodes forget a peer in about half an hour or more.
	lookEvery = 5 * time.Minute
	// wantedEvery is how long it rests at least when more peers are wanted.
	wantedEvery = 30 * time.Second
	// maxRounds is how many torrents are looked for at a time. All at once, each would have a small share of askRate.
	maxRounds = 4
	// maxFound bounds the peers of one round.
	maxFound = 2000
)

// Lookup keeps looking for the peers of one torrent.
type Lookup struct {
	node  *Node
	want  chan struct{}
	round func(ctx context.Context) outcome
}

// outcome is what a round of a lookup came to.
type outcome struct{ nodes, peers int } // that answered, that were found

// Lookup makes a lookup for the peers of a torrent; Run does it. Where announcePort isn't 0, it also tells the nodes
// closest to infoHash that we take peers of the torrent in at that port, unless it seems that no peer gets there.
//
// The function peers is told of peers as they are found, each once in a round; they are a stranger's claim. It isn't
// called twice at a time, and should not block.
func (n *Node) Lookup(infoHash [20]byte, announcePort uint16, peers func([]netip.AddrPort)) *Lookup {
	return &Lookup{
		node:  n,
		want:  make(chan struct{}, 1),
		round: func(ctx context.Context) outcome { return n.look(ctx, infoHash, announcePort, peers) },
	}
}

// Want says that the torrent is short of peers: the next round comes sooner, as soon as that makes sense.
func (l *Lookup) Want() {
	select {
	case l.want <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends or the node is closed.
func (l *Lookup) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.node.ctx, cancel)()
	for fails := 0; ctx.Err() == nil; fails++ {
		select {
		case <-l.want: // from before this round
		default:
		}
		started := time.Now()
		out := l.round(ctx)
		pause, wanted := lookEvery+rand.N(lookEvery/8), wantedEvery
		switch {
		case out.nodes == 0: // the network isn't there, or we are about to join it
			pause = min(time.Second<<min(fails, 10), time.Minute)
			wanted = pause
		case out.peers == 0:
			pause = min(4*time.Second<<min(fails, 10), lookEvery)
			wanted = min(pause, wantedEvery)
		default:
			fails = -1
		}
		if !l.rest(ctx, pause, wanted-time.Since(started)) {
			return
		}
	}
}

// rest waits for pause, or when more peers are wanted until least has passed. It returns false when ctx ends.
func (l *Lookup) rest(ctx context.Context, pause, least time.Duration) bool {
	over := time.NewTimer(pause)
	defer over.Stop()
	soon := time.NewTimer(least)
	defer soon.Stop()
	var wanted <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over.C:
			return true
		case <-soon.C:
			wanted = l.want
		case <-wanted:
			return true
		}
	}
}

// look does one round, in both families at a time.
func (n *Node) look(ctx context.Context, infoHash [20]byte, port uint16, peers func([]netip.AddrPort)) outcome {
	select {
	case n.rounds <- struct{}{}:
		defer func() { <-n.rounds }()
	case <-ctx.Done():
		return outcome{}
	}
	news := news{tell: peers, told: make(map[netip.AddrPort]struct{})}
	var mu sync.Mutex
	var out outcome
	var wg sync.WaitGroup
	for _, f := range n.families {
		wg.Go(func() {
			args := krpc.MsgArgs{InfoHash: infoHash, Want: f.want()}
			closest, answered := f.search(ctx, infoHash, getPeers, args, func(r *krpc.Return) { news.add(r.Values) })
			mu.Lock()
			out.nodes += answered
			mu.Unlock()
			if port != 0 && f.guard.door.admitsPeers(time.Now()) {
				f.announce(ctx, infoHash, int(port), closest)
			}
		})
	}
	wg.Wait()
	out.peers = len(news.told)
	return out
}

// news passes the peers found in one round on.
type news struct {
	mu   sync.Mutex
	tell func([]netip.AddrPort)
	told map[netip.AddrPort]struct{}
}

func (n *news) add(peers []krpc.NodeAddr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var fresh []netip.AddrPort
	for _, p := range peers {
		ip, ok := netip.AddrFromSlice(p.IP)
		a := netip.AddrPortFrom(ip.Unmap(), uint16(p.Port))
		if _, old := n.told[a]; old || !ok || len(n.told) == maxFound {
			continue
		}
		n.told[a] = struct{}{}
		fresh = append(fresh, a)
	}
	if len(fresh) > 0 {
		n.tell(fresh)
	}
}

// announce tells nodes that answered a search that we have a peer at our address and the port.
func (f *family) announce(ctx context.Context, infoHash [20]byte, port int, nodes []found) {
	f.searches.RLock()
	defer f.searches.RUnlock()
	s := f.session.Load().server
	var wg sync.WaitGroup
	for _, n := range nodes {
		if n.token == "" || ctx.Err() != nil {
			continue
		}
		wg.Go(func() {
			s.Query(ctx, lib.NewAddr(net.UDPAddrFromAddrPort(n.addr)), announcePeer, lib.QueryInput{
				MsgArgs: krpc.MsgArgs{InfoHash: infoHash, Port: &port, Token: n.token},
			})
		})
	}
	wg.Wait()
}

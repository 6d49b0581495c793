package dht

import (
	"context"
	"net/netip"
	"sync"
	"time"

	lib "github.com/anacrolix/dht/v2"
	nearest "github.com/anacrolix/dht/v2/k-nearest-nodes"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/dht/v2/traversal"
	"github.com/anacrolix/dht/v2/types"
)

const (
	// parallel is how many nodes a search asks at a time. Many are gone, and hold their place until patience ends.
	parallel = 8
	// maxAsked and maxSearch bound a search, which the library does not: somebody who answers with ever closer nodes of
	// his own could keep it going for ever.
	maxAsked  = 400
	maxSearch = 40 * time.Second
	// perAddress is how many nodes at one address are asked, unless it is a local one.
	perAddress = 2
)

// found is a node at the end of a search.
type found struct {
	addr  netip.AddrPort
	token string
}

// search asks nodes ever closer to target, and returns those closest that answered and how many answered in all; each
// is told of every answer. It begins with the routing table; where too few of it answer, it asks the bootstrap nodes
// too.
func (f *family) search(
	ctx context.Context, target [idSize]byte, method string, args krpc.MsgArgs, each func(*krpc.Return),
) (closest []found, answered int) {
	ctx, cancel := context.WithTimeout(ctx, maxSearch)
	defer cancel()
	f.searches.RLock()
	defer f.searches.RUnlock()
	if ctx.Err() != nil {
		return nil, 0
	}
	s := f.session.Load().server
	tally := tally{asked: make(map[netip.Addr]int)}
	op := traversal.Start(traversal.OperationInput{
		Target: target, Alpha: parallel, K: k,
		DoQuery: func(opCtx context.Context, n krpc.NodeAddr) traversal.QueryResult {
			if ip, _ := netip.AddrFromSlice(n.IP); !tally.admit(ip) {
				return traversal.QueryResult{}
			}
			res := s.Query(opCtx, lib.NewAddr(n.UDP()), method, lib.QueryInput{MsgArgs: args})
			if r := res.Reply.R; r != nil {
				tally.answer()
				each(r)
			}
			return res.TraversalQueryResult(n)
		},
		DataFilter: func(token any) bool {
			return method != getPeers || token != nil // else there is no announcing to it
		},
		NodeFilter: func(n types.AddrMaybeId) bool {
			return sendable(n.Addr.AddrPort) && n.Addr.Addr().Is6() == f.six
		},
	})
	start, _ := s.TraversalStartingNodes() // fails where there are none
	op.AddNodes(start)
	if stalled(ctx, op) && tally.answers() < k {
		f.bootstrap(ctx, op, &tally)
	}
	op.Stop()
	<-op.Stopped() // its queries end with it
	op.Closest().Range(func(e nearest.Elem) {
		token, _ := e.Data.(string)
		closest = append(closest, found{e.Addr.AddrPort, token})
	})
	return closest, tally.answers()
}

// bootstrap goes on with a search from the bootstrap nodes, each as soon as its name is resolved.
func (f *family) bootstrap(ctx context.Context, op *traversal.Operation, t *tally) {
	ctx, cancel := context.WithCancel(ctx)
	more, all := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(all)
		f.hosts.resolve(ctx, f.six, func(a netip.AddrPort) {
			_ = op.AddNode(types.AddrMaybeId{Addr: krpc.NodeAddrPort{AddrPort: a}}) // an error means that it was asked
			select {
			case more <- struct{}{}:
			default:
			}
		})
	}()
	defer func() { cancel(); <-all }()
	for {
		select {
		case <-more:
			// The rest need not be waited for when these know enough.
			if !stalled(ctx, op) || t.answers() >= k {
				return
			}
		case <-all:
			stalled(ctx, op)
			return
		}
	}
}

// stalled waits until there is nobody left to ask. It returns false when ctx ends first.
func stalled(ctx context.Context, op *traversal.Operation) bool {
	// The first signal can be from before nodes were added; the second one can't.
	for range 2 {
		select {
		case <-ctx.Done():
			return false
		case <-op.Stalled():
		}
	}
	return true
}

// tally counts the queries of one search.
type tally struct {
	mu       sync.Mutex
	total    int
	answered int
	asked    map[netip.Addr]int // by address
}

// admit says whether a node at an address may be asked, and counts it.
func (t *tally) admit(ip netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total == maxAsked || !local(ip) && t.asked[origin(ip)] == perAddress {
		return false
	}
	t.total++
	t.asked[origin(ip)]++
	return true
}

func (t *tally) answer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered++
}

func (t *tally) answers() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answered
}

package dht

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxPending bounds the queries awaiting an answer, far above what the limiter on queries lets be under way.
	maxPending = 1024
	// pendingFor is how long an answer is awaited; the library has given up by then.
	pendingFor = 10 * time.Second
	inboxSize  = 64 // answers not yet read by the library
)

var (
	errHungUp    = errors.New("dht: node is closing")
	errTooMany   = errors.New("dht: too many queries are under way")
	errNotAQuery = errors.New("dht: the library sends nothing but queries")
)

// line is the PacketConn of one Server of the library, and all of the network that the library gets to see.
//
// Out goes a query, under a transaction id that can't be guessed: the library counts its own up from zero, so that
// anyone could answer in the place of the node that was asked. In comes the answer to such a query and nothing else,
// written anew from what was understood of it. No query of a stranger ever gets here: the library can be killed or
// bloated by some, and answers others wrongly (it takes the target of a find_node from another field).
type line struct {
	guard *guard
	inbox chan parcel
	down  chan struct{} // closed by Close

	mu      sync.Mutex
	hungUp  bool
	pending map[ticket]query
}

type parcel struct {
	b    []byte
	from net.Addr
}

// ticket is what an answer must show.
type ticket struct {
	addr netip.AddrPort
	id   [4]byte
}

// query is one that awaits its answer.
type query struct {
	transaction string // the library's
	sent        time.Time
}

func newLine(g *guard) *line {
	return &line{
		guard: g, inbox: make(chan parcel, inboxSize), down: make(chan struct{}), pending: make(map[ticket]query),
	}
}

// WriteTo sends a query of the library.
func (l *line) WriteTo(b []byte, to net.Addr) (int, error) {
	m, err := decode(b)
	if err != nil || m.Type != queryType {
		return 0, errNotAQuery
	}
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, errNotAQuery
	}
	addr := udp.AddrPort()
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	m.Transaction, err = l.expect(addr, m.Transaction)
	if err != nil {
		return 0, err
	}
	m.ReadOnly = 0
	if l.guard.door.shut.Load() {
		m.ReadOnly = 1
	}
	if err := l.guard.send(&m, addr); err != nil {
		return 0, err
	}
	return len(b), nil
}

// expect makes the id for a query to addr.
func (l *line) expect(addr netip.AddrPort, transaction string) (string, error) {
	t := ticket{addr: addr}
	_, _ = rand.Read(t.id[:]) // never fails
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hungUp {
		return "", errHungUp
	}
	if len(l.pending) >= maxPending {
		for k, q := range l.pending {
			if now.Sub(q.sent) > pendingFor {
				delete(l.pending, k)
			}
		}
		if len(l.pending) >= maxPending {
			return "", errTooMany
		}
	}
	l.pending[t] = query{transaction, now}
	return string(t.id[:]), nil
}

// claim returns the library's id of the query that a message from addr answers, once for each query.
func (l *line) claim(addr netip.AddrPort, transaction string) (string, bool) {
	if len(transaction) != 4 {
		return "", false
	}
	t := ticket{addr, [4]byte([]byte(transaction))}
	l.mu.Lock()
	defer l.mu.Unlock()
	q, ok := l.pending[t]
	delete(l.pending, t)
	return q.transaction, ok && time.Since(q.sent) <= pendingFor
}

// deliver hands the library an answer. One that it has no room for is lost, like a packet.
func (l *line) deliver(m *message, from netip.AddrPort) {
	select {
	case l.inbox <- parcel{m.encode(), net.UDPAddrFromAddrPort(from)}:
	case <-l.down:
	default:
	}
}

// hangUp lets no more queries out, and answers those under way with an error, so that nobody waits for them any
// longer: the library has no way to give up a query but its timeout.
func (l *line) hangUp() {
	l.mu.Lock()
	l.hungUp = true
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	for t, q := range pending {
		m := message{Type: errorType, Transaction: q.transaction}
		select {
		case l.inbox <- parcel{m.encode(), net.UDPAddrFromAddrPort(t.addr)}:
		case <-l.down:
			return
		}
	}
}

// ReadFrom reads an answer.
func (l *line) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-l.inbox:
		return copy(b, p.b), p.from, nil
	case <-l.down:
		return 0, nil, net.ErrClosed
	}
}

// Close ends ReadFrom. The library panics when that happens before its own Close, which calls this.
func (l *line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.down:
	default:
		close(l.down)
	}
	return nil
}

// LocalAddr is that of the socket.
func (l *line) LocalAddr() net.Addr { return l.guard.conn.LocalAddr() }

// SetDeadline does nothing: the library sets none. The same goes for the other two.
func (l *line) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (l *line) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (l *line) SetWriteDeadline(time.Time) error { return nil }

var _ net.PacketConn = (*line)(nil)

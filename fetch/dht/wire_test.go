package dht

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// wire is a socket that nothing arrives at by itself. It records what goes out, and has it answered by a network made
// up, if there is one.
type wire struct {
	mu    sync.Mutex
	sent  []message
	guard *guard // of the family that the socket is of
	// reply answers a query in the place of the node at an address, or doesn't.
	reply func(q message, to netip.AddrPort) (message, bool)
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	m, err := decode(b)
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	w.sent = append(w.sent, m)
	w.mu.Unlock()
	if w.reply != nil && m.Type == queryType {
		addr := to.(*net.UDPAddr).AddrPort()
		if a, ok := w.reply(m, addr); ok {
			w.guard.receive(a.encode(), addr)
		}
	}
	return len(b), nil
}

// take returns what was sent since the last time.
func (w *wire) take() []message {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func (w *wire) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, net.ErrClosed }
func (w *wire) Close() error                           { return nil }
func (w *wire) LocalAddr() net.Addr                    { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (w *wire) SetDeadline(time.Time) error            { return nil }
func (w *wire) SetReadDeadline(time.Time) error        { return nil }
func (w *wire) SetWriteDeadline(time.Time) error       { return nil }

func addrFor(a netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(a) }

// at is a node.
func at(id byte, addr string) contact {
	return contact{[idSize]byte{id, 1}, netip.MustParseAddrPort(addr)}
}

// familyOn is a family with a session, whose socket is a wire. The test has to end its session.
func familyOn(t testing.TB, six bool) (*family, *wire) {
	t.Helper()
	w := &wire{}
	n := newNode(Config{}, nil)
	f := newFamily(w, six, &n.cfg, n.hosts)
	w.guard = f.guard
	n.families = []*family{f}
	if err := f.begin(secureID(netip.Addr{}), nil); err != nil {
		t.Fatal(err)
	}
	return f, w
}

func (f *family) end() { f.session.Load().end() }

// settle puts nodes in the routing table, as such that answered.
func (f *family) settle(t testing.TB, nodes ...contact) {
	t.Helper()
	have := append(f.table(), nodes...)
	id := f.session.Load().id
	f.end()
	if err := f.begin(id, have); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if !f.contacts.admit(n, time.Now()) {
			t.Fatalf("%v not admitted", n)
		}
	}
}

// quiet is a side that takes everything.
type quiet struct{}

func (quiet) asked(*message, netip.AddrPort)     {}
func (quiet) heard(contact, netip.AddrPort) bool { return true }
func (quiet) elsewhere(contact)                  {}

// lineOn is a line of its own, that no library reads from.
func lineOn() (*guard, *line, *wire) {
	w := &wire{}
	n := newNode(Config{}, nil)
	g := &guard{conn: w, door: newDoor(false), side: quiet{}, queries: newGate(), log: n.cfg.Logger}
	l := newLine(g)
	g.line.Store(l)
	return g, l, w
}

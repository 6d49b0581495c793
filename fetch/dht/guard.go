package dht

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// guard owns the UDP socket of one family and reads every packet that comes in. Queries go to what answers them,
// answers to the line of the library that asked; everything else ends here.
type guard struct {
	conn    net.PacketConn
	six     bool
	log     *slog.Logger
	door    *door
	line    atomic.Pointer[line]
	side    side
	queries *gate

	received, sent, dropped atomic.Uint64
}

// side is what the guard of a family tells the rest of it. The methods are called from one goroutine.
type side interface {
	// asked handles a query.
	asked(m *message, from netip.AddrPort)
	// heard says that a node answered a query of ours; you is our address as it sees it, if it said so. It returns
	// whether the node may get into the routing table.
	heard(c contact, you netip.AddrPort) bool
	// elsewhere passes on a node of the other family.
	elsewhere(c contact)
}

// run reads packets until the socket is closed. Any other error is waited out: a network that is gone for a while
// must not end the node.
func (g *guard) run() {
	buf := make([]byte, maxPacket+1)
	pause := time.Duration(0)
	for {
		n, from, err := g.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if pause == 0 {
				g.log.Debug("dht: cannot read from the socket, trying on", "error", err)
			}
			pause = min(max(2*pause, time.Millisecond), time.Second)
			time.Sleep(pause)
			continue
		}
		pause = 0
		if udp, ok := from.(*net.UDPAddr); ok {
			addr := udp.AddrPort()
			g.receive(buf[:n], netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port()))
		}
	}
}

// receive takes one packet in.
func (g *guard) receive(b []byte, from netip.AddrPort) {
	g.received.Add(1)
	if !g.take(b, from) {
		g.dropped.Add(1)
	}
}

func (g *guard) take(b []byte, from netip.AddrPort) bool {
	if len(b) == 0 || b[0] != 'd' || !sendable(from) || from.Addr().Is6() != g.six {
		return false
	}
	m, err := decode(b)
	if err != nil {
		return false
	}
	if m.Type == queryType {
		now := time.Now()
		g.door.knock(from.Addr(), now)
		if g.door.shut.Load() || !g.queries.admit(from.Addr(), now) {
			return false
		}
		g.side.asked(&m, from)
		return true
	}
	l := g.line.Load()
	if l == nil {
		return false
	}
	transaction, ok := l.claim(from, m.Transaction)
	if !ok {
		return false
	}
	out := g.clean(&m, transaction, from)
	l.deliver(&out, from)
	return true
}

// clean is what the library gets to see of an answer.
func (g *guard) clean(m *message, transaction string, from netip.AddrPort) message {
	a := &m.Answer
	if m.Type != answerType || len(a.ID) != idSize {
		return message{Type: errorType, Transaction: transaction, Fault: m.Fault}
	}
	var nodes [2][]byte
	for i, list := range []string{a.Nodes, a.Nodes6} {
		six := i == 1
		for _, c := range parseNodes(list, six, maxNodes) {
			switch {
			case c.addr.Addr().Is6() != six || !nameable(from.Addr(), c.addr):
			case six != g.six:
				g.side.elsewhere(c)
			default:
				nodes[i] = c.append(nodes[i])
			}
		}
	}
	out := message{
		Type: answerType, Transaction: transaction,
		Answer: answer{ID: a.ID, Nodes: string(nodes[0]), Nodes6: string(nodes[1])},
	}
	if len(a.Token) <= maxToken {
		out.Answer.Token = a.Token
	}
	for _, v := range a.Values[:min(len(a.Values), maxValues)] {
		if p, ok := parseAddr(v); ok && nameable(from.Addr(), p) {
			out.Answer.Values = append(out.Answer.Values, v)
		}
	}
	you, _ := parseAddr(m.You)
	if !g.side.heard(contact{[idSize]byte([]byte(a.ID)), from}, you) || m.ReadOnly != 0 {
		out.ReadOnly = 1 // which keeps it out of the library's table
	}
	return out
}

// send writes a message to a node.
func (g *guard) send(m *message, to netip.AddrPort) error {
	g.sent.Add(1)
	g.door.call(to.Addr(), time.Now())
	_, err := g.conn.WriteTo(m.encode(), net.UDPAddrFromAddrPort(to))
	return err
}

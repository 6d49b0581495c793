// Package dht finds the peers of a torrent without a tracker, by the distributed hash table (BEP 5), over IPv4 and IPv6
// (BEP 32). It owns the UDP sockets of one node, its routing table and the file that keeps it from run to run. It never
// connects to a peer, and what it finds is a stranger's claim about where peers are.
//
// Searching, transactions and the routing table are those of github.com/anacrolix/dht, which some packets kill and
// others bloat. So the library sees no packet as it came:
//
//	socket -> guard -+- queries -> answer.go, store.go: answered here
//	                 +- answers -> line: matched with a query, written anew -> library
//	socket <- line <- queries of the library
package dht

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"torrentfs/fetch/socket"
)

// DefaultBootstrap are nodes that help others to join the network, as host:port.
var DefaultBootstrap = []string{
	"router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "router.utorrent.com:6881", "dht.libtorrent.org:25401",
}

const saveEvery = 10 * time.Minute

// Config says what a node is made of.
type Config struct {
	// Listen is the host:port for UDP. Without a host the node is in the networks of both families, on one port if it
	// can be had; with one, also 0.0.0.0 or ::, in that of its family alone. Port 0, and one that is taken, mean any.
	Listen string
	// Bootstrap are the nodes, as host:port, that are asked when nobody in the routing table answers.
	Bootstrap []string
	// TablePath is the file that keeps the routing table and the node's id; empty: none does. It is one node's at a time:
	// others begin with what it has, under an id of their own, and leave it as it is.
	TablePath string
	// ReadOnly is for one that others can't reach for sure: it answers no queries, says so (BEP 43), and announces nothing.
	// Others become so, in one family or in both, when it turns out that they can't be reached.
	ReadOnly bool
	// Sockets opens what the node needs; nil: as the system does by default.
	Sockets *socket.Opener
	Logger  *slog.Logger
}

// complete fills in what may be left out.
func (c Config) complete() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Sockets == nil {
		c.Sockets = new(socket.Opener)
	}
	return c
}

// Node is a node of the distributed hash table; a process needs one. Its methods are safe for concurrent use.
type Node struct {
	cfg      Config
	hosts    *hosts
	families []*family
	table    *os.File        // the lock on the saved table; nil: it is another's, or nowhere
	rounds   chan struct{}   // filled by rounds of lookups under way
	ctx      context.Context //nolint:containedctx // the node's own lifetime
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// New starts a node, which joins the network by itself. The error says why it can't listen; a routing table that can't
// be read is logged, and the node does without.
func New(cfg Config) (*Node, error) {
	cfg = cfg.complete()
	conns, err := listen(cfg.Sockets, cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("dht: %w", err)
	}
	n := newNode(cfg, conns)
	if err := n.start(); err != nil {
		for _, conn := range conns {
			conn.Close()
		}
		n.unlock()
		return nil, err
	}
	return n, nil
}

// newNode makes a node on sockets, whose family their addresses tell.
func newNode(cfg Config, conns []net.PacketConn) *Node {
	cfg = cfg.complete()
	n := &Node{cfg: cfg, hosts: newHosts(cfg.Bootstrap, cfg.Sockets), rounds: make(chan struct{}, maxRounds)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	for _, conn := range conns {
		n.families = append(n.families, newFamily(conn, isSix(conn), &n.cfg, n.hosts))
	}
	if len(n.families) == 2 {
		n.families[0].other, n.families[1].other = n.families[1], n.families[0]
	}
	return n
}

func (n *Node) start() error {
	if n.cfg.TablePath != "" {
		var err error
		if n.table, err = lockTable(n.cfg.TablePath); err != nil {
			n.cfg.Logger.Warn("dht: cannot keep the routing table", "error", err)
		} else if n.table == nil {
			n.cfg.Logger.Debug("dht: the saved routing table is another process's to keep", "file", n.cfg.TablePath)
		}
	}
	table, err := load(n.cfg.TablePath)
	if err != nil {
		n.cfg.Logger.Warn("dht: cannot read the saved routing table, starting without", "error", err)
	}
	for _, f := range n.families {
		id := secureID(netip.Addr{})
		if s := table.id[f.index()]; s != "" && n.table != nil { // else it may be in use
			id = [idSize]byte([]byte(s))
		}
		if err := f.begin(id, table.nodes[f.index()]); err != nil {
			return fmt.Errorf("dht: %w", err)
		}
	}
	for _, f := range n.families {
		n.wg.Go(func() { f.run(n.ctx) })
	}
	n.wg.Go(n.keepTable)
	return nil
}

// listen opens the sockets for an address.
func listen(sockets *socket.Opener, addr string) ([]net.PacketConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	networks := []string{"udp4", "udp6"}
	if host != "" {
		networks = []string{"udp"}
	}
	var conns []net.PacketConn
	var errs []error
	for _, network := range networks {
		conn, err := sockets.ListenPacket(context.Background(), network, net.JoinHostPort(host, port))
		if errors.Is(err, syscall.EADDRINUSE) {
			conn, err = sockets.ListenPacket(context.Background(), network, net.JoinHostPort(host, "0"))
		}
		if err != nil {
			errs = append(errs, err) // a host may lack a family
			continue
		}
		if udp, ok := conn.LocalAddr().(*net.UDPAddr); ok {
			port = strconv.Itoa(udp.Port)
		}
		conns = append(conns, conn)
	}
	if len(conns) == 0 {
		return nil, errors.Join(errs...)
	}
	return conns, nil
}

func isSix(conn net.PacketConn) bool {
	udp, ok := conn.LocalAddr().(*net.UDPAddr)
	return ok && udp.IP.To4() == nil
}

// index is where the family stands in a saved table.
func (f *family) index() int {
	if f.six {
		return 1
	}
	return 0
}

// keepTable saves the routing table now and then, and at last when the node is closed.
func (n *Node) keepTable() {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for n.ctx.Err() == nil {
		select {
		case <-n.ctx.Done():
		case <-tick.C:
		}
		if err := n.save(); err != nil {
			n.cfg.Logger.Warn("dht: cannot save the routing table", "error", err)
		}
	}
}

// save writes the nodes that are up, if the file is ours. When none is, which is when we are offline, it leaves it as it is.
func (n *Node) save() error {
	if n.table == nil {
		return nil
	}
	old, _ := load(n.cfg.TablePath) // and one that can't be read is written over
	var table saved
	online := false
	for _, f := range n.families {
		i := f.index()
		id := f.session.Load().id
		table.id[i], table.nodes[i] = string(id[:]), f.up()
		online = online || len(table.nodes[i]) > 0
	}
	for i := range table.nodes {
		if len(table.nodes[i]) == 0 {
			table.nodes[i] = old.nodes[i]
		}
	}
	if !online {
		return nil
	}
	return table.save(n.cfg.TablePath)
}

// Close leaves the network, saves the routing table, and ends whatever lookups are under way.
func (n *Node) Close() error {
	n.cancel()
	n.wg.Wait()
	n.unlock()
	return nil
}

// unlock lets another node have the saved table.
func (n *Node) unlock() {
	if n.table != nil {
		_ = n.table.Close() // nothing was written to it
	}
}

// AddNodes tells of nodes, as host:port, that are likely to be there: those that a .torrent file names, and those that
// peers say they run (their PORT message). It doesn't block.
func (n *Node) AddNodes(nodes []string) {
	for _, s := range nodes {
		host, port, ok := splitHost(s)
		if !ok {
			continue
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			n.hosts.learn(s)
			continue
		}
		for _, f := range n.families {
			if f.six != ip.Unmap().Is6() {
				continue
			}
			if f.contacts.size() < enough { // else peers that name theirs would push out the names
				n.hosts.learn(s)
			}
			f.meet(netip.AddrPortFrom(ip.Unmap(), port))
		}
	}
}

// Mapped says that the router lets others in to the node, over IPv4. It is to be said again within the hour.
func (n *Node) Mapped() {
	for _, f := range n.families {
		if !f.six {
			f.guard.door.sign(time.Now())
		}
	}
}

// PeersCome says that peers outside reach the port that is announced, in the family of an address. It is good for an hour.
func (n *Node) PeersCome(by netip.Addr) {
	for _, f := range n.families {
		if f.six == by.Unmap().Is6() {
			f.guard.door.peerSign(time.Now())
		}
	}
}

// Addrs are the addresses of the node's sockets.
func (n *Node) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, f := range n.families {
		if udp, ok := f.guard.conn.LocalAddr().(*net.UDPAddr); ok {
			a := udp.AddrPort()
			addrs = append(addrs, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		}
	}
	return addrs
}

// Stats tells how the node is doing.
type Stats struct {
	Nodes    int // in the routing table
	Up       int // of them, those that answered lately
	Sent     uint64
	Received uint64       // packets
	Dropped  uint64       // packets of those received that meant nothing, or came too fast
	External []netip.Addr // our addresses as others see them, as far as they agree
}

// Stats returns the state of the node.
func (n *Node) Stats() Stats {
	var s Stats
	for _, f := range n.families {
		s.Nodes += len(f.table())
		s.Up += len(f.up())
		s.Sent += f.guard.sent.Load()
		s.Received += f.guard.received.Load()
		s.Dropped += f.guard.dropped.Load()
	}
	s.External = n.External()
	return s
}

// External are our addresses as others see them, as far as they agree.
func (n *Node) External() (addrs []netip.Addr) {
	for _, f := range n.families {
		if ip := f.votes.winner(); ip.IsValid() {
			addrs = append(addrs, ip)
		}
	}
	return addrs
}

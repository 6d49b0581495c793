package dht

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	lib "github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"

	"torrentfs/fetch/socket"
)

// shaky is a socket whose reads fail now and then.
type shaky struct {
	net.PacketConn
	reads atomic.Int32
}

func (s *shaky) ReadFrom(b []byte) (int, net.Addr, error) {
	if s.reads.Add(1)%4 != 0 {
		return 0, nil, &net.OpError{Op: "read", Err: syscall.ENETDOWN}
	}
	return s.PacketConn.ReadFrom(b)
}

// TestReadErrors has a node live through errors of its socket, which kill the library.
func TestReadErrors(t *testing.T) {
	conns, err := listen(new(socket.Opener), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n := newNode(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, []net.PacketConn{&shaky{PacketConn: conns[0]}})
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, n)
	for range 5 {
		exchange(t, conn, "d1:ad2:id20:"+theirID+"e1:q4:ping1:t2:xy1:y1:qe")
	}
	n.Close()
	if strings.Contains(log.String(), "\n") {
		t.Errorf("logged %s", log.String())
	}
}

// chain is a network of nodes that each name others still closer to what is asked for, without end.
func chain(steps *atomic.Int32, addr func(n uint32) netip.AddrPort) func(message, netip.AddrPort) (message, bool) {
	return func(q message, to netip.AddrPort) (message, bool) {
		target := q.Args.Target + q.Args.InfoHash
		n := uint32(steps.Add(1))
		var nodes []byte
		for i := range uint32(k) {
			c := contact{[idSize]byte([]byte(target)), addr(k*n + i)}
			// A little closer with each step.
			d := 0xffffff - (k*n + i)
			c.id[2] ^= byte(d >> 16)
			c.id[3] ^= byte(d >> 8)
			c.id[4] ^= byte(d)
			nodes = c.append(nodes)
		}
		id := [idSize]byte([]byte(target))
		d := 0xffffff - k*n
		id[2], id[3], id[4] = id[2]^byte(d>>16), id[3]^byte(d>>8), id[4]^byte(d)
		return message{Type: answerType, Transaction: q.Transaction, Answer: answer{ID: string(id[:]), Nodes: string(nodes)}}, true
	}
}

// TestEndlessSearch has a search end that could go on for ever.
func TestEndlessSearch(t *testing.T) {
	for _, c := range []struct {
		name string
		addr func(n uint32) netip.AddrPort
		most int32
	}{
		{"by many addresses", func(n uint32) netip.AddrPort { return netip.AddrPortFrom(ip4(8<<24+n), 1) }, maxAsked},
		{"by many ports of one address", func(n uint32) netip.AddrPort {
			return netip.AddrPortFrom(ip4(8<<24), uint16(n%60000+1))
		}, perAddress + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, w := familyOn(t, false)
				f.settle(t, at(1, "198.51.100.1:1"))
				var steps atomic.Int32
				w.reply = chain(&steps, c.addr)
				target := [idSize]byte{1, 2, 3}
				_, answered := f.search(t.Context(), target, getPeers, krpc.MsgArgs{InfoHash: target}, func(*krpc.Return) {})
				if n := steps.Load(); n > c.most || answered == 0 {
					t.Errorf("asked %d nodes, %d answered", n, answered)
				}
				f.end()
			})
		})
	}
}

// TestSilence has a search among nodes that don't answer end, and the end of the family's context end it at once.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := familyOn(t, false)
		var nodes []contact
		for i := range byte(50) {
			nodes = append(nodes, contact{[idSize]byte{5*i + 1}, netip.AddrPortFrom(ip4(8<<24+uint32(i)), 1)})
		}
		f.settle(t, nodes...)
		began := time.Now()
		none := func(*krpc.Return) { t.Error("an answer") }
		if closest, answered := f.search(t.Context(), [idSize]byte{}, getPeers, krpc.MsgArgs{}, none); answered+len(closest) != 0 {
			t.Errorf("%d answered", answered)
		}
		if took := time.Since(began); took > maxSearch {
			t.Errorf("took %v", took)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.search(t.Context(), [idSize]byte{}, getPeers, krpc.MsgArgs{}, none)
		}()
		synctest.Wait()
		f.session.Load().line.hangUp()
		began = time.Now()
		<-done
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v to end", took)
		}
		f.end()
	})
}

// TestCloseAtOnce has a node that waits for answers close without waiting for them.
func TestCloseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		n := newNode(Config{Bootstrap: []string{"198.51.100.1:1", "198.51.100.2:1"}}, []net.PacketConn{&deaf{wire: w, closed: make(chan struct{})}})
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		n.AddNodes([]string{"198.51.100.3:1"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.Lookup([20]byte{1}, 9, func([]netip.AddrPort) {}).Run(t.Context())
		}()
		time.Sleep(patience / 2)
		if len(w.take()) == 0 {
			t.Error("nobody was asked")
		}
		began := time.Now()
		n.Close()
		<-done
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

// deaf is a wire that reads wait on until it is closed.
type deaf struct {
	*wire
	closed chan struct{}
}

func (d *deaf) ReadFrom([]byte) (int, net.Addr, error) {
	<-d.closed
	return 0, nil, net.ErrClosed
}

func (d *deaf) Close() error { close(d.closed); return nil }

// answering has every node answer, with the id that settled gave it, and say that our address is us.
func answering(nodes []contact, us netip.Addr) func(message, netip.AddrPort) (message, bool) {
	return func(q message, to netip.AddrPort) (message, bool) {
		i := slices.IndexFunc(nodes, func(n contact) bool { return n.addr == to })
		if i < 0 {
			return message{}, false
		}
		return message{
			Type: answerType, Transaction: q.Transaction, You: string(appendAddr(nil, netip.AddrPortFrom(us, 5))),
			Answer: answer{ID: string(nodes[i].id[:])},
		}, true
	}
}

// TestIDFollowsAddress has a node take an id that fits its address, when nodes agree on one that the old doesn't fit
// (BEP 42), and keep its table.
func TestIDFollowsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := familyOn(t, false)
		var nodes []contact
		for i := range uint32(20) {
			nodes = append(nodes, contact{[idSize]byte{byte(12 * i), 1}, netip.AddrPortFrom(ip4(8<<24+i), 1)})
		}
		f.settle(t, nodes...)
		for _, us := range []string{"203.0.113.9", "203.0.113.200", "203.0.113.200"} {
			us := netip.MustParseAddr(us)
			w.reply = answering(nodes, us)
			for range 4 {
				f.refresh(t.Context())
			}
			old := f.session.Load()
			fits := lib.NodeIdSecure(old.id, us.AsSlice())
			f.renew()
			now := f.session.Load()
			if (now == old) != fits || !lib.NodeIdSecure(now.id, us.AsSlice()) {
				t.Errorf("id %x for %v, after %x", now.id, us, old.id)
			}
			if n := len(f.up()); n < len(nodes)/2 {
				t.Errorf("%d nodes left", n)
			}
		}
		f.end()
	})
}

// TestForgetsTheDead has nodes that are gone leave the table, unless all are: then it is us who are offline.
func TestForgetsTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := familyOn(t, false)
		var nodes []contact
		for i := range uint32(20) {
			nodes = append(nodes, contact{[idSize]byte{byte(12 * i), 1}, netip.AddrPortFrom(ip4(8<<24+i), 1)})
		}
		f.settle(t, nodes...)
		all := len(f.table())
		w.reply = answering(nodes[:10], netip.MustParseAddr("10.0.0.1"))
		time.Sleep(2 * fresh)
		f.renew()
		if n := len(f.table()); n != all {
			t.Errorf("%d of %d nodes left when we were offline", n, all)
		}
		f.refresh(t.Context())
		f.refresh(t.Context())
		up := len(f.up())
		f.renew()
		if n := len(f.table()); n != up || n < few {
			t.Errorf("%d nodes left, %d are up", n, up)
		}
		f.end()
	})
}

// TestOtherFamily has a node that knows a way into IPv4's network alone get into IPv6's too (BEP 32).
func TestOtherFamily(t *testing.T) {
	both := func(cfg Config) *Node {
		t.Helper()
		var conns []net.PacketConn
		for _, a := range []string{"127.0.0.1:0", "[::1]:0"} {
			c, err := listen(new(socket.Opener), a)
			if err != nil {
				t.Skip("no IPv6 here: ", err)
			}
			conns = append(conns, c...)
		}
		n := newNode(cfg, conns)
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n
	}
	first := both(Config{})
	second := both(Config{Bootstrap: []string{first.Addrs()[0].String(), first.Addrs()[1].String()}})
	eventually(t, "the first two know each other", func() bool { return first.Stats().Up == 2 && second.Stats().Up == 2 })
	third := both(Config{Bootstrap: []string{first.Addrs()[0].String()}})
	eventually(t, "the third in both networks", func() bool {
		return len(third.families[0].up()) > 0 && len(third.families[1].up()) > 0
	})
}

func TestListen(t *testing.T) {
	for _, addr := range []string{"", "junk", "127.0.0.1:99999"} {
		if _, err := New(Config{Listen: addr}); err == nil || !strings.HasPrefix(err.Error(), "dht: ") {
			t.Errorf("%q: error %v", addr, err)
		}
	}
	one := node(t, Config{Listen: "127.0.0.1:0"})
	two := node(t, Config{Listen: addrOf(one)})
	if addrOf(one) == addrOf(two) {
		t.Error("two nodes on one port")
	}
	if _, err := one.families[0].guard.conn.WriteTo(nil, nil); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("socket: %v", err)
	}
}

package dht

import (
	"expvar"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	lib "github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"

	"torrentfs/fetch/fetchtest/heap"
)

var theirID = strings.Repeat("i", idSize)

// hostile are packets that harm the library when it gets them as they are. kills says that the process ends.
var hostile = []struct {
	name, packet string
	kills        bool
}{
	{"ping with an ip of one byte", "d1:ad2:id20:" + theirID + "e2:ip1:x1:q4:ping1:t1:x1:y1:qe", true},
	{"ping with an empty ip", "d1:ad2:id20:" + theirID + "e2:ip0:1:q4:ping1:t1:x1:y1:qe", true},
	{"answer with a peer of one byte", "d1:rd2:id20:" + theirID + "6:valuesl1:xee1:t1:x1:y1:re", true},
	{"answer with an empty peer", "d1:rd2:id20:" + theirID + "6:valuesl0:ee1:t1:x1:y1:re", true},
	{"answer with a peer that is a list", "d1:rd2:id20:" + theirID + "6:valueslleee1:t1:x1:y1:re", true},
	{"answer with a peer that is a list of a number", "d1:rd2:id20:" + theirID + "6:valueslli7eeee1:t1:x1:y1:re", true},
	{"ip that is a list", "d2:iple1:q4:ping1:t1:x1:y1:qe", true},
	{"sign alone as an integer", "d1:ei-ee", false},
	{"announce_peer without arguments", "d1:q13:announce_peer1:t1:x1:y1:qe", true},
	{"put without arguments", "d1:q3:put1:t1:x1:y1:qe", true},
	{"negative length of a string", "d1:v-1:e", false},
	{"negative length of a dictionary's key", "d-1:e", false},
	{"length past 64 bits", "d1:t99999999999999999999:xe", false},
	{"128 MiB", "d1:t134217727:xe", false},
	{"128 MiB for an array", "d1:ad1:k134217727:xee", false},
	{"127 MiB in an unknown field", "d1:z134217727:xe", false},
	{"64 KiB of lists", "d1:z" + strings.Repeat("l", 65000), false},
	{"64 KiB of dictionaries", strings.Repeat("d1:z", 16000), false},
	{"4 KiB of lists", "d1:z" + strings.Repeat("l", 4000), false},
	{"lists as a list's element", "d1:t" + strings.Repeat("l", 2000) + "1:x" + strings.Repeat("e", 2001), false},
	{"lists in an error", "d1:e" + strings.Repeat("l", 2000) + strings.Repeat("e", 2000) + "1:t1:x1:y1:ee", false},
	{"huge integer", "d1:zi" + strings.Repeat("9", 60000) + "ee", false},
	{"integer that is no integer", "d1:zi-ee", false},
	{"integer without digits", "d1:ziee", false},
	{"get", "d1:ad2:id20:" + theirID + "6:target20:" + theirID + "e1:q3:get1:t1:x1:y1:qe", false},
	{"unknown method", "d1:ad2:id20:" + theirID + "e1:q5:fancy1:t1:x1:y1:qe", false},
	{"nothing", "", false},
	{"d", "d", false},
	{"not a dictionary", "le", false},
	{"empty dictionary", "de", false},
}

// TestHostilePackets sends each to a node, which has to live and to answer the next ping.
func TestHostilePackets(t *testing.T) {
	n := node(t, Config{})
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, n)
			if _, err := conn.Write([]byte(c.packet)); err != nil {
				t.Fatal(err)
			}
			if m := exchange(t, conn, "d1:ad2:id20:"+theirID+"e1:q4:ping1:t2:xy1:y1:qe"); m.Type != answerType {
				t.Errorf("answer to ping: %+v", m)
			}
		})
	}
	// The library counts what it gets, with a counter for each method.
	if v := expvar.Get("dht").String(); strings.Contains(v, "received query") {
		t.Errorf("the library got queries: %s", v)
	}
}

func dial(t testing.TB, n *Node) net.Conn {
	t.Helper()
	conn, err := net.Dial("udp", addrOf(n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// exchange sends a query with the transaction id xy and reads its answer.
func exchange(t testing.TB, conn net.Conn, packet string) message {
	t.Helper()
	if _, err := conn.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
	buf := make([]byte, 2048)
	for {
		size, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		m, err := decode(buf[:size])
		if err != nil {
			t.Fatalf("malformed answer %q: %v", buf[:size], err)
		}
		if m.Type != queryType && m.Transaction == "xy" {
			return m
		}
	}
}

// TestLibraryDies shows that the library needs the guard: each packet that kills it is given to it as it is, in a
// process of its own.
func TestLibraryDies(t *testing.T) {
	if packet := os.Getenv("DHT_TEST_PACKET"); packet != "" {
		unguarded(packet)
		return
	}
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !c.kills {
				t.Skip("harms the library in other ways, or used to")
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestLibraryDies$")
			cmd.Env = append(os.Environ(), fmt.Sprintf("DHT_TEST_PACKET=%q", c.packet))
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "panic") {
				t.Errorf("the library lives: %v\n%s", err, out)
			}
		})
	}
}

// unguarded gives a packet to the library.
func unguarded(quoted string) {
	var packet string
	fmt.Sscanf(quoted, "%q", &packet)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic("cannot listen")
	}
	cfg := lib.NewDefaultServerConfig()
	cfg.Conn, cfg.StartingNodes = conn, nil
	server, err := lib.NewServer(cfg)
	if err != nil {
		panic(err)
	}
	defer server.Close()
	from, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		panic(err)
	}
	defer from.Close()
	from.Write([]byte(packet))
	from.Write([]byte("d1:ad2:id20:" + theirID + "e1:q4:ping1:t1:x1:y1:qe"))
	_ = from.SetReadDeadline(time.Now().Add(20 * time.Second))
	from.Read(make([]byte, 2048))
}

// FuzzGuard has strangers' packets taken in, answers as if they were asked for, and looks at what the library gets to see
// of them and at what goes out.
func FuzzGuard(f *testing.F) {
	for _, c := range hostile {
		f.Add([]byte(c.packet), false)
	}
	for _, s := range []string{
		"d1:ad2:id20:" + theirID + "6:target20:" + theirID + "4:wantl2:n42:n6ee1:q9:find_node1:t2:xy1:y1:qe",
		"d1:ad2:id20:" + theirID + "9:info_hash20:" + theirID + "e1:q9:get_peers1:t2:xy1:y1:qe",
		"d1:ad2:id20:" + theirID + "12:implied_porti1e9:info_hash20:" + theirID + "4:porti1e5:token2:xxe1:q13:announce_peer1:t2:xy1:y1:qe",
		"d2:ip6:\x01\x02\x03\x04\x05\x061:rd2:id20:" + theirID + "5:nodes26:" + theirID + "\x08\x08\x08\x08\x1a\xe1e1:t4:abcd1:y1:re",
		"d1:rd2:id20:" + theirID + "6:nodes638:" + theirID + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1e1:t4:abcd1:y1:re",
		"d1:rd2:id20:" + theirID + "5:token4:tokn6:valuesl6:\x01\x02\x03\x04\x05\x0618:" + strings.Repeat("v", 18) + "ee1:t4:abcd1:y1:re",
		"d1:rd2:id20:" + theirID + "5:nodes26:" + theirID + "\x7f\x00\x00\x01\x1a\xe1e1:t4:abcd1:y1:re",
		"d1:ad2:id20:" + theirID + "e1:q9:find_node1:t2:xy1:y1:qe",
		"d1:ad2:id20:" + theirID + "9:info_hash3:abce1:q9:get_peers1:t2:xy1:y1:qe",
		"d1:ad2:id20:" + theirID + "5:token2:xxe1:q13:announce_peer1:t2:xy1:y1:qe",
		"d1:ad2:id20:" + theirID + "9:info_hash20:" + theirID + "4:porti0e5:token2:xxe1:q13:announce_peer1:t2:xy1:y1:qe",
		"d1:q4:ping1:t40:" + theirID + theirID + "1:y1:qe",
		"d1:eli203e3:whye1:t4:abcd1:y1:ee",
		"d1:eli-1ei2ee1:t4:abcd1:y1:ee",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	var families [2]*family
	var wires [2]*wire
	for i := range families {
		families[i], wires[i] = familyOn(f, i == 1)
		defer families[i].end()
	}
	families[0].other, families[1].other = families[1], families[0]
	families[0].settle(f, at(1, "198.51.100.1:1"))
	families[1].settle(f, at(1, "[2001:db8::1]:1"))
	var mu sync.Mutex
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		mu.Lock()
		defer mu.Unlock()
		from, h, w := netip.MustParseAddrPort("203.0.113.5:6881"), families[0], wires[0]
		if six {
			from, h, w = netip.MustParseAddrPort("[2001:db8::5]:6881"), families[1], wires[1]
		}
		h.guard.queries = newGate()
		// A line that the library doesn't read, where what it would get can be seen.
		l := newLine(h.guard)
		defer h.guard.line.Store(h.guard.line.Swap(l))
		if m, err := decode(b); err == nil && len(m.Transaction) == 4 {
			l.pending[ticket{from, [4]byte([]byte(m.Transaction))}] = query{"tx", time.Now()}
		}
		h.guard.receive(b, from)
		for _, m := range w.take() {
			if n := len(m.encode()); m.Type == queryType || n > len(b)+1000 {
				t.Errorf("%d bytes had %d sent: %q", len(b), n, m.encode())
			}
		}
		for len(h.greet) > 0 {
			if a := <-h.greet; a.Addr().Is6() != six || !sendable(a) {
				t.Errorf("%v is met", a)
			}
		}
		select {
		case p := <-l.inbox:
			seen(t, p.b, from, six)
		default:
		}
	})
}

// seen checks what the library gets to see.
func seen(t *testing.T, packet []byte, from netip.AddrPort, six bool) {
	var msg krpc.Msg
	if err := bencode.Unmarshal(packet, &msg); err != nil {
		t.Fatalf("the library does not read %q: %v", packet, err)
	}
	if msg.T != "tx" || msg.Y != answerType && msg.Y != errorType || msg.Q != "" || msg.A != nil {
		t.Errorf("the library gets %q", packet)
	}
	r := msg.R
	if r == nil {
		if msg.Y == answerType {
			t.Errorf("the library gets no answer in %q", packet)
		}
		return
	}
	if len(r.Nodes) > maxNodes || len(r.Nodes6) > maxNodes || len(r.Values) > maxValues {
		t.Error("the library gets too much")
	}
	for _, n := range append(r.Nodes, r.Nodes6...) {
		if a := n.Addr.ToNodeAddrPort(); a.Addr().Is6() != six || !nameable(from.Addr(), a.AddrPort) {
			t.Errorf("the library is sent to %v", a)
		}
	}
	for _, p := range r.Values {
		if a := p.ToNodeAddrPort(); !nameable(from.Addr(), netip.AddrPortFrom(a.Addr().Unmap(), a.Port())) {
			t.Errorf("the library is told of the peer %v", p)
		}
	}
}

// FuzzDecode has decode and encode agree.
func FuzzDecode(f *testing.F) {
	for _, c := range hostile {
		f.Add([]byte(c.packet))
	}
	f.Add([]byte("d1:ad2:id20:" + theirID + "12:implied_porti1e9:info_hash20:" + theirID + "4:porti1e5:token2:xxe1:q13:announce_peer1:t2:xy1:y1:qe"))
	f.Add([]byte("d2:ip6:\x01\x02\x03\x04\x05\x061:rd2:id20:" + theirID + "5:token1:xe2:roi1e1:t4:abcd1:y1:re"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if took := heap.Allocated(func() { _, _ = decode(b) }); took > 64<<10+64*uint64(len(b)) {
			t.Errorf("%d bytes allocated for %d", took, len(b))
		}
		m, err := decode(b)
		if err != nil {
			return
		}
		once := m.encode()
		again, err := decode(once)
		if err != nil {
			if len(once) > maxPacket {
				return
			}
			t.Fatalf("%q became %q: %v", b, once, err)
		}
		if twice := again.encode(); string(twice) != string(once) {
			t.Errorf("%q became %q", once, twice)
		}
	})
}

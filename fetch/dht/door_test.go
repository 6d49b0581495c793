package dht

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// behind has a family in a network of nodes, in which it is seen at an address.
func behind(t *testing.T, f *family, w *wire, nodes int, seen string) {
	t.Helper()
	var all []contact
	for i := range uint32(nodes) {
		all = append(all, contact{[idSize]byte{byte(i), 1}, netip.AddrPortFrom(ip4(8<<24+i), 1)})
	}
	f.settle(t, all...)
	w.reply = answering(all, netip.MustParseAddr(seen))
	for range 4 {
		f.refresh(t.Context())
	}
}

// later has a family look at its door every minute for a while, as it does by itself.
func (f *family) later(d time.Duration) {
	for ; d > 0; d -= tendEvery {
		time.Sleep(tendEvery)
		f.watchDoor()
	}
}

// asks has somebody ping a family, and says whether there was an answer.
func asks(f *family, w *wire, from string) bool {
	w.take()
	q := message{Type: queryType, Transaction: "tx", Method: ping, Args: args{ID: theirID}}
	f.guard.receive(q.encode(), netip.MustParseAddrPort(from))
	return len(w.take()) > 0
}

// TestBecomesReadOnly has a node behind a NAT that lets nobody in become read-only after a while (BEP 43), and an ordinary
// one again when something shows that others get in.
func TestBecomesReadOnly(t *testing.T) {
	const known, stranger, insider = "8.0.0.3:1", "9.9.9.9:9", "192.168.0.7:7"
	synctest.Test(t, func(t *testing.T) {
		f, w := familyOn(t, false)
		defer f.end()
		var log bytes.Buffer
		f.log = slog.New(slog.NewTextHandler(&log, nil))
		behind(t, f, w, 20, "203.0.113.9")
		f.watchDoor()
		f.later(trial - 2*tendEvery)
		if f.guard.door.shut.Load() || !asks(f, w, known) || !asks(f, w, insider) {
			t.Error("read-only before strangers had time to come, or silent")
		}
		f.later(3 * tendEvery)
		if !f.guard.door.shut.Load() || asks(f, w, known) || asks(f, w, insider) {
			t.Error("a node that only those reach whom it has called is not read-only")
		}
		_, _ = f.search(t.Context(), [idSize]byte{1}, getPeers, krpc.MsgArgs{}, func(*krpc.Return) {})
		if sent := w.take(); len(sent) == 0 || sent[0].ReadOnly != 1 {
			t.Errorf("sent %+v", sent)
		}
		if f.guard.door.admitsPeers(time.Now()) {
			t.Error("and yet its port is announced")
		}

		if !asks(f, w, stranger) || f.guard.door.shut.Load() {
			t.Error("a stranger came in and is not answered")
		}
		f.later(signLasts - tendEvery)
		if f.guard.door.shut.Load() {
			t.Error("read-only again soon")
		}
		f.later(2 * tendEvery)
		if !f.guard.door.shut.Load() {
			t.Error("not read-only long after the last stranger")
		}
		f.later(nextTrial)
		if f.guard.door.shut.Load() {
			t.Error("not tried again")
		}
		f.later(trial + tendEvery)
		if !f.guard.door.shut.Load() {
			t.Error("the second trial has no end")
		}
		if n := strings.Count(log.String(), "taking part as"); n != 5 {
			t.Errorf("logged %s", log.String())
		}
	})
}

// TestStaysOrdinary has nodes that can be reached, or may be as far as they know, never become read-only.
func TestStaysOrdinary(t *testing.T) {
	for name, c := range map[string]struct {
		nodes int
		seen  string
		ours  bool // the address is one of this host's
		soon  func(f *family)
	}{
		"seen at a private address":        {nodes: 20, seen: "192.168.1.2"},
		"too few say where it is":          {nodes: quorum - 1, seen: "203.0.113.9"},
		"at a public address":              {nodes: 20, seen: "203.0.113.9", ours: true},
		"at a public address, many come":   {nodes: enough, seen: "203.0.113.9", ours: true, soon: func(f *family) { f.guard.door.knock(ip4(9<<24), time.Now()) }},
		"behind a NAT, but strangers come": {nodes: 20, seen: "203.0.113.9", soon: func(f *family) { f.guard.door.knock(ip4(9<<24), time.Now()) }},
		"behind a NAT that maps the port":  {nodes: 20, seen: "203.0.113.9", soon: func(f *family) { (&Node{families: []*family{f}}).Mapped() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, w := familyOn(t, false)
				defer f.end()
				f.ours = func(netip.Addr) bool { return c.ours }
				behind(t, f, w, c.nodes, c.seen)
				for range 10 {
					if c.soon != nil {
						c.soon(f)
					}
					f.later(signLasts / 2)
					if f.guard.door.shut.Load() {
						t.Fatal("read-only")
					}
				}
			})
		})
	}
}

// TestFirewalled has a node at a public address that nobody reaches become read-only where the network is large enough for
// somebody to come.
func TestFirewalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := familyOn(t, false)
		defer f.end()
		f.ours = func(netip.Addr) bool { return true }
		behind(t, f, w, enough, "203.0.113.9")
		f.watchDoor()
		f.later(trial + tendEvery)
		if !f.guard.door.shut.Load() {
			t.Error("not read-only")
		}
	})
}

// TestPeersCome has a read-only node go on announcing as long as peers come in by TCP, and stay read-only.
func TestPeersCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := familyOn(t, false)
		defer f.end()
		n := &Node{families: []*family{f}}
		behind(t, f, w, 20, "203.0.113.9")
		f.watchDoor()
		f.later(trial + tendEvery)
		n.PeersCome(netip.MustParseAddr("2001:db8::1"))
		if f.guard.door.admitsPeers(time.Now()) {
			t.Error("who came over IPv6 shows nothing of IPv4")
		}
		n.PeersCome(ip4(9 << 24))
		if !f.guard.door.admitsPeers(time.Now()) || !f.guard.door.shut.Load() {
			t.Error("a peer came in: want it announced, and read-only")
		}
		time.Sleep(signLasts)
		if f.guard.door.admitsPeers(time.Now()) {
			t.Error("announced long after the last peer")
		}
	})
}

// TestLocked has one that accepts nothing stay read-only whatever comes.
func TestLocked(t *testing.T) {
	d := newDoor(true)
	d.knock(ip4(9<<24), time.Now())
	d.sign(time.Now())
	d.peerSign(time.Now())
	d.look(false, time.Now())
	if !d.shut.Load() || d.admitsPeers(time.Now()) {
		t.Error("open")
	}
}

// TestCalled forgets whom it has called, but not soon, and in bounded memory knows most strangers for what they are.
func TestCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(false)
		strange := func(ip netip.Addr) bool {
			before := d.until
			d.until = time.Time{}
			d.knock(ip, time.Now())
			came := !d.until.IsZero()
			d.until = before
			return came
		}
		us := ip4(9 << 24)
		if !strange(us) {
			t.Error("known before it was called")
		}
		d.call(us, time.Now())
		time.Sleep(calledFor - time.Second)
		if strange(us) {
			t.Error("forgotten too soon")
		}
		for range 2 { // what is called turns the page
			time.Sleep(calledFor)
			d.call(ip4(10), time.Now())
			d.call(ip4(8<<24), time.Now())
		}
		if !strange(us) {
			t.Error("never forgotten")
		}
		for i := range uint32(10_000) {
			d.call(ip4(20<<24+i), time.Now())
		}
		n := 0
		for i := range uint32(1000) {
			if strange(ip4(30<<24 + i)) {
				n++
			}
		}
		if n < 800 {
			t.Errorf("of 1000 strangers %d are known for such", n)
		}
	})
}

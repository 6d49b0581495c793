package dht

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ask has the library's end of a line send a query, and returns the id it goes out with.
func (w *wire) ask(t testing.TB, l *line, to netip.AddrPort) string {
	t.Helper()
	q := message{Type: queryType, Transaction: "lib", Method: ping, Args: args{ID: theirID}}
	if _, err := l.WriteTo(q.encode(), addrFor(to)); err != nil {
		t.Fatal(err)
	}
	sent := w.take()
	return sent[len(sent)-1].Transaction
}

// read reads what the library gets, if there is anything.
func (l *line) read(t testing.TB) (message, bool) {
	t.Helper()
	if len(l.inbox) == 0 {
		return message{}, false
	}
	b := make([]byte, 1<<16)
	n, _, err := l.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := decode(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	return m, true
}

// TestOnlyAnswersPass has the library get nothing but the answer to a query, from whom it went to, once.
func TestOnlyAnswersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, other := netip.MustParseAddrPort("198.51.100.1:1"), netip.MustParseAddrPort("198.51.100.1:2")
		for _, c := range []struct {
			name string
			from netip.AddrPort
			edit func(m *message)
			wait time.Duration
			want string // type of what the library gets; empty: nothing
		}{
			{"answer", to, func(*message) {}, 0, answerType},
			{"error", to, func(m *message) { m.Type = errorType }, 0, errorType},
			{"answer without an id", to, func(m *message) { m.Answer.ID = "" }, 0, errorType},
			{"answer with a long id", to, func(m *message) { m.Answer.ID += "x" }, 0, errorType},
			{"from another port", other, func(*message) {}, 0, ""},
			{"the library's transaction", to, func(m *message) { m.Transaction = "lib" }, 0, ""},
			{"a guess", to, func(m *message) { m.Transaction = "\x00\x00\x00\x01" }, 0, ""},
			{"none", to, func(m *message) { m.Transaction = "" }, 0, ""},
			{"late", to, func(*message) {}, pendingFor + time.Second, ""},
			{"a query", to, func(m *message) { m.Type = queryType; m.Method = ping; m.Args.ID = theirID }, 0, ""},
		} {
			g, l, w := lineOn()
			m := message{Type: answerType, Transaction: w.ask(t, l, to), Answer: answer{ID: theirID}}
			c.edit(&m)
			time.Sleep(c.wait)
			g.take(m.encode(), c.from)
			got, ok := l.read(t)
			if got.Type != c.want || ok && got.Transaction != "lib" {
				t.Errorf("%s: the library gets %+v", c.name, got)
			}
			g.take(m.encode(), c.from)
			if got, ok := l.read(t); ok {
				t.Errorf("%s, again: the library gets %+v", c.name, got)
			}
		}
	})
}

// TestTransactionsAreRandom has two queries not tell the next one's id.
func TestTransactionsAreRandom(t *testing.T) {
	_, l, w := lineOn()
	seen := make(map[string]bool)
	for range 100 {
		id := w.ask(t, l, netip.MustParseAddrPort("198.51.100.1:1"))
		if len(id) != 4 || seen[id] {
			t.Errorf("transaction %q", id)
		}
		seen[id] = true
	}
}

func TestClean(t *testing.T) {
	good, good6 := at(1, "198.51.100.1:1"), at(1, "[2001:db8::1]:1")
	inner, zero := at(2, "127.0.0.1:1"), at(3, "198.51.100.1:0")
	mapped := theirID + strings.Repeat("\x00", 10) + "\xff\xff\xc6\x33\x64\x01\x00\x01"
	peer := string(appendAddr(nil, netip.MustParseAddrPort("198.51.100.9:9")))
	peer6 := string(appendAddr(nil, netip.MustParseAddrPort("[2001:db8::9]:9")))
	for _, c := range []struct {
		name     string
		in, want answer
	}{
		{"all in order", answer{Nodes: string(good.append(nil)), Token: "tok", Values: []string{peer, peer6}},
			answer{Nodes: string(good.append(nil)), Token: "tok", Values: []string{peer, peer6}}},
		{"a node too short", answer{Nodes: string(good.append(nil)) + "x"}, answer{Nodes: string(good.append(nil))}},
		{"a node at this host", answer{Nodes: string(inner.append(nil))}, answer{}},
		{"a node at port 0", answer{Nodes: string(zero.append(nil))}, answer{}},
		{"nodes of the other family", answer{Nodes6: string(good6.append(nil))}, answer{}},
		{"IPv4 as IPv6", answer{Nodes6: mapped}, answer{}},
		{"many nodes", answer{Nodes: strings.Repeat(string(good.append(nil)), 100)}, answer{Nodes: strings.Repeat(string(good.append(nil)), maxNodes)}},
		{"a long token", answer{Token: strings.Repeat("t", maxToken+1)}, answer{}},
		{"peers that are none", answer{Values: []string{"", "x", "1234567", "\x7f\x00\x00\x01\x00\x09", "\x01\x02\x03\x04\x00\x00", peer}}, answer{Values: []string{peer}}},
	} {
		g, l, w := lineOn()
		from := netip.MustParseAddrPort("203.0.113.7:7")
		m := message{Type: answerType, Transaction: w.ask(t, l, from), Answer: c.in}
		m.Answer.ID = theirID
		g.take(m.encode(), from)
		got, _ := l.read(t)
		c.want.ID = theirID
		want := message{Type: answerType, Transaction: "lib", Answer: c.want}
		if string(got.encode()) != string(want.encode()) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got.encode(), want.encode())
		}
	}
}

func TestPendingBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l, w := lineOn()
		to := netip.MustParseAddrPort("198.51.100.1:1")
		for range maxPending {
			w.ask(t, l, to)
		}
		if _, err := l.expect(to, "x"); !errors.Is(err, errTooMany) {
			t.Errorf("one more: %v", err)
		}
		time.Sleep(pendingFor + time.Second)
		if _, err := l.expect(to, "x"); err != nil || len(l.pending) != 1 {
			t.Errorf("later: %v, %d pending", err, len(l.pending))
		}
	})
}

func TestHangUp(t *testing.T) {
	g, l, w := lineOn()
	to := netip.MustParseAddrPort("198.51.100.1:1")
	id := w.ask(t, l, to)
	l.hangUp()
	if m, ok := l.read(t); !ok || m.Type != errorType || m.Transaction != "lib" {
		t.Errorf("the library gets %+v", m)
	}
	if _, err := l.WriteTo((&message{Type: queryType, Args: args{ID: theirID}}).encode(), addrFor(to)); !errors.Is(err, errHungUp) {
		t.Errorf("a query after it: %v", err)
	}
	if g.take((&message{Type: answerType, Transaction: id, Answer: answer{ID: theirID}}).encode(), to) {
		t.Error("an answer after it is taken")
	}
	l.Close()
	l.Close()
	if _, _, err := l.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
}

// TestFullInbox has answers that the library doesn't read not block the guard.
func TestFullInbox(t *testing.T) {
	g, l, w := lineOn()
	to := netip.MustParseAddrPort("198.51.100.1:1")
	for range 3 * inboxSize {
		g.take((&message{Type: answerType, Transaction: w.ask(t, l, to), Answer: answer{ID: theirID}}).encode(), to)
	}
	if len(l.inbox) != inboxSize {
		t.Errorf("%d answers wait", len(l.inbox))
	}
}

// TestNotAQuery has the library send nothing else, whatever version it is of.
func TestNotAQuery(t *testing.T) {
	_, l, w := lineOn()
	for _, b := range []string{"", "x", string((&message{Type: answerType}).encode())} {
		if _, err := l.WriteTo([]byte(b), addrFor(netip.MustParseAddrPort("198.51.100.1:1"))); !errors.Is(err, errNotAQuery) {
			t.Errorf("%q: %v", b, err)
		}
	}
	if sent := w.take(); len(sent) > 0 {
		t.Errorf("sent %+v", sent)
	}
}

package tracker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// wireUDP is one side of a made-up network: what is sent on it goes to a tracker, whose replies come back, all in
// the test's own bubble of time.
type wireUDP struct {
	tracker func(p []byte) []datagramFrom // called with each packet sent; returns what comes back
	in      chan datagramFrom
	closed  chan struct{}
	onClose func()
	once    sync.Once
	mu      sync.Mutex // held while tracker runs
}

type datagramFrom struct {
	p    []byte
	from string
	err  error
}

func newWire(tracker func(p []byte) []datagramFrom) *wireUDP {
	return &wireUDP{tracker: tracker, in: make(chan datagramFrom, 100), closed: make(chan struct{})}
}

// listen is a ClientOptions.ListenPacket.
func (w *wireUDP) listen(context.Context, string, string) (net.PacketConn, error) { return w, nil }

func (w *wireUDP) WriteTo(p []byte, _ net.Addr) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.tracker(bytes.Clone(p)) {
		w.in <- d
	}
	return len(p), nil
}

func (w *wireUDP) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case d := <-w.in:
		return copy(p, d.p), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(d.from)), d.err
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}

func (w *wireUDP) Close() error {
	w.once.Do(func() {
		close(w.closed)
		if w.onClose != nil {
			w.onClose()
		}
	})
	return nil
}

func (w *wireUDP) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (w *wireUDP) SetDeadline(time.Time) error      { return nil }
func (w *wireUDP) SetReadDeadline(time.Time) error  { return nil }
func (w *wireUDP) SetWriteDeadline(time.Time) error { return nil }

const there = "9.9.9.9:80" // where the tracker of these tests is

func isConnect(p []byte) bool { return binary.BigEndian.Uint32(p[8:]) == actionConnect }

// replyTo makes a reply to the request p: its action, its transaction id and a body.
func replyTo(p []byte, body ...byte) []byte {
	return append(slices.Concat(p[8:12], p[12:16]), body...)
}

// good is how a tracker that works answers: with a connection id, and with one peer.
func good(p []byte) []datagramFrom {
	if isConnect(p) {
		return []datagramFrom{{p: replyTo(p, []byte("conn-id!")...), from: there}}
	}
	return []datagramFrom{{p: replyTo(p, 0, 0, 7, 8, 0, 0, 0, 3, 0, 0, 0, 4, 1, 2, 3, 4, 0x1a, 0xe1), from: there}}
}

func TestUDPPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent [][]byte
		w := newWire(func(p []byte) []datagramFrom {
			sent = append(sent, p)
			return good(p)
		})
		c := NewClient(ClientOptions{ListenPacket: w.listen})
		defer c.Close()
		long := strings.Repeat("k", 300)
		resp, err := c.Announce(t.Context(), "udp://"+there+"/announce?passkey="+long, sample())
		if err != nil {
			t.Fatal(err)
		}
		want := Response{Interval: 1800 * time.Second, Leechers: 3, Seeders: 4, Peers: addrs("1.2.3.4:6881")}
		if !reflect.DeepEqual(resp, want) {
			t.Errorf("got %+v, want %+v", resp, want)
		}
		if len(sent) != 2 {
			t.Fatalf("%d packets", len(sent))
		}
		if !bytes.Equal(sent[0][:12], []byte("\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00")) || len(sent[0]) != 16 {
			t.Errorf("connect is %x", sent[0])
		}
		r, p := sample(), sent[1]
		path := "/announce?passkey=" + long
		wantBytes := slices.Concat([]byte("conn-id!"), []byte{0, 0, 0, 1}, p[12:16], r.InfoHash[:], r.PeerID[:],
			[]byte("\x00\x00\x00\x00\x00\x00\x00\x16\x00\x00\x00\x00\x00\x00\x00\x21\x00\x00\x00\x00\x00\x00\x00\x0b"),
			[]byte("\x00\x00\x00\x02\x00\x00\x00\x00\x0a\x0b\x0c\x0d\x00\x00\x00\x2c\x1a\xe1"),
			[]byte{2, 255}, []byte(path[:255]), []byte{2, byte(len(path) - 255)}, []byte(path[255:]))
		if !bytes.Equal(p, wantBytes) {
			t.Errorf("announce is\n%x, want\n%x", p, wantBytes)
		}
		if bytes.Equal(sent[0][12:], sent[1][12:16]) {
			t.Error("a transaction id is used twice")
		}
	})
}

func TestURLOptions(t *testing.T) {
	for raw, want := range map[string]string{
		"udp://h:1":          "",
		"udp://h:1/":         "",
		"udp://h:1/announce": "\x02\x09/announce",
		"udp://h:1/a%20b?c":  "\x02\x08/a%20b?c",
		"udp://h:1?c=d":      "\x02\x04?c=d",
	} {
		u, _ := url.Parse(raw)
		if got, err := urlOptions(u); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", raw, got, err, want)
		}
	}
	u, _ := url.Parse("udp://h:1/" + strings.Repeat("x", maxURLData))
	if _, err := urlOptions(u); err == nil {
		t.Error("a path that fills a packet is sent")
	}
}

// TestUDPRetries covers the patience of BEP 15: 15 x 2^n seconds, n up to 8.
func TestUDPRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		w := newWire(func(p []byte) []datagramFrom {
			at = append(at, time.Since(begin))
			return nil
		})
		c := NewClient(ClientOptions{ListenPacket: w.listen})
		defer c.Close()
		_, err := c.Announce(t.Context(), "udp://"+there, sample())
		if !errors.Is(err, errNoReply) {
			t.Errorf("error is %v", err)
		}
		var want []time.Duration
		for n, when := 0, time.Duration(0); n <= 8; n++ {
			want = append(want, when)
			when += 15 * time.Second << n
		}
		if !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
	})
}

// TestUDPLost covers single lost packets, and a deadline.
func TestUDPLost(t *testing.T) {
	for name, c := range map[string]struct {
		lost    []int // of the packets sent
		timeout time.Duration
		took    time.Duration
		kinds   string // of the packets sent: connect or announce
		err     error
	}{
		"none":          {kinds: "ca", timeout: time.Hour},
		"connect":       {lost: []int{0}, kinds: "cca", took: 15 * time.Second, timeout: time.Hour},
		"connect twice": {lost: []int{0, 1}, kinds: "ccca", took: 45 * time.Second, timeout: time.Hour},
		"announce":      {lost: []int{1}, kinds: "caa", took: 15 * time.Second, timeout: time.Hour},
		"both":          {lost: []int{0, 2}, kinds: "ccaa", took: 45 * time.Second, timeout: time.Hour},
		"announce, for so long that its connection id is too old": {lost: []int{1, 2, 3}, kinds: "caaaca", took: 105 * time.Second, timeout: time.Hour},
		"deadline": {lost: []int{0, 1, 2}, kinds: "cc", took: 20 * time.Second, timeout: 20 * time.Second, err: errNoReply},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kinds := ""
				w := newWire(func(p []byte) []datagramFrom {
					n := len(kinds)
					if isConnect(p) {
						kinds += "c"
					} else {
						kinds += "a"
					}
					if slices.Contains(c.lost, n) {
						return nil
					}
					return good(p)
				})
				client := NewClient(ClientOptions{ListenPacket: w.listen})
				defer client.Close()
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
				defer cancel()
				_, err := client.Announce(ctx, "udp://"+there, sample())
				if !errors.Is(err, c.err) || kinds != c.kinds || time.Since(begin) != c.took {
					t.Errorf("%v after %v with %q; want %v after %v with %q", err, time.Since(begin), kinds, c.err, c.took, c.kinds)
				}
			})
		})
	}
}

// TestUDPConnectionID covers that a connection id serves for a minute, for whoever announces, and no longer; and that
// one which the tracker refuses is replaced.
func TestUDPConnectionID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kinds, refuse := "", false
		w := newWire(func(p []byte) []datagramFrom {
			if isConnect(p) {
				kinds += "c"
			} else {
				kinds += "a"
				if refuse {
					refuse = false
					return []datagramFrom{{p: slices.Concat([]byte{0, 0, 0, 3}, p[12:16], []byte("Connection ID missmatch.")), from: there}}
				}
			}
			return good(p)
		})
		c := NewClient(ClientOptions{ListenPacket: func(context.Context, string, string) (net.PacketConn, error) {
			w = newWire(w.tracker)
			return w, nil
		}})
		defer c.Close()
		ask := func(want string) {
			t.Helper()
			kinds = ""
			if _, err := c.Announce(t.Context(), "udp://"+there, sample()); err != nil || kinds != want {
				t.Errorf("%v with %q, want %q", err, kinds, want)
			}
		}
		ask("ca")
		ask("a")
		time.Sleep(50 * time.Second)
		ask("a")
		time.Sleep(11 * time.Second)
		ask("ca")
		refuse = true
		ask("aca")
		time.Sleep(time.Hour) // the socket is closed meanwhile
		ask("ca")
		kinds = ""
		time.Sleep(time.Hour)
		var wg sync.WaitGroup
		for range 10 { // at once: one asks for the id, all use it
			wg.Go(func() {
				if _, err := c.Announce(t.Context(), "udp://"+there, sample()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if kinds != "caaaaaaaaaa" {
			t.Errorf("ten at once: %q", kinds)
		}
	})
}

// TestUDPStrangers covers replies that are not the tracker's: they are passed over, and the true one still counts.
func TestUDPStrangers(t *testing.T) {
	flip := func(p []byte, i int) []byte { p = bytes.Clone(p); p[i] ^= 1; return p }
	for name, forge := range map[string]func(d datagramFrom) datagramFrom{
		"another address":       func(d datagramFrom) datagramFrom { d.from = "9.9.9.8:80"; return d },
		"another port":          func(d datagramFrom) datagramFrom { d.from = "9.9.9.9:81"; return d },
		"another transaction":   func(d datagramFrom) datagramFrom { d.p = flip(d.p, 7); return d },
		"another action":        func(d datagramFrom) datagramFrom { d.p = flip(d.p, 2); return d },
		"scrape":                func(d datagramFrom) datagramFrom { d.p = flip(flip(d.p, 3), 3); d.p[3] = 2; return d },
		"an error of another's": func(d datagramFrom) datagramFrom { d.p = flip(d.p, 4); d.p[3] = actionError; return d },
		"an error from elsewhere": func(d datagramFrom) datagramFrom {
			d.p = bytes.Clone(d.p)
			d.p[3] = actionError
			d.from = "8.8.8.8:80"
			return d
		},
		"nothing":     func(d datagramFrom) datagramFrom { d.p = nil; return d },
		"seven bytes": func(d datagramFrom) datagramFrom { d.p = d.p[:7]; return d },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(p []byte) []datagramFrom {
					d := good(p)[0]
					bad := d
					bad.p = bytes.Clone(d.p)
					if len(bad.p) > 20 {
						copy(bad.p[20:], []byte{6, 6, 6, 6})
					}
					bad = forge(bad)
					return []datagramFrom{bad, bad, d, bad}
				})
				c := NewClient(ClientOptions{ListenPacket: w.listen})
				defer c.Close()
				begin := time.Now()
				resp, err := c.Announce(t.Context(), "udp://"+there, sample())
				if err != nil || !slices.Equal(resp.Peers, addrs("1.2.3.4:6881")) || time.Since(begin) != 0 {
					t.Errorf("%+v, %v after %v", resp, err, time.Since(begin))
				}
			})
		})
	}
}

func TestUDPReplies(t *testing.T) {
	for name, c := range map[string]struct {
		body  []byte // of the reply to an announce, behind the transaction id
		error bool   // the reply is one
		want  Response
		err   string
	}{
		"refused":                {body: []byte("not here\x1b"), error: true, err: "refused the announce: not here"},
		"refused without reason": {error: true, err: "no reason given"},
		"too short":              {body: make([]byte, 11), err: "reply of 19 bytes is too short"},
		"empty":                  {err: "reply of 8 bytes is too short"},
		"no peers":               {body: make([]byte, 12)},
		"negative":               {body: []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00\x00\x00")},
		"large": {body: []byte("\x7f\xff\xff\xff\x7f\xff\xff\xff\x7f\xff\xff\xff"),
			want: Response{Interval: maxInterval, Leechers: 1<<31 - 1, Seeders: 1<<31 - 1}},
		"wrong length": {body: append(make([]byte, 12), 1, 2, 3, 4, 0, 5, 6, 7), want: Response{Peers: addrs("1.2.3.4:5")}},
		"flood":        {body: append(make([]byte, 12), bytes.Repeat([]byte{1, 2, 3, 4, 0, 5}, 5000)...), want: Response{Peers: addrs("1.2.3.4:5")}},
		"impossible peers": {body: append(make([]byte, 12), 1, 2, 3, 4, 0, 0, 127, 0, 0, 1, 0, 5, 169, 254, 169, 254, 0, 80),
			want: Response{Peers: []netip.AddrPort{}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(func(p []byte) []datagramFrom {
					if isConnect(p) {
						return good(p)
					}
					d := datagramFrom{p: replyTo(p, c.body...), from: there}
					if c.error {
						d.p[3] = actionError
					}
					return []datagramFrom{d}
				})
				client := NewClient(ClientOptions{ListenPacket: w.listen})
				defer client.Close()
				resp, err := client.Announce(t.Context(), "udp://"+there, sample())
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("error is %v, want %q", err, c.err)
					}
					return
				}
				if len(resp.Peers) == 0 && len(c.want.Peers) == 0 {
					resp.Peers, c.want.Peers = nil, nil
				}
				if err != nil || !reflect.DeepEqual(resp, c.want) {
					t.Errorf("got %+v, %v; want %+v", resp, err, c.want)
				}
			})
		})
	}
}

// TestUDPConnectReplies covers refusals and nonsense in answer to a connect.
func TestUDPConnectReplies(t *testing.T) {
	for _, c := range []struct {
		action byte
		body   string
		want   string
	}{
		{actionError, "overloaded", "refused the announce: overloaded"},
		{actionConnect, "1234567", "connect reply of 15 bytes is too short"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(func(p []byte) []datagramFrom {
				d := datagramFrom{p: replyTo(p, []byte(c.body)...), from: there}
				d.p[3] = c.action
				return []datagramFrom{d}
			})
			client := NewClient(ClientOptions{ListenPacket: w.listen})
			defer client.Close()
			if _, err := client.Announce(t.Context(), "udp://"+there, sample()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestUDPBroken covers a socket whose reads fail: the announce fails with it, and the next one opens another.
func TestUDPBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		c := NewClient(ClientOptions{ListenPacket: func(context.Context, string, string) (net.PacketConn, error) {
			return newWire(func(p []byte) []datagramFrom {
				if broken {
					return slices.Repeat([]datagramFrom{{err: io.ErrUnexpectedEOF, from: there}}, udpMaxErrors)
				}
				return good(p)
			}), nil
		}})
		defer c.Close()
		if _, err := c.Announce(t.Context(), "udp://"+there, sample()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error is %v", err)
		}
		synctest.Wait()
		broken = false
		if _, err := c.Announce(t.Context(), "udp://"+there, sample()); err != nil {
			t.Error(err)
		}
	})
}

// TestUDPManySessions covers that sockets to many trackers are not all kept.
func TestUDPManySessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open, most atomic.Int32
		c := NewClient(ClientOptions{ListenPacket: func(context.Context, string, string) (net.PacketConn, error) {
			w := newWire(func(p []byte) []datagramFrom { return []datagramFrom{{err: errDead, from: there}} })
			most.Store(max(most.Load(), open.Add(1)))
			w.onClose = func() { open.Add(-1) }
			return w, nil
		}})
		defer c.Close()
		for port := range 3 * udpMaxKept {
			if _, err := c.Announce(t.Context(), fmt.Sprintf("udp://9.9.9.9:%d", port+1), sample()); !errors.Is(err, errDead) {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := most.Load(); n > udpMaxKept+1 {
			t.Errorf("%d sockets at once, want %d", n, udpMaxKept+1)
		}
		time.Sleep(udpIdle + time.Second)
		if n := open.Load(); n != 0 {
			t.Errorf("%d sockets are open a minute later", n)
		}
	})
}

// TestUDPRefused covers that a port where nobody listens is known at once, on real sockets.
func TestUDPRefused(t *testing.T) {
	c := newClient(t, ClientOptions{})
	_, err := announce(t, c, "udp://127.0.0.1:"+freePort(t, "127.0.0.1"), sample())
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// TestUDPAddresses covers a name of several addresses, the first of which is dead, and a tracker that is asked over
// IPv6.
func TestUDPAddresses(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			family := network[3]
			host, dead := "127.0.0.1", "127.0.0.2"
			peer, want := "\x01\x02\x03\x04\x1a\xe1", "1.2.3.4:6881"
			if network == "udp6" {
				host, dead = "::1", "::1"
				peer, want = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1", "[2001:db8::1]:6881"
			}
			conn, err := net.ListenPacket(network, net.JoinHostPort(host, "0"))
			if err != nil {
				t.Skipf("no %s here: %v", network, err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 2000)
				for {
					n, from, err := conn.ReadFrom(buf)
					if err != nil {
						return
					}
					reply := good(buf[:n])[0].p
					if !isConnect(buf[:n]) {
						reply = append(reply[:20], peer...)
					}
					conn.WriteTo(reply, from)
				}
			}()
			defer func() { conn.Close(); <-done }()
			_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
			c := newClient(t, ClientOptions{Lookup: func(_ context.Context, network, _ string) ([]netip.Addr, error) {
				if network[2] != family {
					return nil, &net.DNSError{IsNotFound: true}
				}
				return []netip.Addr{netip.MustParseAddr(dead), netip.MustParseAddr(host)}, nil
			}})
			resp, err := announce(t, c, "udp://tracker.example:"+port+"/announce", sample())
			if err != nil || !slices.Equal(resp.Peers, addrs(want)) {
				t.Errorf("got %+v, %v; want %s", resp, err, want)
			}
		})
	}
}

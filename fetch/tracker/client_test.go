package tracker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestURLs(t *testing.T) {
	c := newClient(t, ClientOptions{})
	for raw, want := range map[string]string{
		"":                                "not http",
		"wss://x/announce":                "not http",
		"file:///etc/passwd":              "not http",
		"unix:///run/x":                   "not http",
		"announce":                        "not http",
		"http://":                         "has no host",
		"http:///announce":                "has no host",
		"udp://:80":                       "has no host",
		"http://[::1/announce":            "can't be parsed",
		"http://x:y/announce":             "can't be parsed",
		"ht\x1btp://x/announce":           "can't be parsed",
		"udp://127.0.0.1:0":               "not a port",
		"udp://127.0.0.1:65536":           "not a port",
		"http://127.0.0.1:65536/announce": "invalid port",
		"udp://169.254.169.254:80":        "link-local",
		"udp://[fe80::1%25lo]:80":         "link-local",
		"udp://224.0.0.1:80":              "multicast",
		"\tHTTP://0.0.0.0/announce\n":     "reserved",
	} {
		_, err := announce(t, c, raw, sample())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
		if want == "not http" && !errors.Is(err, ErrScheme) {
			t.Errorf("%q: %v is not ErrScheme", raw, err)
		}
	}
}

// network is a made-up Internet: names that resolve to addresses of either family, and HTTP trackers behind these
// that run in the bubble of a test.
type network struct {
	names map[string][]string
	hosts map[string]func() string // the body of an answer, by address; a nil one does not answer

	mu     sync.Mutex
	dialed []string
}

func (n *network) options() ClientOptions {
	return ClientOptions{Lookup: n.lookup, DialContext: n.dial}
}

func (n *network) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	var found []netip.Addr
	for _, s := range n.names[host] {
		if s == "slow "+network {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if a, err := netip.ParseAddr(s); err == nil && (network == "ip4") == a.Is4() {
			found = append(found, a)
		}
	}
	if found == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return found, nil
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	n.mu.Lock()
	n.dialed = append(n.dialed, host)
	answer, up := n.hosts[host]
	n.mu.Unlock()
	if !up {
		return nil, errDead
	}
	if answer == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		buf := make([]byte, 4096)
		for got := ""; !strings.Contains(got, "\r\n\r\n"); {
			k, err := theirs.Read(buf)
			if err != nil {
				return
			}
			got += string(buf[:k])
		}
		io.WriteString(theirs, "HTTP/1.1 200 OK\r\n\r\n"+answer())
	}()
	return ours, nil
}

// asked returns which addresses were dialled since the last call, sorted.
func (n *network) asked() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.dialed)
	s := strings.Join(n.dialed, " ")
	n.dialed = nil
	return s
}

func says(body string) func() string { return func() string { return body } }

const (
	says4 = "d8:intervali600e5:peers6:\x01\x02\x03\x04\x00\x05e"
	says6 = "d8:intervali900e6:peers618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x05e"
)

// TestFamilies covers that a tracker is asked over IPv4 and IPv6 alike, that neither waits for the other, and that
// half of a tracker is as good as a whole one.
func TestFamilies(t *testing.T) {
	for title, c := range map[string]struct {
		names []string
		hosts map[string]func() string
		asked string
		again string // asked by a second announce
		peers []netip.AddrPort
		first time.Duration // when the first peers were there
		took  time.Duration
		err   string
	}{
		"both": {
			names: []string{"9.9.9.9", "2001:db8::9"}, hosts: map[string]func() string{"9.9.9.9": says(says4), "2001:db8::9": says(says6)},
			asked: "2001:db8::9 9.9.9.9", again: "2001:db8::9 9.9.9.9", peers: addrs("1.2.3.4:5", "[2001:db8::1]:5"),
		},
		"no IPv6 address": {
			names: []string{"9.9.9.9"}, hosts: map[string]func() string{"9.9.9.9": says(says4)},
			asked: "9.9.9.9", again: "9.9.9.9", peers: addrs("1.2.3.4:5"),
		},
		"IPv6 unreachable": {
			names: []string{"9.9.9.9", "2001:db8::9"}, hosts: map[string]func() string{"9.9.9.9": says(says4)},
			asked: "2001:db8::9 9.9.9.9", again: "9.9.9.9", peers: addrs("1.2.3.4:5"),
		},
		"IPv6 silent": {
			names: []string{"9.9.9.9", "2001:db8::9"}, hosts: map[string]func() string{"9.9.9.9": says(says4), "2001:db8::9": nil},
			asked: "2001:db8::9 9.9.9.9", again: "9.9.9.9", peers: addrs("1.2.3.4:5"), took: familyGrace,
		},
		"IPv4 silent": {
			names: []string{"9.9.9.9", "2001:db8::9"}, hosts: map[string]func() string{"9.9.9.9": nil, "2001:db8::9": says(says6)},
			asked: "2001:db8::9 9.9.9.9", again: "2001:db8::9", peers: addrs("[2001:db8::1]:5"), took: familyGrace,
		},
		"the resolver of IPv6 silent": {
			names: []string{"9.9.9.9", "slow ip6"}, hosts: map[string]func() string{"9.9.9.9": says(says4)},
			asked: "9.9.9.9", again: "9.9.9.9", peers: addrs("1.2.3.4:5"), took: familyGrace,
		},
		"the first address dead": {
			names: []string{"9.9.9.8", "9.9.9.9"}, hosts: map[string]func() string{"9.9.9.9": says(says4)},
			asked: "9.9.9.8 9.9.9.9", again: "9.9.9.8 9.9.9.9", peers: addrs("1.2.3.4:5"),
		},
		"the first address silent": {
			names: []string{"9.9.9.8", "9.9.9.9"}, hosts: map[string]func() string{"9.9.9.8": nil, "9.9.9.9": says(says4)},
			asked: "9.9.9.8 9.9.9.9", again: "9.9.9.8 9.9.9.9", peers: addrs("1.2.3.4:5"), first: dialTimeout, took: dialTimeout,
		},
		"all silent": {
			names: []string{"9.9.9.9", "2001:db8::9"}, hosts: map[string]func() string{"9.9.9.9": nil, "2001:db8::9": nil},
			asked: "2001:db8::9 9.9.9.9", again: "2001:db8::9 9.9.9.9", took: dialTimeout, err: "deadline exceeded",
		},
		"refused by one, dead on the other": {
			names: []string{"9.9.9.9", "2001:db8::9"}, hosts: map[string]func() string{"2001:db8::9": says("d14:failure reason2:noe")},
			asked: "2001:db8::9 9.9.9.9", again: "2001:db8::9 9.9.9.9", err: "refused the announce: no",
		},
		"dead, and no IPv6 address": {
			names: []string{"9.9.9.9"}, asked: "9.9.9.9", again: "9.9.9.9", err: "connection refused",
		},
		"no address": {err: "no such address"},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{names: map[string][]string{"tracker.example": c.names}, hosts: c.hosts}
				client := NewClient(n.options())
				defer client.Close()
				begin := time.Now()
				first := time.Duration(-1)
				resp, err := client.announce(t.Context(), "http://tracker.example/announce", sample(), func(r Response) {
					if first < 0 && len(r.Peers) > 0 {
						first = time.Since(begin)
					}
				})
				if took := time.Since(begin); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if got := n.asked(); got != c.asked {
					t.Errorf("asked %q, want %q", got, c.asked)
				}
				client.Announce(t.Context(), "http://tracker.example/announce", sample())
				if got := n.asked(); got != c.again {
					t.Errorf("asked %q the second time, want %q", got, c.again)
				}
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("error is %v, want %q", err, c.err)
					}
					return
				}
				slices.SortFunc(resp.Peers, netip.AddrPort.Compare)
				if err != nil || !slices.Equal(resp.Peers, c.peers) || first != c.first {
					t.Errorf("%v, %v, the first after %v; want %v after %v", resp.Peers, err, first, c.peers, c.first)
				}
				// The lame family gets another chance.
				time.Sleep(lameTime + time.Second)
				client.Announce(t.Context(), "http://tracker.example/announce", sample())
				if got := n.asked(); got != c.asked {
					t.Errorf("asked %q much later, want %q", got, c.asked)
				}
			})
		})
	}
}

// TestWorkingFamilyDies covers that a family left alone is asked once the other one fails.
func TestWorkingFamilyDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{names: map[string][]string{"tracker.example": {"9.9.9.9", "2001:db8::9"}},
			hosts: map[string]func() string{"9.9.9.9": says(says4)}}
		c := NewClient(n.options())
		defer c.Close()
		for i, want := range []string{"2001:db8::9 9.9.9.9", "9.9.9.9", "9.9.9.9", "2001:db8::9 9.9.9.9"} {
			if i == 2 {
				n.hosts = map[string]func() string{"2001:db8::9": says(says6)}
			}
			_, err := c.Announce(t.Context(), "http://tracker.example/announce", sample())
			if got := n.asked(); got != want || (err != nil) != (i == 2) {
				t.Errorf("announce %d asked %q, want %q: %v", i, got, want, err)
			}
		}
	})
}

// TestLocalhost covers that localhost is this host, whatever a resolver says.
func TestLocalhost(t *testing.T) {
	n := &network{hosts: map[string]func() string{"127.0.0.1": says(says4), "::1": says(says6)}}
	c := newClient(t, n.options())
	if _, err := announce(t, c, "http://LocalHost./announce", sample()); err != nil || n.asked() != "127.0.0.1 ::1" {
		t.Error(err)
	}
}

func TestRemoteDNS(t *testing.T) {
	to := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if to != "" {
			http.Redirect(w, req, to, http.StatusFound)
			return
		}
		new(Server).ServeHTTP(w, req)
	}))
	defer s.Close()
	var dialed string
	c := newClient(t, ClientOptions{
		RemoteDNS: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed = network + " " + address
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
		Lookup: func(context.Context, string, string) ([]netip.Addr, error) {
			t.Error("a name is looked up here")
			return nil, errDead
		},
	})
	if _, err := announce(t, c, "http://tracker.example/announce", sample()); err != nil || dialed != "tcp tracker.example:80" {
		t.Errorf("%v after dialling %s", err, dialed)
	}
	for _, raw := range []string{"http://169.254.169.254/announce", "http://127.0.0.1/reboot", "http://localhost/reboot", "udp://tracker.example:80"} {
		dialed = ""
		if _, err := announce(t, c, raw, sample()); err == nil || dialed != "" {
			t.Errorf("%s: %v after dialling %s", raw, err, dialed)
		}
	}
	for _, to = range []string{"http://169.254.169.254/announce", "http://127.0.0.1/announce", "http://localhost/announce"} {
		_, err := announce(t, c, "http://tracker.example/announce", sample())
		if !errors.Is(err, ErrReach) || dialed != "tcp tracker.example:80" {
			t.Errorf("redirected to %s: %v after dialling %s", to, err, dialed)
		}
	}
}

// TestMaxConcurrent covers that announces wait for their turn.
func TestMaxConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		c := NewClient(ClientOptions{MaxConcurrent: 3, DialContext: func(context.Context, string, string) (net.Conn, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return nil, errDead
		}})
		defer c.Close()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { c.Announce(t.Context(), "http://9.9.9.9/announce", sample()) })
		}
		wg.Wait()
		if most.Load() != 3 {
			t.Errorf("%d at once, want 3", most.Load())
		}
	})
}

// TestClose covers that Close ends what is under way, leaves nothing behind, and that nothing works after it.
func TestClose(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { <-hang }))
	defer s.Close()
	defer close(hang)
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := NewClient(ClientOptions{MaxConcurrent: 4})
	urls := []string{s.URL + "/announce", "udp://" + silent.LocalAddr().String(), "udp://" + silent.LocalAddr().String()}
	errs := make(chan error, 20)
	for i := range 20 {
		go func() {
			_, err := c.Announce(context.Background(), urls[i%len(urls)], sample())
			errs <- err
		}()
	}
	buf := make([]byte, 100)
	if _, _, err := silent.ReadFrom(buf); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for range 20 {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("error is %v", err)
		}
	}
	if _, err := c.Announce(context.Background(), urls[0], sample()); !errors.Is(err, ErrClosed) {
		t.Errorf("error is %v", err)
	}
	c.Close()
}

package dht

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"torrentfs/fetch/socket"
)

// resolver is DNS made up.
type resolver struct {
	calls atomic.Int32
	ips   map[string][]netip.Addr
	err   error
	takes time.Duration
}

func (r *resolver) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	r.calls.Add(1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(r.takes):
	}
	return r.ips[network+" "+host], r.err
}

func all(h *hosts, six bool) []string {
	var mu sync.Mutex
	var found []string
	h.resolve(context.Background(), six, func(a netip.AddrPort) {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, a.String())
	})
	slices.Sort(found)
	return found
}

func TestHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{ips: map[string][]netip.Addr{
			"ip4 a.example": {netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")},
			"ip6 a.example": {netip.MustParseAddr("2001:db8::1")},
			"ip4 b.example": {netip.MustParseAddr("::ffff:198.51.100.3"), netip.MustParseAddr("169.254.169.254")},
		}}
		h := newHosts([]string{"a.example:1", "b.example:2", "192.0.2.1:3", "[2001:db8::9]:4", "junk", "x:y", "a.example:0", ":5"}, new(socket.Opener))
		online := true
		h.lookup, h.routed = r.lookup, func(bool) bool { return online }
		want := []string{"192.0.2.1:3", "198.51.100.1:1", "198.51.100.2:1", "198.51.100.3:2"}
		for range 2 {
			if got := all(h, false); !slices.Equal(got, want) {
				t.Errorf("got %v", got)
			}
		}
		if n := r.calls.Load(); n != 2 {
			t.Errorf("%d names resolved, want two once", n)
		}
		if got := all(h, true); !slices.Equal(got, []string{"[2001:db8::1]:1", "[2001:db8::9]:4"}) {
			t.Errorf("IPv6: got %v", got)
		}
		time.Sleep(hostLife)
		online = false
		if got := all(h, false); !slices.Equal(got, []string{"192.0.2.1:3"}) || r.calls.Load() != 4 {
			t.Errorf("without a route: got %v", got)
		}
	})
}

func TestHostsThatDoNotResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{err: errors.New("server failure")}
		h := newHosts([]string{"a.example:1"}, new(socket.Opener))
		h.lookup, h.routed = r.lookup, func(bool) bool { return true }
		for _, c := range []struct {
			err   error
			again time.Duration // asked again after that, and not before
		}{
			{errors.New("server failure"), hostRetry},
			{&net.DNSError{IsNotFound: true}, hostLife},
		} {
			r.err = c.err
			r.calls.Store(0)
			all(h, false)
			time.Sleep(c.again - time.Second)
			all(h, false)
			if n := r.calls.Load(); n != 1 {
				t.Errorf("%v: asked %d times", c.err, n)
			}
			time.Sleep(2 * time.Second)
			all(h, false)
			if n := r.calls.Load(); n != 2 {
				t.Errorf("%v: asked %d times after %v", c.err, n, c.again)
			}
			time.Sleep(hostLife)
		}
		r.takes = time.Hour
		began := time.Now()
		if got := all(h, false); len(got) != 0 || time.Since(began) != resolveFor {
			t.Errorf("a dead server: got %v after %v", got, time.Since(began))
		}
	})
}

func TestLearnBounds(t *testing.T) {
	h := newHosts([]string{"a:1"}, new(socket.Opener))
	h.learn("a:1")
	for i := range 3 * maxHosts {
		h.learn(fmt.Sprintf("h%d:1", i))
		h.learn(fmt.Sprintf("h%d:1", i))
	}
	if len(h.learned) != maxHosts || h.learned[maxHosts-1] != fmt.Sprintf("h%d:1", 3*maxHosts-1) {
		t.Errorf("learned %v", h.learned)
	}
}

// TestNoNamesWhenWarm has a node whose table answers resolve nothing.
func TestNoNamesWhenWarm(t *testing.T) {
	first := node(t, Config{})
	for range k + 2 {
		node(t, Config{Bootstrap: []string{addrOf(first)}})
	}
	eventually(t, "the network is there", func() bool { return first.Stats().Up > k })
	path := filepath.Join(t.TempDir(), "dht")
	one := node(t, Config{Bootstrap: []string{addrOf(first)}, TablePath: path})
	eventually(t, "many nodes up", func() bool { return one.Stats().Up > k })
	one.Close()

	conns, err := listen(new(socket.Opener), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{}
	again := newNode(Config{Bootstrap: []string{"a.example:1"}, TablePath: path}, conns)
	again.hosts.lookup, again.hosts.routed = r.lookup, func(bool) bool { return true }
	if err := again.start(); err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if out := again.look(t.Context(), [20]byte{1}, 0, nil); out.nodes < k {
		t.Errorf("%+v", out)
	}
	if n := r.calls.Load(); n != 0 {
		t.Errorf("%d names resolved", n)
	}
}

// TestNames has a node find the network by a name, beside others that don't resolve.
func TestNames(t *testing.T) {
	first := node(t, Config{})
	conns, err := listen(new(socket.Opener), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{ips: map[string][]netip.Addr{"ip4 a.example": {netip.MustParseAddr("127.0.0.1")}}}
	_, port, _ := strings.Cut(addrOf(first), ":")
	n := newNode(Config{Bootstrap: []string{"b.example:1", "a.example:" + port}}, conns)
	n.hosts.lookup, n.hosts.routed = r.lookup, func(bool) bool { return true }
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	eventually(t, "a node up", func() bool { return n.Stats().Up == 1 })
}

// TestAddNodes has nodes that a .torrent file or a peer names make us part of the network.
func TestAddNodes(t *testing.T) {
	first := node(t, Config{})
	n := node(t, Config{})
	n.AddNodes([]string{"junk", "[::1]:9", addrOf(first)})
	eventually(t, "a node up", func() bool { return n.Stats().Up == 1 })
	eventually(t, "and we there", func() bool { return first.Stats().Up == 1 })
}

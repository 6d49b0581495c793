package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"torrentfs/fetch/dht"
)

// TestListenAnyOfAFamily has 0.0.0.0 and :: pick the family by which peers come and in which there is a DHT.
func TestListenAnyOfAFamily(t *testing.T) {
	for listen, want := range map[string][2]bool{":0": {true, true}, "0.0.0.0:0": {true, false}, "[::]:0": {false, true}} {
		c, err := New(Config{Listen: listen, NoLSD: true, NoPortMap: true, Bootstrap: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		node, err := dht.New(c.dhtConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		var come, found [2]bool
		for i, ip := range []string{"127.0.0.1", "::1"} {
			if nc, err := net.Dial("tcp", net.JoinHostPort(ip, fmt.Sprint(c.port()))); err == nil {
				come[i] = true
				nc.Close()
			}
		}
		for _, a := range node.Addrs() {
			found[family(a.Addr())] = true
		}
		if come != want || found != want {
			t.Errorf("--listen %s: peers come by IPv4 and IPv6: %v, the DHT is there: %v, want %v", listen, come, found, want)
		}
	}
}

// TestCannotListen has the error name what the user wrote, and no port that nobody did.
func TestCannotListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for listen, want := range map[string]string{
		taken:         "cannot listen for peers at " + taken + ": another program has that port; choose another one, or port 0 for one that is free",
		"192.0.2.7:0": "cannot bind to the address 192.0.2.7: no interface of this machine has that address; there are 127.0.0.1 (lo)",
		"127.0.0.1":   "cannot listen for peers: address 127.0.0.1: missing port in address",
	} {
		c, err := New(Config{Listen: listen, NoDHT: true, NoLSD: true, NoPortMap: true})
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("--listen %s: %v, want %s", listen, err, want)
		}
	}
	failed := func(errno syscall.Errno) error {
		at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:61234"))
		return fmt.Errorf("x: %w", &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: errno})
	}
	for _, test := range []struct {
		errno syscall.Errno
		port  string
		want  string
	}{
		{syscall.EACCES, "80", "root alone"},
		{syscall.EACCES, "0", "permission denied"},
		{syscall.EADDRINUSE, "0", "address already in use"},
		{syscall.EMFILE, "80", "too many open files"},
	} {
		if err := refused(failed(test.errno), test.port); !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "61234") {
			t.Errorf("port %s, %v: %v, want %s", test.port, test.errno, err, test.want)
		}
	}
	if err := refused(errors.New("another"), "80"); err.Error() != "another" {
		t.Error(err)
	}
}

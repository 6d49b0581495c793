package socket

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// elsewhere puts the test into a network of its own, which nothing leads out of. It returns what sets that up.
func elsewhere(t *testing.T) (ip func(args string)) {
	t.Helper()
	runtime.LockOSThread() // until the test is over: the thread ends with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	ip = func(args string) {
		t.Helper()
		if b, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, b)
		}
	}
	ip("link set lo up")
	return ip
}

// TestMove has the sockets at a device move to the next one of that name: those that another keeps from it, once they can,
// and none twice.
func TestMove(t *testing.T) {
	ip := elsewhere(t)
	index := func() int {
		ip("link add d0 type veth peer name d1")
		ip("link set d0 up")
		ifi, err := net.InterfaceByName("d0")
		if err != nil {
			t.Fatal(err)
		}
		return ifi.Index
	}
	index()
	o, err := New(Config{Device: "d0"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := o.Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := o.ListenPacket(t.Context(), "udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	wasL, wasU := l.(*listener).current(), u.(*packetConn).current()
	ip("link del d0")
	next := index()
	// One that is opened at the new device before it is looked at, and one of somebody else's that is in the way.
	early, err := o.ListenPacket(t.Context(), "udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	wasEarly := early.(*packetConn).current()
	other, err := o.config().ListenPacket(t.Context(), "udp4", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if o.move(t.Context(), next) {
			t.Fatal("all have moved, although one can't")
		}
	}
	if l.(*listener).current() == wasL {
		t.Error("the listener has not moved")
	}
	movedL := l.(*listener).current()
	other.Close()
	if !o.move(t.Context(), next) || u.(*packetConn).current() == wasU {
		t.Fatal("not all have moved, although they can")
	}
	if l.(*listener).current() != movedL || early.(*packetConn).current() != wasEarly {
		t.Error("one has moved that was there already")
	}
	if o.move(t.Context(), next) {
		t.Error("all have moved twice")
	}
}

// TestNoSuchAddress has the error tell which addresses there are.
func TestNoSuchAddress(t *testing.T) {
	ip := elsewhere(t)
	ip("link add d0 type veth peer name d1")
	ip("address add 10.1.1.1/24 dev d0")
	for in, want := range map[Config]string{
		{Local: netip.MustParseAddr("192.0.2.7")}: "cannot bind to the address 192.0.2.7: " +
			"no interface of this machine has that address; there are 127.0.0.1 (lo), ::1 (lo), 10.1.1.1 (d0)",
		{Local: netip.MustParseAddr("192.0.2.7"), Device: "d0"}: "cannot bind to the address 192.0.2.7: " +
			`the interface "d0" doesn't have that address; there are 10.1.1.1 (d0)`,
	} {
		if _, err := New(in); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestNameServer has the name servers behind one on this host asked in its place by whoever speaks from an address.
func TestNameServer(t *testing.T) {
	ip := elsewhere(t)
	ip("address add 10.1.1.1/24 dev lo")
	ip("address add fd00::1/64 dev lo nodad")
	known := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(known, []byte("nameserver 127.0.0.53\nnameserver 10.1.1.2\nnameserver fd00::2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ local, upstream, from, to string }{
		{"10.1.1.1", known, "10.1.1.1", "10.1.1.2"},
		{"fd00::1", known, "fd00::1", "fd00::2"},
		{"127.0.0.1", known, "127.0.0.1", "127.0.0.53"},
		{"10.1.1.1", known + "x", "127.0.0.1", "127.0.0.53"},
		{"fd00::1", known + "x", "127.0.0.1", "127.0.0.53"},
	} {
		o, err := New(Config{Local: netip.MustParseAddr(test.local)})
		if err != nil {
			t.Fatal(err)
		}
		o.upstream = test.upstream
		for range 2 {
			c, err := o.dialNameServer(t.Context(), "udp", "127.0.0.53:53")
			if err != nil {
				t.Fatalf("from %s: %v", test.local, err)
			}
			host := func(a net.Addr) string { return netip.MustParseAddrPort(a.String()).Addr().String() }
			if host(c.LocalAddr()) != test.from || host(c.RemoteAddr()) != test.to {
				t.Errorf("from %s: asks %v from %v, want %s from %s", test.local, c.RemoteAddr(), c.LocalAddr(), test.to, test.from)
			}
			c.Close()
		}
	}
}

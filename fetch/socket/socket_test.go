package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestZeroValue opens sockets as the system does.
func TestZeroValue(t *testing.T) {
	var o Opener
	l, err := o.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := o.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	u, err := o.ListenPacket(t.Context(), "udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
	if ips, err := o.LookupNetIP(t.Context(), "ip", "127.0.0.1"); err != nil || len(ips) != 1 {
		t.Errorf("%v, %v", ips, err)
	}
	if ifis, err := o.Interfaces(); err != nil || len(ifis) == 0 {
		t.Errorf("%v, %v", ifis, err)
	}
}

// TestLocal has everything sent from one address, and nothing by the other family.
func TestLocal(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.7")
	o, err := New(Config{Local: local})
	if err != nil {
		t.Fatal(err)
	}
	l, err := o.Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	from := func(a net.Addr) netip.Addr { return netip.MustParseAddrPort(a.String()).Addr() }
	if from(l.Addr()) != local {
		t.Errorf("listens at %v", l.Addr())
	}
	u, err := o.ListenPacket(t.Context(), "udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if from(u.LocalAddr()) != local {
		t.Errorf("listens for datagrams at %v", u.LocalAddr())
	}
	for _, to := range []struct{ network, address string }{{"tcp", l.Addr().String()}, {"udp", u.LocalAddr().String()}} {
		c, err := o.DialContext(t.Context(), to.network, to.address)
		if err != nil {
			t.Fatal(err)
		}
		if from(c.LocalAddr()) != local {
			t.Errorf("%s comes from %v", to.network, c.LocalAddr())
		}
		c.Close()
	}
	if _, err := o.ListenPacket(t.Context(), "udp6", ":0"); err == nil {
		t.Error("listens by the other family")
	}
	for _, network := range []string{"tcp", "tcp6", "udp6"} {
		if c, err := o.DialContext(t.Context(), network, "[::1]:9"); err == nil {
			c.Close()
			t.Errorf("%s goes by the other family", network)
		}
	}
}

// TestAnyOfAFamily has an address that means any pick the family of every socket, and nothing else.
func TestAnyOfAFamily(t *testing.T) {
	for _, test := range []struct{ any, ours, theirs, other, others string }{
		{"0.0.0.0", "127.0.0.1", "4", "::1", "6"},
		{"::", "::1", "6", "127.0.0.1", "4"},
	} {
		o, err := New(Config{Local: netip.MustParseAddr(test.any)})
		if err != nil {
			t.Fatal(err)
		}
		if o.Bound() || o.Local().IsValid() || o.resolver != nil {
			t.Errorf("%s is an address in particular", test.any)
		}
		for _, o := range []*Opener{o, new(Opener)} { // named once for all, and with the socket alone
			l, err := o.Listen(t.Context(), net.JoinHostPort(test.any, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			u, err := o.ListenPacket(t.Context(), "udp", net.JoinHostPort(test.any, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			port := netip.MustParseAddrPort(l.Addr().String()).Port()
			if c, err := net.Dial("tcp", net.JoinHostPort(test.ours, fmt.Sprint(port))); err != nil {
				t.Errorf("%s: %v", test.any, err)
			} else {
				c.Close()
			}
			if c, err := net.Dial("tcp", net.JoinHostPort(test.other, fmt.Sprint(port))); err == nil {
				c.Close()
				t.Errorf("%s: listens by IPv%s too", test.any, test.others)
			}
			if a := netip.MustParseAddrPort(u.LocalAddr().String()).Addr(); a.String() != test.any {
				t.Errorf("%s: listens for datagrams at %s", test.any, a)
			}
		}
		if u, err := o.ListenPacket(t.Context(), "udp"+test.others, ":0"); err == nil {
			u.Close()
			t.Errorf("%s: listens for datagrams by IPv%s", test.any, test.others)
		}
		l, err := net.Listen("tcp", net.JoinHostPort(test.other, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, network := range []string{"tcp", "tcp" + test.others} {
			if c, err := o.DialContext(t.Context(), network, l.Addr().String()); err == nil {
				c.Close()
				t.Errorf("%s: dials by IPv%s", test.any, test.others)
			}
		}
		c, err := o.DialContext(t.Context(), "udp"+test.theirs, net.JoinHostPort(test.ours, "9"))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// TestPermitted has addresses judged as they are dialled.
func TestPermitted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked []netip.AddrPort
	no := errors.New("no")
	_, err = new(Opener).DialPermitted(t.Context(), "tcp", l.Addr().String(), func(a netip.AddrPort) error {
		asked = append(asked, a)
		return no
	})
	if !errors.Is(err, no) || !slices.Equal(asked, []netip.AddrPort{netip.MustParseAddrPort(l.Addr().String())}) {
		t.Errorf("%v, asked about %v", err, asked)
	}
}

func TestNoSuchDevice(t *testing.T) {
	for _, name := range []string{"none0", "a-name-that-is-much-too-long-for-one", "lo\x00x", "../lo"} {
		if _, err := New(Config{Device: name}); err == nil || !strings.Contains(err.Error(), "there are lo") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNameServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	err := os.WriteFile(path, []byte("# made\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch x\nnameserver\nnameserver ::1\n"+
		"nameserver 2001:db8::1\nnameserver nonsense\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(nameServers(path)); got != "[192.0.2.1 2001:db8::1]" {
		t.Error(got)
	}
	if got := nameServers(path + "x"); got != nil {
		t.Error(got)
	}
}

func TestParseProxy(t *testing.T) {
	for in, want := range map[string]string{
		"socks5://localhost:1080": "", "socks5://u:p@192.0.2.1:1": "", "socks5h://[2001:db8::1]:9050/": "",
		"http://proxy:80":           `"http" is not a kind of proxy`,
		"localhost:1080":            `"localhost" is not a kind of proxy`,
		"":                          `"" is not a kind of proxy`,
		"socks5://":                 "no host",
		"socks5://localhost":        `"" is not a port`,
		"socks5://localhost:0":      `"0" is not a port`,
		"socks5://localhost:70000":  `"70000" is not a port`,
		"socks5://localhost:x":      "no URL",
		"socks5://localhost:1/path": "something after the port",
		"socks5://u@localhost:1":    "a user and a password",
		"socks5://u:" + strings.Repeat("p", 256) + "@localhost:1": "a user and a password",
		"socks5://user:se%cret@localhost:1":                       "no URL",
	} {
		_, err := ParseProxy(in)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "se%cret") {
			t.Errorf("%v tells the password", err)
		}
	}
}

// TestProxied has nothing but connections, and those through the proxy, which gets names as they are.
func TestProxied(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 10)
	go socksServer(l, "user", "secret", asked)
	o, err := New(Config{Proxy: &url.URL{Scheme: "socks5", User: url.UserPassword("user", "secret"), Host: l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"peer.example:6881", "192.0.2.1:6881", "[2001:db8::1]:6881"} {
		c, err := o.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got := c.RemoteAddr().String(); got != address && address[0] != 'p' {
			t.Errorf("a connection to %s says that it is to %s", address, got)
		}
		if got := <-asked; got != address {
			t.Errorf("the proxy was asked for %s, want %s", got, address)
		}
	}
	// A peer that is known by its name has an address here that leads nowhere.
	ips, err := o.LookupNetIP(t.Context(), "ip", "other.example")
	if err != nil || len(ips) != 1 || !netip.MustParsePrefix("100::/64").Contains(ips[0]) {
		t.Fatalf("%v, %v", ips, err)
	}
	again, _ := o.LookupNetIP(t.Context(), "ip", "other.example")
	if !slices.Equal(ips, again) {
		t.Errorf("%v and then %v", ips, again)
	}
	c, err := o.DialContext(t.Context(), "tcp4", netip.AddrPortFrom(ips[0], 7).String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := <-asked; got != "other.example:7" {
		t.Errorf("the proxy was asked for %s", got)
	}
	if _, err := o.DialContext(t.Context(), "udp", "192.0.2.1:1"); !errors.Is(err, ErrProxied) {
		t.Errorf("UDP: %v", err)
	}
	if _, err := o.Listen(t.Context(), ":0"); !errors.Is(err, ErrProxied) {
		t.Errorf("listening: %v", err)
	}
	if _, err := o.ListenPacket(t.Context(), "udp", ":0"); !errors.Is(err, ErrProxied) {
		t.Errorf("listening for datagrams: %v", err)
	}
	no := errors.New("no")
	if _, err := o.DialPermitted(t.Context(), "tcp", "127.0.0.1:1", func(netip.AddrPort) error { return no }); !errors.Is(err, no) {
		t.Errorf("an address that is not permitted: %v", err)
	}
	l.Close()
	if _, err := o.DialContext(t.Context(), "tcp", "peer.example:6881"); err == nil {
		t.Error("connects although the proxy is down")
	}
}

// socksServer is a SOCKS5 proxy that demands a password, says yes to all, and connects nobody.
func socksServer(l net.Listener, user, password string, asked chan<- string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		address, err := socksRequest(c, user, password)
		if err == nil {
			asked <- address
		}
		c.Close()
	}
}

func socksRequest(c net.Conn, user, password string) (string, error) {
	read := func(n byte) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	read(read(2)[1]) // methods
	if _, err := c.Write([]byte{5, 2}); err != nil {
		return "", err
	}
	name := string(read(read(2)[1]))
	if secret := string(read(read(1)[0])); name != user || secret != password {
		return "", errors.New("wrong password")
	}
	if _, err := c.Write([]byte{1, 0}); err != nil {
		return "", err
	}
	var host string
	switch read(4)[3] {
	case 1:
		host = netip.AddrFrom4([4]byte(read(4))).String()
	case 4:
		host = netip.AddrFrom16([16]byte(read(16))).String()
	case 3:
		host = string(read(read(1)[0]))
	}
	port := read(2)
	_, err := c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return net.JoinHostPort(host, fmt.Sprint(int(port[0])<<8|int(port[1]))), err
}

// TestStandInsAreBounded takes so many names and no more.
func TestStandInsAreBounded(t *testing.T) {
	var s standIns
	for i := range maxStandIns {
		a, err := s.add(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.name(netip.AddrPortFrom(a[0], 5).String()); got != fmt.Sprint(i, ":5") {
			t.Fatalf("%d is %s", i, got)
		}
	}
	if _, err := s.add("one more"); err == nil {
		t.Error("there is room without end")
	}
	for _, address := range []string{"192.0.2.1:80", "host:80", "[::1]:80", "[100:1::]:1"} {
		if s.name(address) != address {
			t.Errorf("%s became %s", address, s.name(address))
		}
	}
}

package portmap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"torrentfs/fetch/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// router is one that maps ports, or not.
type router struct {
	mu     sync.Mutex
	mapped map[mapping]int // how often, -1 once taken back
	grants time.Duration
	err    error
	hangs  bool // without an answer
	at     string
}

func (r *router) mapPort(ctx context.Context, m mapping, _ time.Duration) (time.Duration, error) {
	if r.hangs {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mapped[m]++
	return r.grants, r.err
}

func (r *router) unmap(ctx context.Context, m mapping) error {
	if r.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mapped[m] = -1
	return nil
}

func (r *router) external(context.Context) netip.Addr {
	at, _ := netip.ParseAddr(r.at) // invalid where the router does not know
	return at
}

func (r *router) String() string { return "a test" }

func (r *router) times(protocol Protocol, port uint16) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mapped[mapping{protocol, port}]
}

// TestRenewal has mappings made, renewed before they end, and taken back.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &router{mapped: make(map[mapping]int), grants: 10 * time.Minute}
		var log bytes.Buffer
		m := newMapper(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(context.Context) (gateway, error) { return r, nil })
		m.start()
		m.Map(TCP, 61000)
		m.Map(UDP, 61000)
		synctest.Wait()
		if tcp, udp := r.times(TCP, 61000), r.times(UDP, 61000); tcp != 1 || udp != 1 {
			t.Fatalf("at once mapped %d and %d times", tcp, udp)
		}
		before := r.times(TCP, 61000)
		time.Sleep(31 * time.Minute) // of the bubble's time
		if n := r.times(TCP, 61000) - before; n != 6 {
			t.Errorf("renewed %d times in half an hour, with a lease of ten minutes", n)
		}
		m.Close()
		if r.times(TCP, 61000) != -1 || r.times(UDP, 61000) != -1 {
			t.Error("not taken back")
		}
		if n := strings.Count(log.String(), "the router lets peers in"); n != 2 {
			t.Errorf("the log says %d times that peers are let in:\n%s", n, log.String())
		}
	})
}

// TestOpen has it told, as long as it lasts, that a port can be reached; not where the router can't be reached itself, and
// not when it refuses.
func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		at   string
		err  error
		open bool
	}{
		"in the Internet":       {at: "192.0.2.1", open: true},
		"nobody knows where":    {open: true},
		"behind another router": {at: "100.64.3.2"},
		"refusing":              {at: "192.0.2.1", err: errors.New("no")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &router{mapped: make(map[mapping]int), grants: 2 * lease, at: c.at, err: c.err}
				told := make(map[Protocol]int)
				m := newMapper(Config{Logger: slog.New(slog.DiscardHandler), Open: func(p Protocol) { told[p]++ }},
					func(context.Context) (gateway, error) { return r, nil })
				m.start()
				m.Map(UDP, 61000)
				time.Sleep(10*lease + time.Second)
				m.Close()
				if n := told[UDP]; (n >= 20) != c.open || !c.open && n > 0 || len(told) > 1 {
					t.Errorf("told %v in %v", told, 10*lease)
				}
			})
		})
	}
}

// TestShortLease bounds how often a router can make us ask.
func TestShortLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &router{mapped: make(map[mapping]int), grants: time.Second}
		m := newMapper(Config{Logger: slog.New(slog.DiscardHandler)}, func(context.Context) (gateway, error) { return r, nil })
		m.start()
		m.Map(TCP, 1)
		time.Sleep(10*time.Minute + time.Second)
		if n := r.times(TCP, 1); n > 12 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		m.Close()
	})
}

// TestNoRouter is quiet, and looks again now and then.
func TestNoRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looked := 0
		var log bytes.Buffer
		m := newMapper(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(context.Context) (gateway, error) {
			looked++
			return nil, errNoGateway
		})
		m.start()
		m.Map(TCP, 1)
		time.Sleep(24 * time.Hour)
		m.Close()
		if looked < 20 || looked > 35 || log.Len() > 0 {
			t.Errorf("looked %d times in a day, and said %q", looked, log.String())
		}
	})
}

// TestRefusal says once that a router refuses, and leaves what may be another's alone.
func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &router{mapped: make(map[mapping]int), err: errors.New("no")}
		var log bytes.Buffer
		m := newMapper(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(context.Context) (gateway, error) { return r, nil })
		m.start()
		m.Map(TCP, 1)
		time.Sleep(90 * time.Second)
		m.Close()
		if r.times(TCP, 1) < 2 || strings.Count(log.String(), "err=no") == 0 {
			t.Errorf("asked %d times, and said %q", r.times(TCP, 1), log.String())
		}
	})
}

// TestHangingRouter delays the end by a second at most.
func TestHangingRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &router{mapped: make(map[mapping]int), hangs: true}
		m := newMapper(Config{Logger: slog.New(slog.DiscardHandler)}, func(context.Context) (gateway, error) { return r, nil })
		m.start()
		m.Map(TCP, 1)
		synctest.Wait()
		began := time.Now()
		m.Close()
		if d := time.Since(began); d > withdrawing {
			t.Errorf("closing took %v", d)
		}
	})
}

func TestDefaultRouters(t *testing.T) {
	table := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n" +
		"eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
		"eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n" +
		"tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n" +
		"tun0\t00000000\t010010AC\t0003\t0\t0\t50\t00000080\t0\t0\t0\n" +
		"ppp0\t00000000\t0200000A\t0003\t0\t0\t1\t00000000\t0\t0\t0\n" +
		"eth0\tjunk\neth0\t00000000\tzz\t0003\t0\t0\t1\t00000000\t0\t0\t0\n"
	got := fmt.Sprint(defaultRouters(strings.NewReader(table), map[string]bool{"eth0": true, "wlan0": true, "tun0": true}))
	if got != "[10.0.0.1 192.168.1.1]" {
		t.Error(got)
	}
	if _, err := routers(routeTable, new(socket.Opener)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestNATPMP asks a router that answers oddly.
func TestNATPMP(t *testing.T) {
	answer := func(op byte, code uint16, ours, theirs uint16, lease uint32) []byte {
		b := make([]byte, 16)
		b[1] = op
		binary.BigEndian.PutUint16(b[2:], code)
		binary.BigEndian.PutUint16(b[8:], ours)
		binary.BigEndian.PutUint16(b[10:], theirs)
		binary.BigEndian.PutUint32(b[12:], lease)
		return b
	}
	good := answer(130, 0, 7000, 7000, 3600)
	for name, c := range map[string]struct {
		answers [][]byte
		err     string
	}{
		"good":          {[][]byte{good}, ""},
		"noise first":   {[][]byte{nil, {0}, {1, 130, 0, 0}, answer(129, 0, 7000, 7000, 1), good[:12], good}, ""},
		"refused":       {[][]byte{answer(130, 2, 0, 0, 0)}, "result code 2"},
		"another port":  {[][]byte{answer(130, 0, 7000, 7001, 60), good}, "it offers 7001"},
		"not our port":  {[][]byte{answer(130, 0, 1, 7000, 60)}, "no sense"},
		"no time":       {[][]byte{answer(130, 0, 7000, 7000, 0)}, "no sense"},
		"longer answer": {[][]byte{append(bytes.Clone(good), make([]byte, 1000)...)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			served.Go(func() {
				b := make([]byte, 100)
				for {
					_, from, err := u.ReadFrom(b)
					if err != nil {
						return
					}
					for _, a := range c.answers {
						_, _ = u.WriteTo(a, from)
					}
				}
			})
			defer served.Wait()
			defer u.Close()
			g := &natPMP{sockets: new(socket.Opener), router: netip.MustParseAddrPort(u.LocalAddr().String())}
			granted, err := g.mapPort(t.Context(), mapping{TCP, 7000}, lease)
			if c.err == "" && (err != nil || granted != time.Hour) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, %v", granted, err)
			}
		})
	}
	g := &natPMP{sockets: new(socket.Opener), router: netip.MustParseAddrPort("127.0.0.1:1")}
	if err := g.probe(t.Context()); err == nil {
		t.Error("nobody is there, and yet it answers")
	}
}

// TestLocated takes descriptions from nowhere but who has answered.
// TestFamily asks a router, which is always one of IPv4, unless everything goes over IPv6.
func TestFamily(t *testing.T) {
	for _, test := range []struct {
		local netip.Addr
		asked bool
	}{{netip.Addr{}, true}, {netip.IPv4Unspecified(), true}, {netip.IPv6Unspecified(), false}} {
		sockets, err := socket.New(socket.Config{Local: test.local})
		if err != nil {
			t.Fatal(err)
		}
		m := newMapper(Config{Sockets: sockets}, nil)
		if from, err := m.source(t.Context(), netip.MustParseAddr("127.0.0.1")); (err == nil) != test.asked {
			t.Errorf("listening at %v, a router is asked from %v, %v", test.local, from, err)
		}
	}
}

func TestLocated(t *testing.T) {
	at := func(location string) string { return "HTTP/1.1 200 OK\r\nLocation: " + location + "\r\n\r\n" }
	for answer, from := range map[string]string{
		at("http://192.168.1.1:5000/x.xml"):         "192.168.1.1",
		at("http://192.168.1.2:5000/x.xml"):         "",
		at("http://127.0.0.1/x.xml"):                "",
		at("http://router.example/x.xml"):           "",
		at("https://192.168.1.1/x.xml"):             "",
		at("http://u:p@192.168.1.1/x.xml"):          "",
		at("file:///etc/passwd"):                    "",
		at(""):                                      "",
		"HTTP/1.1 404 Not Found\r\n\r\n":            "",
		"NOTIFY * HTTP/1.1\r\n\r\n":                 "",
		"":                                          "",
		at("http://8.8.8.8/x.xml"):                  "-",
		at("http://169.254.169.254/latest/meta.xm"): "-",
	} {
		sender := netip.MustParseAddr("192.168.1.1")
		if from == "-" { // who tells the truth, but is no private network's router
			sender = netip.MustParseAddr(strings.Split(strings.Split(answer, "//")[1], "/")[0])
		}
		if got := located([]byte(answer), sender); (got != nil) != (from == "192.168.1.1") {
			t.Errorf("%q: %v", answer, got)
		}
	}
}

const description = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">%s<device><deviceList><device><deviceList><device>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>%s</controlURL></service></serviceList></device></deviceList></device></deviceList></device></root>`

// TestHostileRouter leads elsewhere, says too much, and never ends.
func TestHostileRouter(t *testing.T) {
	reached := make(chan string, 10)
	elsewhere := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.URL.Path }))
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.Listener.Close()
	elsewhere.Listener = l
	elsewhere.Start()
	defer elsewhere.Close()
	mux := http.NewServeMux()
	for path, body := range map[string]string{
		"/base":    fmt.Sprintf(description, "<URLBase>"+elsewhere.URL+"/</URLBase>", "/control"),
		"/control": fmt.Sprintf(description, "", elsewhere.URL+"/control"),
		"/name":    fmt.Sprintf(description, "", "http://name.torrentfs.test/control"),
		"/none":    `<root xmlns="urn:schemas-upnp-org:device-1-0"><device></device></root>`,
		"/junk":    "junk",
		"/deep":    strings.Repeat("<a>", 50_000),
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
	}
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "<root>")
		for {
			if _, err := fmt.Fprint(w, strings.Repeat("<!-- -->", 1000)); err != nil {
				return
			}
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	m := newMapper(Config{Sockets: new(socket.Opener)}, nil)
	for _, path := range []string{"/base", "/control", "/name", "/none", "/junk", "/deep", "/moved", "/endless", "/absent"} {
		u, err := url.Parse(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := m.describe(t.Context(), u, netip.MustParseAddr("192.168.1.9")); err == nil {
			t.Errorf("%s gave %v", path, g)
		}
	}
	select {
	case path := <-reached:
		t.Errorf("the router led to %s of another host", path)
	default:
	}
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(description, "<URLBase>http://192.168.1.1/</URLBase>", "/control")))
	f.Add([]byte(fmt.Sprintf(description, "", "::")))
	f.Add([]byte(fmt.Sprintf(description, "<URLBase>http://[::1</URLBase>", "/control")))
	for _, service := range []string{"WANIPConnection:2", "WANPPPConnection:1", "Layer3Forwarding:1"} {
		f.Add([]byte(strings.Replace(fmt.Sprintf(description, "", "/control"), "WANIPConnection:1", service, 1)))
	}
	f.Add([]byte("junk"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		at := &url.URL{Scheme: "http", Host: "192.168.1.1", Path: "/x.xml"}
		_, _ = parseDescription(bytes.NewReader(b), at)
	})
}

func FuzzLocated(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1:5000/x.xml\r\n\r\n"))
	for _, s := range []string{
		"junk", "HTTP/1.1 404 Not Found\r\nLocation: http://192.168.1.1/\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nLocation: https://192.168.1.1/\r\n\r\n", "HTTP/1.1 200 OK\r\nLocation: http://a:b@192.168.1.1/\r\n\r\n",
		"HTTP/1.1 200 OK\r\nLocation: http://192.168.1.2/\r\n\r\n", "HTTP/1.1 200 OK\r\nLocation: http://router.test/\r\n\r\n",
		"HTTP/1.1 200 OK\r\nLocation: http://[::1\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if u := located(b, netip.MustParseAddr("192.168.1.1")); u != nil && u.Hostname() != "192.168.1.1" {
			t.Errorf("leads to %v", u)
		}
	})
}

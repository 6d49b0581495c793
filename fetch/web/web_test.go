package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"torrentfs/fetch/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var client = Client{Sockets: new(socket.Opener), UserAgent: "test/1"}

func TestGet(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "body for ", r.UserAgent()) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/file", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/metadata", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for chunk := strings.Repeat("x", 1<<20); ; {
			if _, err := fmt.Fprint(w, chunk); err != nil {
				return
			}
		}
	})
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		mux.ServeHTTP(w, r)
	}))
	defer srv.Close()
	for _, c := range []struct{ path, body, err string }{
		{"/file", "body for test/1", ""},
		{"/moved", "body for test/1", ""},
		{"/loop", "", "redirects"},
		{"/none", "", "404"},
		{"/metadata", "", "address not allowed"},
		{"/endless", "", "sends more than"},
	} {
		b, err := client.Get(t.Context(), srv.URL+c.path, User)
		if c.err == "" && (err != nil || string(b) != c.body) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %.40q, %v", c.path, b, err)
		}
	}
	before := asked.Load()
	// A stranger's link doesn't lead to this host, however it is named: the address counts, at the time of connecting.
	port := srv.URL[strings.LastIndexByte(srv.URL, ':'):]
	for _, host := range []string{"127.0.0.1", "127.8.8.8", "localhost", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0", "[::]"} {
		if _, err := client.Get(t.Context(), "http://"+host+port+"/file", Stranger); !errors.Is(err, ErrReach) {
			t.Errorf("a stranger's link to %s: %v", host, err)
		}
	}
	for _, host := range []string{"127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "localhost.", "LOCALHOST"} { // names to us, addresses to some resolvers
		if b, err := client.Get(t.Context(), "http://"+host+port+"/file", Stranger); err == nil {
			t.Errorf("a stranger's link to %s gave %q", host, b)
		}
	}
	if n := asked.Load(); n != before {
		t.Errorf("the server was asked %d times", n-before)
	}
	for _, bad := range []string{"file:///etc/passwd", "ftp://h/f", "http://", "://", "magnet:?xt=x"} {
		if _, err := client.Get(t.Context(), bad, User); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestGuard(t *testing.T) {
	user := &guard{trust: User}
	for i, c := range []struct {
		addr string
		ok   bool
	}{
		{"127.0.0.1:80", true}, {"192.168.1.1:80", true}, {"169.254.169.254:80", false},
		{"1.1.1.1:80", true},
		{"127.0.0.1:80", false}, // from a public host back to us
		{"[2606:4700::1111]:443", true},
	} {
		if err := user.permit(netip.MustParseAddrPort(c.addr)); (err == nil) != c.ok {
			t.Errorf("step %d, %s: %v", i, c.addr, err)
		}
	}
}

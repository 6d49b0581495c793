package tracker

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"torrentfs/fetch/reach"
)

// serve runs a tracker at a loopback address that answers with h, and returns its announce URL.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/announce"
}

func TestQuery(t *testing.T) {
	var got *http.Request
	announceURL := serve(t, func(w http.ResponseWriter, req *http.Request) {
		got = req
		io.WriteString(w, "d8:intervali1800e10:tracker id3:a&b5:peers0:e")
	})
	c := newClient(t, ClientOptions{UserAgent: "torrentfs/1.2"})
	r := sample()
	r.TrackerID = "x y&z"
	resp, err := announce(t, c, strings.Replace(announceURL, "//", "//me:secret@", 1)+"?passkey=p%20q#frag", r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.TrackerID != "a&b" || resp.Interval != 30*time.Minute {
		t.Errorf("got %+v", resp)
	}
	want := url.Values{
		"passkey": {"p q"}, "info_hash": {string(r.InfoHash[:])}, "peer_id": {string(r.PeerID[:])}, "port": {"6881"},
		"uploaded": {"11"}, "downloaded": {"22"}, "left": {"33"}, "event": {"started"}, "numwant": {"44"},
		"key": {"0a0b0c0d"}, "compact": {"1"}, "no_peer_id": {"1"}, "trackerid": {"x y&z"},
	}
	if q := got.URL.Query(); !reflect.DeepEqual(q, want) {
		t.Errorf("query is %v, want %v", q, want)
	}
	if !strings.Contains(got.URL.RawQuery, "info_hash=%00%FF%20%25%2B%26%3D%3F%23%2F~.-_abcXYZ&") {
		t.Errorf("info_hash is not escaped as BEP 3 says: %s", got.URL.RawQuery)
	}
	if user, password, _ := got.BasicAuth(); user != "me" || password != "secret" {
		t.Errorf("user %q, password %q", user, password)
	}
	if got.UserAgent() != "torrentfs/1.2" || got.Referer() != "" {
		t.Errorf("headers are %v", got.Header)
	}
}

func TestQueryOfSpecialRequests(t *testing.T) {
	base, _ := url.Parse("http://x/announce")
	for _, c := range []struct {
		name string
		r    Request
		want []string
		not  string
	}{
		{"stopped", Request{Event: Stopped, NumWant: 50}, []string{"event=stopped", "numwant=0"}, ""},
		{"regular", Request{Left: 5}, []string{"numwant=200", "left=5"}, "event"},
		{"no peers wanted", Request{NumWant: -1}, []string{"numwant=0"}, ""},
		{"size unknown", Request{Left: LeftUnknown, Uploaded: -1, Downloaded: -1},
			[]string{"left=16384", "uploaded=0", "downloaded=0"}, ""},
		{"far too many wanted", Request{NumWant: 1 << 40}, []string{"numwant=1000"}, "trackerid"},
	} {
		q := "&" + withQuery(base, c.r).RawQuery + "&"
		for _, w := range c.want {
			if !strings.Contains(q, "&"+w+"&") {
				t.Errorf("%s: %s lacks %s", c.name, q, w)
			}
		}
		if c.not != "" && strings.Contains(q, c.not) {
			t.Errorf("%s: %s has %s", c.name, q, c.not)
		}
	}
}

func addrs(s ...string) []netip.AddrPort {
	var a []netip.AddrPort
	for _, x := range s {
		a = append(a, netip.MustParseAddrPort(x))
	}
	return a
}

func TestParseReply(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       Response
		err        string // a part of it
	}{
		{name: "compact", body: "d8:completei3e10:incompletei4e8:intervali900e12:min intervali60e5:peers12:" +
			"\x01\x02\x03\x04\x1a\xe1\x7f\x00\x00\x01\x00\x50e",
			want: Response{Interval: 15 * time.Minute, MinInterval: time.Minute, Seeders: 3, Leechers: 4,
				Peers: addrs("1.2.3.4:6881", "127.0.0.1:80")}},
		{name: "dictionaries", body: "d5:peersld2:ip7:1.2.3.47:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eed2:ip11:2001:db8::14:porti1eeee",
			want: Response{Peers: addrs("1.2.3.4:6881", "[2001:db8::1]:1")}},
		{name: "names and nonsense among dictionaries", body: "d5:peersld2:ip11:example.com4:porti1eed2:ip7:1.2.3.44:porti65536eei7e3:abcle" +
			"d2:ip7:1.2.3.44:porti-1eed2:ip7:1.2.3.54:porti5eeee",
			want: Response{Peers: addrs("1.2.3.4:0", "1.2.3.4:0", "1.2.3.5:5")}},
		{name: "peers6", body: "d5:peers0:6:peers618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x09e",
			want: Response{Peers: addrs("[2001:db8::1]:9")}},
		{name: "peers6 alone, an IPv4 address in it", body: "d6:peers618:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x00\x09e",
			want: Response{Peers: addrs("1.2.3.4:9")}},
		{name: "compact lists of wrong length", body: "d5:peers8:\x01\x02\x03\x04\x00\x09\x01\x026:peers65:abcdee",
			want: Response{Peers: addrs("1.2.3.4:9")}},
		{name: "peers of a wrong type", body: "d5:peersi5e6:peers6i5ee"},
		{name: "peers a dictionary", body: "d5:peersd1:ai1eee"},
		{name: "empty", body: "de"},
		{name: "keys out of order, a line feed behind", body: "d8:intervali900e8:completei3ee\n",
			want: Response{Interval: 15 * time.Minute, Seeders: 3}},
		{name: "interval 0", body: "d8:intervali0e12:min intervali0ee"},
		{name: "negative numbers", body: "d8:completei-1e10:incompletei-1e8:intervali-1e12:min intervali-9223372036854775808ee"},
		{name: "numbers at the border", body: "d8:completei9223372036854775807e10:incompletei9223372036854775808e" +
			"8:intervali9223372036854775807e12:min intervali9223372036854775808ee",
			want: Response{Interval: maxInterval, Seeders: 1<<31 - 1}},
		{name: "numbers as texts", body: "d8:interval3:9008:completelee"},
		{name: "warning", body: "d15:warning message13:be \x1b[31mnice\ne", want: Response{Warning: "be [31mnice"}},
		{name: "external address", body: "d11:external ip4:\x01\x02\x03\x04e", want: Response{ExternalIP: netip.MustParseAddr("1.2.3.4")}},
		{name: "external address of wrong length", body: "d11:external ip5:\x01\x02\x03\x04\x05e"},
		{name: "long tracker id", body: fmt.Sprintf("d10:tracker id%d:%se", maxID+1, strings.Repeat("x", maxID+1))},
		{name: "refused", body: "d14:failure reason9:not here\ne", err: "refused the announce: not here"},
		{name: "refused without a reason", body: "d14:failure reasoni5ee", err: "no reason given"},
		{name: "a page", body: "<html>welcome</html>", err: "malformed"},
		{name: "nothing", body: "", err: "malformed"},
		{name: "a list", body: "le", err: "not expected"},
		{name: "more behind", body: "dede", err: "follow"},
		{name: "deep", body: strings.Repeat("l", 1<<20), err: "nested"},
		{name: "truncated", body: "d5:peers10:abc", err: "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseReply([]byte(c.body))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error is %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestRetryIn(t *testing.T) {
	for body, want := range map[string]time.Duration{
		"d14:failure reason1:x8:retry ini5ee":                   5 * time.Minute,
		"d14:failure reason1:x8:retry in1:7e":                   7 * time.Minute,
		"d14:failure reason1:x8:retry in5:nevere":               Never,
		"d14:failure reason1:xe":                                0,
		"d14:failure reason1:x8:retry in3:abce":                 0,
		"d14:failure reason1:x8:retry ini-3ee":                  0,
		"d14:failure reason1:x8:retry ini9223372036854775807ee": maxInterval,
	} {
		_, err := parseReply([]byte(body))
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.RetryIn != want {
			t.Errorf("%q: %#v, want retry in %v", body, err, want)
		}
	}
}

// TestPeersOfOneReply covers what is taken of a reply's peers: no more than a bound, each once, none that can't be.
func TestPeersOfOneReply(t *testing.T) {
	flood := "d5:peersl"
	for i := range 5000 {
		flood += fmt.Sprintf("d2:ip%d:%s4:porti%dee", len("1.2.3.4"), "1.2.3.4", i+1)
	}
	flood += "e"
	var v6 bytes.Buffer
	for i := range 5000 {
		v6.Write([]byte{0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, byte(i >> 8), byte(i)})
	}
	flood += fmt.Sprintf("6:peers6%d:%se", v6.Len(), v6.Bytes())
	announceURL := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Query().Get("flood") != "" {
			io.WriteString(w, flood)
			return
		}
		io.WriteString(w, "d5:peers30:\x01\x02\x03\x04\x00\x01\x01\x02\x03\x04\x00\x01\x01\x02\x03\x04\x00\x00\xa9\xfe\xa9\xfe\x00\x50\xe0\x00\x00\x01\x00\x50e")
	})
	c := newClient(t, ClientOptions{})
	resp, err := announce(t, c, announceURL, sample())
	if want := addrs("1.2.3.4:1"); err != nil || !reflect.DeepEqual(resp.Peers, want) {
		t.Errorf("got %v, %v; want %v", resp.Peers, err, want)
	}
	resp, err = announce(t, c, announceURL+"?flood=1", sample())
	if err != nil || len(resp.Peers) != maxPeers {
		t.Errorf("%d peers of a flood, %v; want %d", len(resp.Peers), err, maxPeers)
	}
}

func TestStatus(t *testing.T) {
	status, body := 0, ""
	announceURL := serve(t, func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
	c := newClient(t, ClientOptions{})
	for _, x := range []struct {
		status     int
		body, want string
	}{
		{404, "not found", "answered 404 Not Found"},
		{500, "", "answered 500"},
		{403, "d14:failure reason7:go awaye", "refused the announce: go away"},
		{503, "d8:intervali60ee", "answered 503"},
		{204, "", "answered 204"},
		{304, "", "answered 304"},
		{200, "hello", "not that of a tracker"},
		{301, "", "answered 301"}, // with nowhere to go
	} {
		status, body = x.status, x.body
		_, err := announce(t, c, announceURL, sample())
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("status %d, body %q: %v, want %q", x.status, x.body, err, x.want)
		}
		if err != nil && strings.Contains(err.Error(), "/announce") {
			t.Errorf("the error tells the path: %v", err)
		}
	}
}

func TestGzip(t *testing.T) {
	pack := func(b []byte) []byte {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		w.Write(b)
		w.Close()
		return packed.Bytes()
	}
	var body []byte
	announceURL := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("gzip is not asked for: %v", req.Header)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(body)
	})
	c := newClient(t, ClientOptions{})
	body = pack([]byte("d8:intervali60ee"))
	if resp, err := announce(t, c, announceURL, sample()); err != nil || resp.Interval != time.Minute {
		t.Errorf("got %+v, %v", resp, err)
	}
	bomb := pack(bytes.Repeat([]byte("d"), 3*maxBody))
	for name, x := range map[string]struct {
		body []byte
		want string
	}{
		"bomb":             {bomb, errTooLong.Error()},
		"many bombs":       {bytes.Repeat(pack(bytes.Repeat([]byte("d"), maxBody/2)), 10), errTooLong.Error()},
		"truncated":        {pack([]byte("d8:intervali60ee"))[:20], "connection closed before"},
		"not gzip":         {[]byte("d8:intervali60ee"), "not the gzip it claims to be"},
		"nothing":          {nil, "connection closed before"},
		"checksum differs": {append(pack([]byte("de"))[:20], 0, 0, 0, 0, 0, 0, 0, 0), "gzip"},
	} {
		body = x.body
		if _, err := announce(t, c, announceURL, sample()); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// TestEndless covers answers that never end: each is cut off, by its length or by the time-out.
func TestEndless(t *testing.T) {
	for name, x := range map[string]struct {
		send func(net.Conn) // until it fails
		want string
	}{
		"body": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nd5:peers")
			forever(c, "aaaaaaaaaaaaaaaa")
		}, errTooLong.Error()},
		"chunked body": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			forever(c, "1\r\na\r\n")
		}, errTooLong.Error()},
		"header": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			forever(c, "X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
		}, errTooLong.Error()},
		"header line":       {func(c net.Conn) { forever(c, "HTTP/1.1 200 OK, or not, or so") }, errTooLong.Error()},
		"interim responses": {func(c net.Conn) { forever(c, "HTTP/1.1 100 Continue\r\n\r\n") }, errTooLong.Error()},
		"silence":           {func(c net.Conn) { io.Copy(io.Discard, c) }, "no complete answer in time"},
		"silence in body": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd5:peers")
			io.Copy(io.Discard, c)
		}, "no complete answer in time"},
		"body that trickles": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
			for {
				if _, err := io.WriteString(c, "d"); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}, "no complete answer in time"},
		"header that trickles": {func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP"); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}, "no complete answer in time"},
		"closed at once": {func(c net.Conn) {}, "connection closed before"},
		"closed in body": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd5") },
			"connection closed before"},
		"length claimed huge": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nd5")
		}, "connection closed before"},
		"another protocol": {func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n\r\n") }, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				http.ReadRequest(bufio.NewReader(conn))
				x.send(conn)
			}()
			timeout := time.Minute
			if strings.Contains(x.want, "in time") {
				timeout = 100 * time.Millisecond
			}
			c := newClient(t, ClientOptions{Timeout: timeout})
			_, err = announce(t, c, "http://"+l.Addr().String()+"/announce", sample())
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %q", err, x.want)
			}
			l.Close()
			<-done
		})
	}
}

func forever(c net.Conn, s string) {
	b := []byte(strings.Repeat(s, 1+4096/len(s)))
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// TestRedirects covers who may send an announce where. Public addresses and names are played by a server on loopback.
func TestRedirects(t *testing.T) {
	const (
		public  = "http://tracker.example:8000/announce"
		other   = "http://9.8.7.6/announce"
		private = "http://192.168.7.7:9000/announce"
	)
	for name, x := range map[string]struct {
		url  string
		to   map[string]string // where each host redirects to; the others answer
		want string            // a part of the error; none if empty
	}{
		"none":                         {url: public},
		"public to public":             {url: public, to: map[string]string{"tracker.example:8000": other}},
		"relative":                     {url: public, to: map[string]string{"tracker.example:8000": "/elsewhere/announce?once=1"}, want: "more than 5 redirects"},
		"loop":                         {url: public, to: map[string]string{"tracker.example:8000": other, "9.8.7.6": public}, want: "more than 5 redirects"},
		"public to private":            {url: public, to: map[string]string{"tracker.example:8000": private}, want: "on the local network"},
		"public to loopback":           {url: public, to: map[string]string{"tracker.example:8000": "http://127.0.0.1/announce"}, want: "on the local network"},
		"public to localhost":          {url: public, to: map[string]string{"tracker.example:8000": "http://localhost/announce"}, want: "on the local network"},
		"public to a private name":     {url: public, to: map[string]string{"tracker.example:8000": "http://router.lan/announce"}, want: "on the local network"},
		"by way of another public one": {url: public, to: map[string]string{"tracker.example:8000": other, "9.8.7.6": private}, want: "on the local network"},
		"public to IPv4 in IPv6":       {url: public, to: map[string]string{"tracker.example:8000": "http://[::ffff:127.0.0.1]/announce"}, want: "on the local network"},
		"public to metadata":           {url: public, to: map[string]string{"tracker.example:8000": "http://169.254.169.254/announce"}, want: "link-local"},
		"private":                      {url: private},
		"private name":                 {url: "http://router.lan/x/announce.php?passkey=1"},
		"private to public":            {url: private, to: map[string]string{"192.168.7.7:9000": other}},
		"private to private":           {url: private, to: map[string]string{"192.168.7.7:9000": "http://router.lan/announce"}},
		"private, public, private": {url: private, to: map[string]string{"192.168.7.7:9000": other, "9.8.7.6": "http://router.lan/announce"},
			want: "on the local network"},
		"private with another path":    {url: "http://192.168.7.7:9000/reboot.cgi?now=1", want: "has to end in announce"},
		"private to another path":      {url: private, to: map[string]string{"192.168.7.7:9000": "http://router.lan/reboot"}, want: "has to end in announce"},
		"loopback with another path":   {url: "http://127.0.0.1:9000/", want: "has to end in announce"},
		"metadata":                     {url: "http://169.254.169.254/announce", want: "link-local"},
		"metadata by name":             {url: "http://metadata.example/announce", want: "link-local"},
		"this host, unspecified":       {url: "http://0.0.0.0:1/announce", want: "reserved"},
		"a name that is half private":  {url: "http://both.example/x"},
		"half private, after a public": {url: public, to: map[string]string{"tracker.example:8000": "http://both.example/x"}},
		"a name that moves to the local network": {url: "http://moves.example/announce", to: map[string]string{"moves.example": "http://moves.example/announce?again"},
			want: "on the local network"},
		"a name that moves to metadata": {url: "http://strays.example/announce", to: map[string]string{"strays.example": "/announce?again"}, want: "link-local"},
		"to a file":                     {url: public, to: map[string]string{"tracker.example:8000": "file:///etc/passwd"}, want: "not an http or https URL"},
		"to gopher":                     {url: public, to: map[string]string{"tracker.example:8000": "gopher://127.0.0.1/"}, want: "not an http or https URL"},
		"to UDP":                        {url: public, to: map[string]string{"tracker.example:8000": "udp://9.8.7.6:80"}, want: "not an http or https URL"},
		"to nonsense":                   {url: public, to: map[string]string{"tracker.example:8000": "http://[::1"}, want: "not an http or https URL"},
		"to an unknown name":            {url: public, to: map[string]string{"tracker.example:8000": "http://gone.example/announce"}, want: "no such address"},
	} {
		t.Run(name, func(t *testing.T) {
			names := map[string]string{
				"tracker.example": "9.9.9.9", "router.lan": "192.168.7.1", "metadata.example": "169.254.169.254",
			}
			moves := map[string]string{"moves.example": "192.168.7.9", "strays.example": "169.254.169.254"}
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Referer() != "" {
					t.Errorf("%s learns where we come from: %s", req.Host, req.Referer())
				}
				if to := x.to[req.Host]; to != "" {
					w.Header().Set("Location", to)
					w.WriteHeader(http.StatusFound)
					return
				}
				io.WriteString(w, "d8:intervali60ee")
			}))
			defer s.Close()
			var dialed []string
			var mu sync.Mutex // both families are looked up at once
			c := newClient(t, ClientOptions{
				Lookup: func(_ context.Context, network, host string) ([]netip.Addr, error) {
					mu.Lock()
					defer mu.Unlock()
					if to := moves[host]; network == "ip4" && to != "" { // public at first
						defer func() { names[host], moves[host] = to, "" }()
						return []netip.Addr{netip.MustParseAddr("9.9.9.2")}, nil
					}
					if host == "both.example" && network == "ip4" {
						return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("9.9.9.1")}, nil
					}
					if a := names[host]; a != "" && network == "ip4" {
						return []netip.Addr{netip.MustParseAddr(a)}, nil
					}
					return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
				},
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					mu.Lock()
					dialed = append(dialed, address)
					mu.Unlock()
					return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
				},
			})
			_, err := announce(t, c, x.url, sample())
			mu.Lock()
			defer mu.Unlock()
			if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %q; dialled %v", err, x.want, dialed)
			}
			if strings.Contains(x.want, "local") && !errors.Is(err, ErrReach) {
				t.Errorf("%v is not ErrReach", err)
			}
			for _, d := range dialed {
				if a := netip.MustParseAddrPort(d).Addr(); reach.Of(a) == reach.Never || strings.HasPrefix(a.String(), "10.") {
					t.Errorf("dialled %s", d)
				}
			}
		})
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, "d8:intervali60ee")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer s.Close()
	trusting := newClient(t, ClientOptions{TLS: s.Client().Transport.(*http.Transport).TLSClientConfig})
	if _, err := announce(t, trusting, s.URL+"/announce", sample()); err != nil {
		t.Error(err)
	}
	strict := newClient(t, ClientOptions{})
	if _, err := announce(t, strict, s.URL+"/announce", sample()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

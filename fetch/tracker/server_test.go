package tracker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestServer(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Skipf("no address %s here: %v", host, err)
			}
			s := httptest.NewUnstartedServer(&Server{Interval: 5 * time.Minute, MinInterval: time.Minute})
			s.Listener.Close()
			s.Listener = l
			s.Start()
			defer s.Close()
			c := newClient(t, ClientOptions{})
			url := s.URL + "/announce"
			peer := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(host), port) }
			for _, step := range []struct {
				port              uint16
				left              int64
				event             Event
				peers             []uint16
				seeders, leechers int
			}{
				{port: 1, left: 5, event: Started, leechers: 1},
				{port: 2, left: 0, event: Started, peers: []uint16{1}, seeders: 1, leechers: 1},
				{port: 3, left: 0, event: Started, peers: []uint16{1}, seeders: 2, leechers: 1},
				{port: 1, left: 5, peers: []uint16{2, 3}, seeders: 2, leechers: 1},
				{port: 1, left: 0, event: Completed, seeders: 3},
				{port: 3, left: 0, event: Stopped, seeders: 2},
				{port: 4, left: 1, event: Started, peers: []uint16{1, 2}, seeders: 2, leechers: 1},
			} {
				r := sample()
				r.Port, r.Left, r.Event = step.port, step.left, step.event
				resp, err := announce(t, c, url, r)
				if err != nil {
					t.Fatal(err)
				}
				var want []netip.AddrPort
				for _, p := range step.peers {
					want = append(want, peer(p))
				}
				slices.SortFunc(resp.Peers, netip.AddrPort.Compare)
				if !slices.Equal(resp.Peers, want) || resp.Seeders != step.seeders || resp.Leechers != step.leechers ||
					resp.Interval != 5*time.Minute || resp.MinInterval != time.Minute {
					t.Errorf("%+v: got %+v", step, resp)
				}
			}
		})
	}
}

// ask announces to s by hand.
func ask(s *Server, from, query string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, "/announce?"+query, nil)
	req.RemoteAddr = from
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	return w
}

const someone = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&left=1"

func TestServerForms(t *testing.T) {
	s := &Server{}
	ask(s, "9.9.9.9:1000", someone+"&port=1")
	ask(s, "[2001:db8::1]:1000", someone+"&port=2")
	v6 := "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	head := "d8:completei0e10:incompletei3e8:intervali60e5:peers"
	for query, want := range map[string][]string{
		"":                        {head + "6:\x09\x09\x09\x09\x00\x016:peers618:" + v6 + "\x00\x02e"},
		"&compact=1":              {head + "6:\x09\x09\x09\x09\x00\x016:peers618:" + v6 + "\x00\x02e"},
		"&numwant=0":              {head + "0:e"},
		"&compact=0&no_peer_id=1": {"ld2:ip7:9.9.9.94:porti1ee", "d2:ip11:2001:db8::14:porti2ee", "eee"},
		"&compact=0":              {"7:peer id20:bbbbbbbbbbbbbbbbbbbb4:porti2e"},
		"&compact=0&numwant=1":    {"peersld2:ip"},
	} {
		got := ask(s, "8.8.8.8:1000", someone+"&port=3"+query).Body.String()
		for _, w := range want {
			// The order of the peers is left to chance.
			if !strings.Contains(got, w) && !strings.Contains(got, strings.TrimPrefix(w, "l")) {
				t.Errorf("%s: %q lacks %q", query, got, w)
			}
		}
		if _, err := parseReply([]byte(got)); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestServerRefuses(t *testing.T) {
	s := &Server{}
	for query, want := range map[string]string{
		"": "info_hash", "info_hash=a": "info_hash",
		"info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=b":                               "peer_id",
		"info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb":            "port",
		"info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=99999": "port",
	} {
		_, err := parseReply(ask(s, "9.9.9.9:1", query).Body.Bytes())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/scrape?"+someone, nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("scrape: %d", w.Code)
	}
}

// TestServerForgets covers that silent peers go, and that nothing grows without bound.
func TestServerForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		for i := range serverMaxMembers + 50 {
			ask(s, fmt.Sprintf("9.9.%d.%d:1", i>>8, i&255), someone+"&port=1")
		}
		body, _ := io.ReadAll(ask(s, "8.8.8.8:1", someone+"&port=1").Body)
		resp, err := parseReply(body)
		if err != nil || resp.Leechers != serverMaxMembers || len(resp.Peers) != serverNumWant {
			t.Errorf("%d leechers, %d peers, %v", resp.Leechers, len(resp.Peers), err)
		}
		time.Sleep(121 * time.Second)
		if resp, err = parseReply(ask(s, "8.8.8.8:1", someone+"&port=1").Body.Bytes()); err != nil || resp.Leechers != 1 {
			t.Errorf("%d leechers later, %v", resp.Leechers, err)
		}
		other := strings.Replace(someone, "info_hash=aaaa", "info_hash=%04d", 1)
		for i := range serverMaxSwarms + 50 {
			ask(s, "8.8.8.8:1", fmt.Sprintf(other, i)+"&port=1")
		}
		if len(s.swarms) != serverMaxSwarms {
			t.Errorf("%d torrents", len(s.swarms))
		}
		if _, err := parseReply(ask(s, "8.8.8.8:1", fmt.Sprintf(other, 9999)+"&port=1").Body.Bytes()); err == nil {
			t.Error("there is room for one more")
		}
		time.Sleep(121 * time.Second)
		if _, err := parseReply(ask(s, "8.8.8.8:1", fmt.Sprintf(other, 9999)+"&port=1").Body.Bytes()); err != nil {
			t.Errorf("no room is made: %v", err)
		}
	})
}

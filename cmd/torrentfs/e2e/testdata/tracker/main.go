// Command tracker serves torrents by HTTP and UDP, over IPv4 or IPv6, for the tests: tracker HOST:PORT. What it says to
// clients is anacrolix/torrent's; it keeps peers in memory until it ends, and tells each of those of its own family.
package main

import (
	"bytes"
	"context"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"

	tracking "github.com/anacrolix/torrent/tracker"
	byHTTP "github.com/anacrolix/torrent/tracker/http/server"
	server "github.com/anacrolix/torrent/tracker/server"
	"github.com/anacrolix/torrent/tracker/udp"
	byUDP "github.com/anacrolix/torrent/tracker/udp/server"

	"github.com/anacrolix/generics"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: tracker HOST:PORT")
	}
	handler := &server.AnnounceHandler{AnnounceTracker: &swarms{peers: make(map[server.InfoHash]map[netip.AddrPort]bool)}}
	datagrams, err := net.ListenPacket("udp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var family udp.AddrFamily = udp.AddrFamilyIpv4
	if datagrams.LocalAddr().(*net.UDPAddr).IP.To4() == nil {
		family = udp.AddrFamilyIpv6
	}
	go func() {
		s := &byUDP.Server{
			ConnTracker: &connections{ids: make(map[udp.ConnectionId]string)}, Announce: handler,
			SendResponse: func(_ context.Context, b []byte, to net.Addr) (int, error) { return datagrams.WriteTo(b, to) },
		}
		log.Fatal(byUDP.RunSimple(context.Background(), s, datagrams, family))
	}()
	http.HandleFunc("/announce", func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		byHTTP.Handler{Announce: handler}.ServeHTTP(answer, r)
		w.WriteHeader(answer.Code)
		// Clients take a reason of a failure for a failure, even if it is empty.
		_, _ = w.Write(bytes.Replace(answer.Body.Bytes(), []byte("14:failure reason0:"), nil, 1))
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

// swarms are the peers of torrents, and whether they have everything.
type swarms struct {
	mu    sync.Mutex
	peers map[server.InfoHash]map[netip.AddrPort]bool
}

func (s *swarms) TrackAnnounce(_ context.Context, r udp.AnnounceRequest, from server.AnnounceAddr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[r.InfoHash] == nil {
		s.peers[r.InfoHash] = make(map[netip.AddrPort]bool)
	}
	s.peers[r.InfoHash][from] = r.Left == 0
	if r.Event == tracking.Stopped {
		delete(s.peers[r.InfoHash], from)
	}
	return nil
}

func (s *swarms) GetPeers(_ context.Context, hash server.InfoHash, _ server.GetPeersOpts, to server.AnnounceAddr) (r server.ServerAnnounceResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seeders, leechers int32
	for peer, whole := range s.peers[hash] {
		if whole {
			seeders++
		} else {
			leechers++
		}
		if peer.Addr().Is4() == to.Addr().Is4() {
			r.Peers = append(r.Peers, server.PeerInfo{AnnounceAddr: peer})
		}
	}
	r.Seeders, r.Leechers = generics.Some(seeders), generics.Some(leechers)
	return r
}

func (s *swarms) Scrape(context.Context, []server.InfoHash) ([]udp.ScrapeInfohashResult, error) {
	return nil, nil
}

// connections are those of the UDP tracker protocol, by who was given their id.
type connections struct {
	mu  sync.Mutex
	ids map[udp.ConnectionId]string
}

func (c *connections) Add(_ context.Context, addr string, id udp.ConnectionId) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[id] = addr
	return nil
}

func (c *connections) Check(_ context.Context, addr string, id udp.ConnectionId) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[id] == addr, nil
}

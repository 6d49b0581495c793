package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrivate listens to everything that a mount sends on its network segment, where a tracker, a DHT node and a seeder
// that speaks all ways of finding peers are. Of a private torrent only the tracker hears (BEP 27); of a public one the
// others do too, which shows that the test can hear them.
func TestPrivate(t *testing.T) {
	t.Parallel()
	needMount(t)
	for name, info := range map[string]map[string]any{"private": {"private": 1}, "public": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSegment(t, 2)
			seeder, dht := s.ip(1)+":6001", s.ip(1)+":6002"
			tracker := newPeerList(t, s, 1, seeder)
			path := write(t, filepath.Join(t.TempDir(), "private.bin"), noise(80, 300_000))
			tt := byLibtorrent(t, path, making{trackers: []string{tracker.url}, info: info})
			runClients(t, s.on(1),
				client{
					Settings: map[string]any{"listen_interfaces": seeder, "enable_lsd": true, "enable_dht": true},
					Torrents: []role{tt.seeding()},
				},
				client{Settings: map[string]any{"listen_interfaces": dht, "enable_dht": true}},
			)
			heard := listenTo(t, s, 0)
			m := startMount(t, s.on(0), t.TempDir(), tt.file, "--listen", s.ip(0)+":0",
				"--no-dht=false", "--no-lsd=false", "--no-pex=false", "--dht-bootstrap", dht)
			output(t, "cmp", tt.original(tt.name), m.path(tt.name))
			if info == nil {
				eventually(t, "DHT, LSD and PEX are heard", func() bool {
					return heard.count("dht") > 0 && heard.count("lsd") > 0 && heard.count("pex") > 0
				})
			}
			m.interrupt()
			if heard.count("peer") == 0 || tracker.asked() == 0 {
				t.Errorf("heard %v, and the tracker was asked %d times", heard, tracker.asked())
			}
			if info != nil && heard.count("dht")+heard.count("lsd")+heard.count("pex")+heard.count("other") > 0 {
				t.Errorf("of a private torrent is heard %v", heard)
			}
		})
	}
}

// peerList is an HTTP tracker that tells everybody of one peer.
type peerList struct {
	url    string
	mu     sync.Mutex
	events []string
}

func newPeerList(t testing.TB, s *segment, host int, peer string) *peerList {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp4", peer)
	if err != nil {
		t.Fatal(err)
	}
	p := &peerList{url: fmt.Sprintf("http://%s:6000/announce", s.ip(host))}
	server := http.Server{ReadHeaderTimeout: patience}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.RemoteAddr, s.ip(host)+":") { // the seeder announces itself too
			p.mu.Lock()
			p.events = append(p.events, r.URL.Query().Get("event"))
			p.mu.Unlock()
		}
		compact := append(bytes.Clone(addr.IP.To4()), byte(addr.Port>>8), byte(addr.Port))
		_, _ = w.Write(append(append([]byte("d8:intervali1800e5:peers6:"), compact...), 'e')) // who has hung up needs none
	})
	s.inside(host, func() error {
		l, err := net.Listen("tcp4", s.ip(host)+":6000")
		if err == nil {
			go func() { _ = server.Serve(l) }()
		}
		return err
	})
	t.Cleanup(func() { server.Close() })
	return p
}

// asked is how many announces of others came.
func (p *peerList) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.events)
}

// ear hears what a host sends.
type ear struct {
	mu    sync.Mutex
	heard map[string]int // packets by what they are
}

func (e *ear) count(what string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[what]
}

func (e *ear) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprint(e.heard)
}

// listenTo hears everything that a host sends from now on, over IPv4 and IPv6, and to itself too.
func listenTo(t testing.TB, s *segment, host int) *ear {
	t.Helper()
	e := &ear{heard: map[string]int{}}
	fd := -1
	s.inside(host, func() (err error) {
		all := int(unix.ETH_P_ALL)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all>>8|all&0xff<<8)
		if err == nil { // so that the listener sees the end of the test
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
		}
		return err
	})
	done := make(chan struct{})
	var listening sync.WaitGroup
	listening.Go(func() {
		defer unix.Close(fd)
		packet := make([]byte, 1<<16)
		for {
			select {
			case <-done:
				return
			default:
			}
			n, from, err := unix.Recvfrom(fd, packet, 0)
			if link, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && link.Pkttype == unix.PACKET_OUTGOING {
				e.hear(packet[:n])
			}
		}
	})
	t.Cleanup(func() { close(done); listening.Wait() })
	return e
}

// hear notes what a packet is. It goes by what is in it, not by the port, but for local service discovery.
func (e *ear) hear(packet []byte) {
	what := "other"
	protocol, body := payload(packet)
	switch {
	case protocol == unix.IPPROTO_TCP:
		if len(body) < 20 || len(body) <= int(body[12]>>4)*4 {
			return
		}
		body = body[body[12]>>4*4:]
		what = "http"
		if !bytes.HasPrefix(body, []byte("GET ")) {
			what = "peer"
		}
		handshake := []byte("\x13BitTorrent protocol")
		dhtBit := bytes.HasPrefix(body, handshake) && len(body) > 27 && body[27]&1 != 0
		if dhtBit {
			what = "dht"
		}
		if bytes.Contains(body, []byte("6:ut_pex")) {
			what = "pex"
		}
	case protocol == unix.IPPROTO_UDP && len(body) >= 8:
		what = "dht"
		if bytes.Contains(body, []byte("BT-SEARCH")) {
			what = "lsd"
		}
	case protocol != unix.IPPROTO_UDP: // the kernel's own: neighbours, group memberships
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard[what]++
	if what == "dht" && bytes.Contains(body, []byte("1:q")) {
		e.heard["query"]++
		if bytes.Contains(body, []byte("2:roi1e")) {
			e.heard["read-only query"]++
		}
	}
}

// payload is what an IP packet carries.
func payload(packet []byte) (protocol int, body []byte) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4 && len(packet) >= int(packet[0]&15)*4:
		return int(packet[9]), packet[packet[0]&15*4:]
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return int(packet[6]), packet[40:]
	}
	return -1, nil
}

package e2e

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	announcing "torrentfs/fetch/tracker"
)

// aNameServer answers for every name with one address of IPv4, once it may.
type aNameServer struct {
	addr netip.Addr
	mood atomic.Int32
	hits atomic.Int32
}

const (
	silent int32 = iota
	failing
	answering
)

// serve answers until conn is closed.
func (n *aNameServer) serve(conn net.PacketConn) {
	b := make([]byte, 2048)
	for {
		size, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		n.hits.Add(1)
		var m dnsmessage.Message
		mood := n.mood.Load()
		if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 || mood == silent {
			continue
		}
		reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
		q := m.Questions[0]
		switch {
		case mood == failing:
			reply.RCode = dnsmessage.RCodeServerFailure
		case q.Type == dnsmessage.TypeA:
			reply.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: n.addr.As4()},
			}}
		}
		if out, err := reply.Pack(); err == nil {
			_, _ = conn.WriteTo(out, from)
		}
	}
}

// TestFaultNames mounts a torrent whose tracker's name can't be resolved, because the name server is silent or fails: a peer known
// otherwise is read from meanwhile, and a read that has none waits and goes on once names are resolved.
func TestFaultNames(t *testing.T) {
	t.Parallel()
	needMount(t)
	servers := nameServers()
	if len(servers) == 0 {
		t.Skip("the name server is on this host, and out of a network namespace's reach")
	}
	for name, mood := range map[string]int32{"silent": silent, "failing": failing} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const reader, far = 0, 1
			s := newSegment(t, 2)
			for _, ip := range servers {
				s.ipOn(far, "address", "add", ip+"/32", "dev", "eth0")
			}
			names := &aNameServer{addr: netip.MustParseAddr(s.ip(far))}
			names.mood.Store(mood)
			var web net.Listener
			s.inside(far, func() (err error) {
				for _, ip := range servers {
					conn, err := net.ListenPacket("udp4", net.JoinHostPort(ip, "53"))
					if err != nil {
						return err
					}
					t.Cleanup(func() { conn.Close() })
					go names.serve(conn)
				}
				web, err = net.Listen("tcp4", s.ip(far)+":0")
				return err
			})
			server := http.Server{Handler: &announcing.Server{Interval: time.Hour}}
			t.Cleanup(func() { server.Close() })
			go func() { _ = server.Serve(web) }()

			port := web.Addr().(*net.TCPAddr).Port
			tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "named.bin"), noise(110, 2<<20+3)),
				making{trackers: []string{fmt.Sprintf("http://tracker.torrentfs.test:%d/announce", port)}})
			addr := seedAtLibtorrent(t, s, tt)
			register(t, server.Handler, tt, addr)

			known := startMount(t, s.on(reader), t.TempDir(), tt.file, "--listen", ":0", "--peer", addr)
			output(t, "cmp", tt.original(tt.name), known.path(tt.name))
			known.interrupt()

			before := names.hits.Load()
			m := startMount(t, s.on(reader), t.TempDir(), tt.file, "--listen", ":0", "--read-timeout", "5m")
			wait := start(t, exec.Command("cmp", tt.original(tt.name), m.path(tt.name)))
			eventually(t, "the name server is asked", func() bool { return names.hits.Load() > before })
			if wait.ended() {
				t.Fatal("the read has not waited")
			}
			names.mood.Store(answering)
			back := time.Now()
			code := wait.exit()
			t.Logf("%v after names were resolved, the whole file was read", time.Since(back).Round(time.Millisecond))
			if code != 0 {
				t.Errorf("cmp: exit code %d, %s", code, wait.stderr())
			}
			m.interrupt()
		})
	}
}

// register tells a tracker of a seeder at addr.
func register(t *testing.T, trackers http.Handler, tt torrent, addr string) {
	t.Helper()
	hash, err := hex.DecodeString(tt.hash)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	q := url.Values{"info_hash": {string(hash)}, "peer_id": {"-XX0000-000000000000"}, "port": {port}, "left": {"0"}}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/announce?"+q.Encode(), nil)
	req.RemoteAddr = addr
	trackers.ServeHTTP(httptest.NewRecorder(), req)
}

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// TestRaceOfFamilies mounts with a peer that is known by a name with an address of IPv4 and one of IPv6, of which one leads
// nowhere: what is sent there vanishes. The other is not kept waiting; how long it takes is logged.
func TestRaceOfFamilies(t *testing.T) {
	t.Parallel()
	needMount(t)
	const name = "peer.torrentfs.test"
	for _, dead := range []string{"IPv4", "IPv6"} {
		t.Run(dead+" is a black hole", func(t *testing.T) {
			t.Parallel()
			s := newSegment(t, 2)
			for host := range 2 {
				output(t, "ip", "-n", s.names[host], "address", "add", fmt.Sprintf("fd00:77::%d/64", host+1), "dev", "eth0", "nodad")
			}
			four, six, lives := s.ip(1), "fd00:77::99", net.JoinHostPort(s.ip(1), "6001")
			if dead == "IPv4" {
				four, six, lives = "10.77.0.99", "fd00:77::2", "[fd00:77::2]:6001"
			}
			for _, nobody := range []string{"10.77.0.99", "fd00:77::99"} { // else the kernel would say that nobody is there
				output(t, "ip", "-n", s.names[0], "neighbour", "add", nobody, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
			}
			serveNames(t, s, 0, name, netip.MustParseAddr(four), netip.MustParseAddr(six))
			tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "race.bin"), noise(49, 300_000)), making{})
			runClients(t, s.on(1), client{Settings: map[string]any{"listen_interfaces": lives}, Torrents: []role{tt.seeding()}})
			byDNS := func(cmd *exec.Cmd) *exec.Cmd { // not by what else this system may look names up with
				cmd.Env = append(os.Environ(), "GODEBUG=netdns=go")
				return s.on(0)(cmd)
			}
			m := startMount(t, byDNS, t.TempDir(), tt.file, "--listen", ":0", "--read-timeout", "10s", "--peer", name+":6001")
			output(t, "cmp", tt.original(tt.name), m.path(tt.name))
		})
	}
}

// serveNames answers on a host, wherever that looks names up, with the addresses of one name.
func serveNames(t testing.TB, s *segment, host int, name string, addrs ...netip.Addr) {
	t.Helper()
	server := "127.0.0.1"
	config, _ := os.ReadFile("/etc/resolv.conf") // where there is none, names are looked up there
	for line := range strings.Lines(string(config)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			server = f[1]
			break
		}
	}
	if ip, err := netip.ParseAddr(server); err != nil || ip.Zone() != "" {
		t.Skipf("names are looked up at %q, which a test can't be", server)
	} else if !ip.IsLoopback() {
		output(t, "ip", "-n", s.names[host], "address", "add", server, "dev", "lo")
	}
	var conn net.PacketConn
	s.inside(host, func() (err error) {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(server, "53"))
		return err
	})
	var serving sync.WaitGroup
	serving.Go(func() {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if answer := answerName(b[:n], name, addrs); answer != nil {
				_, _ = conn.WriteTo(answer, from) // who asks will ask again
			}
		}
	})
	t.Cleanup(func() { conn.Close(); serving.Wait() })
}

// answerName answers a question about a name, and says of every other that there is none. It returns nil for what is no
// question.
func answerName(query []byte, name string, addrs []netip.Addr) []byte {
	var q dnsmessage.Message
	if err := q.Unpack(query); err != nil || len(q.Questions) != 1 {
		return nil
	}
	a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, Authoritative: true}, Questions: q.Questions}
	asked := q.Questions[0]
	if strings.TrimSuffix(asked.Name.String(), ".") != name {
		a.RCode = dnsmessage.RCodeNameError
	}
	head := dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET, TTL: 60}
	for _, addr := range addrs {
		switch {
		case a.RCode != dnsmessage.RCodeSuccess:
		case addr.Is4() && asked.Type == dnsmessage.TypeA:
			a.Answers = append(a.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && asked.Type == dnsmessage.TypeAAAA:
			a.Answers = append(a.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	b, err := a.Pack()
	if err != nil {
		return nil
	}
	return b
}

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// twoLines is a network of two namespaces: a host with two network interfaces, eth0 and eth1, and a world that both lead
// to. By its routing table the host would send everything by eth1.
type twoLines struct {
	*segment
}

const (
	host  = 0
	world = 1
)

func newTwoLines(t testing.TB) twoLines {
	t.Helper()
	s := twoLines{noSegment(t)}
	for _, name := range []string{"host", "world"} {
		s.names = append(s.names, s.namespace(name))
	}
	s.connect(0)
	s.connect(1)
	ip := func(args string) { output(t, "ip", append([]string{"-n", s.names[world]}, strings.Fields(args)...)...) }
	ip("address add 10.79.0.1/32 dev lo")
	for _, server := range nameServers() {
		ip("address add " + server + " dev lo")
	}
	return s
}

// nameServers are those that programs on this machine ask.
func nameServers() (servers []string) {
	b, _ := exec.Command("sed", "-n", `s/^nameserver \([0-9.]*\)$/\1/p`, "/etc/resolv.conf").Output()
	for _, ip := range strings.Fields(string(b)) {
		if !net.ParseIP(ip).IsLoopback() {
			servers = append(servers, ip)
		}
	}
	return servers
}

// connect makes an interface of the host. Neither end speaks IPv6, which says things of its own accord.
func (s twoLines) connect(line int) {
	s.t.Helper()
	eth, far := fmt.Sprintf("eth%d", line), fmt.Sprintf("far%d", line)
	output(s.t, "ip", "-n", s.names[host], "link", "add", eth, "type", "veth", "peer", "name", far, "netns", s.names[world])
	for i, name := range []string{eth, far} {
		outputOf(s.t, s.on(i)(exec.Command("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/"+name+"/disable_ipv6")))
	}
	output(s.t, "ip", "-n", s.names[world], "address", "add", fmt.Sprintf("10.78.%d.1/24", line), "dev", far)
	output(s.t, "ip", "-n", s.names[world], "link", "set", far, "up")
	output(s.t, "ip", "-n", s.names[host], "address", "add", fmt.Sprintf("10.78.%d.2/24", line), "dev", eth)
	s.up(line)
}

// up turns an interface of the host on, and down off.
func (s twoLines) up(line int) {
	s.t.Helper()
	eth := fmt.Sprintf("eth%d", line)
	output(s.t, "ip", "-n", s.names[host], "link", "set", eth, "up")
	output(s.t, "ip", "-n", s.names[host], "route", "add", "default", "via", fmt.Sprintf("10.78.%d.1", line), "dev", eth,
		"metric", strconv.Itoa(10-line))
}

func (s twoLines) down(line int) {
	s.t.Helper()
	output(s.t, "ip", "-n", s.names[host], "link", "set", fmt.Sprintf("eth%d", line), "down")
}

// sent counts the packets that have left the host by a line.
func (s twoLines) sent(line int) int {
	s.t.Helper()
	var links []struct {
		Stats64 struct{ TX struct{ Packets int } }
	}
	decode(s.t, output(s.t, "ip", "-n", s.names[host], "-s", "-j", "link", "show", fmt.Sprintf("eth%d", line)), &links)
	return links[0].Stats64.TX.Packets
}

// notReset leaves out the kernel's resets. When a device is back, what a peer still sends to a connection that is gone is
// answered so, by the routing table, whatever the socket was bound to. No program can help that.
const notReset = "not (ip and tcp[13] == 4) and not (ip6 proto 6 and ip6[53] == 4)"

// TestBindDevice has a mount use one of two network interfaces, the one that the routing table would not: to peers, for
// trackers of both kinds, the DHT, the local network and names. When it goes down nothing leaves by the other, and when it
// is back, or another one has taken its name, things go on.
func TestBindDevice(t *testing.T) {
	t.Parallel()
	needMount(t)
	need(t, "tcpdump")
	s := newTwoLines(t)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "bound.bin"), noise(70, 6<<20)), making{trackers: []string{
		"http://10.79.0.1:7/announce", "udp://10.79.0.1:7/announce", "http://tracker.torrentfs.test:7/announce",
	}})
	start(t, s.on(world)(exec.Command(binary(t), "seed", "--cache-dir", t.TempDir(), "--listen", ":6881", "--no-lsd", "--no-trackers",
		tt.file, tt.folder)))
	const peer = "10.79.0.1:6881"
	open := []string{"--listen", ":0", "--no-dht=false", "--dht-bootstrap", peer, "--no-lsd=false", "--peer", peer}

	seen := s.capture("ip and " + notReset)
	before := s.sent(1)
	bound := append(slices.Clip(open), "--bind-device", "eth0")
	for port := 9; port < 14; port++ { // nobody is there, which is tried again and again
		bound = append(bound, "--peer", fmt.Sprintf("10.79.0.1:%d", port))
	}
	m := startMount(t, s.on(host), t.TempDir(), tt.file, bound...)
	output(t, "cmp", "-n", "1000000", tt.original(tt.name), m.path(tt.name))
	var all *process
	for _, gone := range []struct {
		how        string
		away, back func()
	}{
		{"down", func() { s.down(0) }, func() { s.up(0) }},
		{"deleted", func() { output(t, "ip", "-n", s.names[host], "link", "del", "eth0") }, func() { s.connect(0) }},
	} {
		mark := len(m.stderr())
		says := func(words ...string) {
			t.Helper()
			eventually(t, fmt.Sprintf("the log of a mount whose device is %s says %q", gone.how, words), func() bool {
				for line := range bytes.Lines(m.stderr()[mark:]) {
					if !slices.ContainsFunc(words, func(w string) bool { return !bytes.Contains(line, []byte(w)) }) {
						return true
					}
				}
				return false
			})
		}
		gone.away()
		if all == nil { // a read in the middle of it
			all = start(t, exec.Command("cmp", tt.original(tt.name), m.path(tt.name)))
		}
		says("the network interface is down")
		says("cannot connect", "10.79.0.1:9")
		if sent := s.sent(1) - before; sent != 0 {
			t.Fatalf("%d packets have left by the other line with the device %s", sent, gone.how)
		}
		gone.back()
		says("the network interface is back")
	}
	if code := all.exit(); code != 0 {
		t.Errorf("cmp: exit code %d", code)
	}
	if packets := seen(); packets != "" {
		t.Errorf("by the other line this has left:\n%s", packets)
	}
	// The listener has moved to the new device, and hears from that alone.
	port := listening.FindSubmatch(m.stderr())
	if port == nil {
		t.Fatal("the log does not tell where it listens")
	}
	reach := func(ip string) error {
		return s.enter(world, func() error {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, string(port[1])), 10*time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	if err := reach("10.78.0.2"); err != nil {
		t.Errorf("a peer can't connect: %v", err)
	}
	if err := reach("10.78.1.2"); err == nil {
		t.Error("a peer can connect by the other line")
	}
	m.interrupt()

	free := startMount(t, s.on(host), t.TempDir(), tt.file, open...)
	before = s.sent(1)
	output(t, "cmp", tt.original(tt.name), free.path(tt.name))
	if sent := s.sent(1) - before; sent < 50 {
		t.Errorf("a mount that is not bound has sent %d packets by the line that the routing table says", sent)
	}
}

// listening finds the port in the log line that tells of it.
var listening = regexp.MustCompile(`msg="listening for peers" address=\S*:(\d+)`)

// addIPv6 has a line carry IPv6, too. It has to be said again when the line was down.
func (s twoLines) addIPv6(line int) {
	s.t.Helper()
	eth, far := fmt.Sprintf("eth%d", line), fmt.Sprintf("far%d", line)
	ip := func(on int, args string) {
		output(s.t, "ip", append([]string{"-6", "-n", s.names[on]}, strings.Fields(args)...)...)
	}
	for i, name := range []string{eth, far} {
		outputOf(s.t, s.on(i)(exec.Command("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/"+name+"/disable_ipv6")))
	}
	ip(world, fmt.Sprintf("address replace fd00:78:%d::1/64 dev %s nodad", line, far))
	ip(host, fmt.Sprintf("address replace fd00:78:%d::2/64 dev %s nodad", line, eth))
	ip(host, fmt.Sprintf("route replace default via fd00:78:%d::1 dev %s metric %d", line, eth, 10-line))
}

// TestBindDeviceIPv6 is TestBindDevice where all that a mount wants is to be had by IPv6. Which packets leave by the other
// line is looked at one by one, since the kernel says things of its own there.
func TestBindDeviceIPv6(t *testing.T) {
	t.Parallel()
	needMount(t)
	need(t, "tcpdump")
	s := newTwoLines(t)
	output(t, "ip", "-6", "-n", s.names[world], "address", "add", "fd00:79::1/128", "dev", "lo", "nodad")
	s.addIPv6(0)
	s.addIPv6(1)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "bound.bin"), noise(72, 6<<20)), making{trackers: []string{
		"http://[fd00:79::1]:7/announce", "udp://[fd00:79::1]:7/announce", "http://tracker.torrentfs.test:7/announce",
	}})
	start(t, s.on(world)(exec.Command(binary(t), "seed", "--cache-dir", t.TempDir(), "--listen", ":6881", "--no-lsd", "--no-trackers",
		tt.file, tt.folder)))
	const peer, nobody = "[fd00:79::1]:6881", "[fd00:79::1]:9"
	open := []string{"--listen", ":0", "--no-dht=false", "--dht-bootstrap", peer, "--no-lsd=false", "--peer", peer, "--peer", nobody}

	seen := s.capture("(tcp or udp or icmp) and " + notReset)
	m := startMount(t, s.on(host), t.TempDir(), tt.file, append(slices.Clip(open), "--bind-device", "eth0")...)
	output(t, "cmp", "-n", "1000000", tt.original(tt.name), m.path(tt.name))
	mark := len(m.stderr())
	s.down(0)
	all := start(t, exec.Command("cmp", tt.original(tt.name), m.path(tt.name)))
	eventually(t, "the log says that the device is down, and what fails of it", func() bool {
		log := m.stderr()[mark:]
		return bytes.Contains(log, []byte("the network interface is down")) && bytes.Contains(log, []byte("cannot connect"))
	})
	s.up(0)
	s.addIPv6(0)
	if code := all.exit(); code != 0 {
		t.Errorf("cmp: exit code %d", code)
	}
	m.interrupt()
	if packets := seen(); packets != "" {
		t.Errorf("by the other line this has left:\n%s", packets)
	}

	seen = s.capture("tcp or udp or icmp")
	free := startMount(t, s.on(host), t.TempDir(), tt.file, open...)
	output(t, "cmp", tt.original(tt.name), free.path(tt.name))
	if packets := seen(); !strings.Contains(packets, "fd00:79::1.6881") {
		t.Errorf("of a mount that is not bound, this has left by the line that the routing table says:\n%s", packets)
	}
}

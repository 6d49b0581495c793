package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	announcing "torrentfs/fetch/tracker"
)

// TestProxy has a mount reach a tracker, a peer and a .torrent through a SOCKS proxy, which alone knows what the names
// mean, while nothing but the connections to the proxy leaves the host; nothing does when the proxy is down, too.
func TestProxy(t *testing.T) {
	t.Parallel()
	needMount(t)
	need(t, "tcpdump")
	for name, run := range map[string]func(testing.TB, twoLines) *process{"microsocks": microsocks, "dante": dante} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testProxy(t, run)
		})
	}
}

func testProxy(t *testing.T, run func(testing.TB, twoLines) *process) {
	s := newTwoLines(t)
	// In the world, all that the mount wants is at localhost.
	var l net.Listener
	s.inside(world, func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:80")
		return err
	})
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "hidden.bin"), noise(71, 3<<20)), making{trackers: []string{
		"http://localhost/announce", "udp://10.79.0.1:7/announce", "http://name.torrentfs.test/announce",
	}})
	announced := make(chan string, 100)
	mux := http.NewServeMux()
	mux.HandleFunc("/file.torrent", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, tt.file) })
	mux.HandleFunc("/announce", func(w http.ResponseWriter, r *http.Request) {
		select {
		case announced <- r.URL.Query().Get("port"):
		default:
		}
		new(announcing.Server).ServeHTTP(w, r)
	})
	web := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(l)
	}()
	t.Cleanup(func() { web.Close(); <-served })
	start(t, s.on(world)(exec.Command(binary(t), "seed", "--cache-dir", t.TempDir(), "--listen", ":6881", "--no-lsd", "--no-dht",
		"--no-trackers", tt.file, tt.folder)))
	proxy := run(t, s)
	seen := s.capture("not (host 10.78.1.1 and tcp port 1080) and not arp")

	at := "socks5://tester:secret@10.78.1.1:1080"
	flags := []string{"--listen", ":0", "--no-dht=false", "--dht-bootstrap", "10.79.0.1:6881", "--no-lsd=false"}
	m := startMount(t, s.on(host), t.TempDir(), "http://localhost/file.torrent", append(flags, "--proxy", at, "--peer", "localhost:6881")...)
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	if port := <-announced; port != "1" {
		t.Errorf("the tracker was told of port %s, where nobody can reach the mount", port)
	}
	if n := bytes.Count(m.stderr(), []byte("everything goes through the proxy")); n != 1 {
		t.Errorf("the log says %d times what the proxy rules out", n)
	}
	if !regexp.MustCompile(`msg=connected .* peer=\[100::\S*\]:6881 `).Match(m.stderr()) {
		t.Error("the log does not tell of the peer that has no address here")
	}
	if bytes.Contains(m.stderr(), []byte("secret")) {
		t.Error("the log tells the password")
	}
	m.interrupt()

	proxy.kill()
	m = startMount(t, s.on(host), t.TempDir(), tt.file, append(flags, "--proxy", at, "--peer", "10.79.0.1:6881")...)
	eventually(t, "the log says that the proxy is down, and what fails of it", func() bool {
		log := m.stderr()
		return bytes.Contains(log, []byte("the proxy can't be reached")) && bytes.Contains(log, []byte("cannot connect")) &&
			bytes.Contains(log, []byte("tracker fails"))
	})
	m.interrupt()
	if packets := seen(); packets != "" {
		t.Errorf("beside the connections to the proxy, this has left the host:\n%s", packets)
	}

	seen = s.capture("udp or tcp")
	free := startMount(t, s.on(host), t.TempDir(), tt.file, append(flags, "--peer", "10.79.0.1:6881")...)
	output(t, "cmp", tt.original(tt.name), free.path(tt.name))
	if packets := seen(); !strings.Contains(packets, "10.79.0.1.6881") {
		t.Errorf("without the proxy, this has left the host:\n%s", packets)
	}
}

// capture has packets listed that match an expression and come from the host by the line that it would choose; seen ends
// it and gives the list.
func (s twoLines) capture(expression string) (seen func() string) {
	s.t.Helper()
	list, err := os.CreateTemp(s.t.TempDir(), "packets-*")
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.on(world)(exec.Command("tcpdump", "-i", "far1", "-nn", "-l", "-t", "-Q", "in", "--immediate-mode", "-B", "16384", expression))
	cmd.Stdout = list
	p := start(s.t, cmd)
	list.Close()
	eventually(s.t, "tcpdump listens", func() bool { return p.ended() || bytes.Contains(p.stderr(), []byte("listening on")) })
	return func() string {
		p.signal(syscall.SIGINT)
		if code := p.exit(); code != 0 {
			s.t.Errorf("tcpdump: exit code %d", code)
		}
		b, err := os.ReadFile(list.Name())
		if err != nil {
			s.t.Error(err)
		}
		return strings.TrimSpace(string(b))
	}
}

func microsocks(t testing.TB, s twoLines) *process {
	t.Helper()
	need(t, "microsocks")
	p := start(t, s.on(world)(exec.Command("microsocks", "-i", "10.78.1.1", "-p", "1080", "-u", "tester", "-P", "secret")))
	s.await("10.78.1.1:1080")
	return p
}

// dante asks for no password: it would want a user of this machine.
func dante(t testing.TB, s twoLines) *process {
	t.Helper()
	need(t, "danted")
	config := write(t, filepath.Join(t.TempDir(), "danted.conf"), []byte(`
logoutput: stderr
internal: 10.78.1.1 port = 1080
external: lo
external.rotation: none
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0/0 to: 0/0 }
socks pass { from: 0/0 to: 0/0 }
`))
	p := start(t, s.on(world)(exec.Command("danted", "-f", config)))
	s.await("10.78.1.1:1080")
	return p
}

// await waits until somebody listens in the world.
func (s twoLines) await(address string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("somebody listens at %s", address), func() bool {
		return s.enter(world, func() error {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err
		}) == nil
	})
}

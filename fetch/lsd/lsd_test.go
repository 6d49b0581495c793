package lsd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("LSD_TEST_PEER") != "" {
		bePeer()
		return
	}
	goleak.VerifyTestMain(m)
}

// bePeer announces a torrent, and prints the peers that it hears of, until its standard input ends.
func bePeer() {
	s, err := New(Config{Found: func(h [20]byte, peer netip.AddrPort) { fmt.Printf("found %x %v\n", h, peer) }})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.Announce(hash, 4001)
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Close()
}

// peer is a program in a network namespace of its own.
type peer struct {
	name  string
	lines *bufio.Scanner
}

// launch runs a program in a namespace until the test ends.
func launch(t *testing.T, ns string, env []string, argv ...string) peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, argv...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cancel(); _ = cmd.Wait() })
	return peer{ns, bufio.NewScanner(stdout)}
}

// expect waits for a line that the program prints.
func (p peer) expect(t *testing.T, want string) {
	t.Helper()
	for p.lines.Scan() {
		if strings.Contains(p.lines.Text(), want) {
			return
		}
	}
	t.Fatalf("%s never printed %q", p.name, want)
}

// segment makes network namespaces that share a network segment, and returns their names.
func segment(t *testing.T, n int) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	run := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	must := func(args ...string) {
		t.Helper()
		if err := run(args...); err != nil {
			t.Fatal(err)
		}
	}
	hub := fmt.Sprintf("lsdhub%d", os.Getpid())
	if err := run("netns", "add", hub); err != nil {
		t.Skip("cannot make network namespaces: ", err)
	}
	t.Cleanup(func() { _ = run("netns", "del", hub) })
	must("-n", hub, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	must("-n", hub, "link", "set", "br0", "up")
	var names []string
	for i := range n {
		ns := fmt.Sprintf("lsd%d.%d", os.Getpid(), i)
		must("netns", "add", ns)
		t.Cleanup(func() { _ = run("netns", "del", ns) })
		must("-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", fmt.Sprintf("p%d", i), "netns", hub)
		must("-n", hub, "link", "set", fmt.Sprintf("p%d", i), "master", "br0", "up")
		must("-n", ns, "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "eth0")
		must("-n", ns, "addr", "add", fmt.Sprintf("fd77::%d/64", i+1), "dev", "eth0", "nodad")
		must("-n", ns, "link", "set", "lo", "up")
		must("-n", ns, "link", "set", "eth0", "up")
		must("-n", ns, "route", "add", "default", "via", "10.77.0.254") // which transmission finds the interface by
		names = append(names, ns)
	}
	return names
}

// TestSegment has two of us, a libtorrent and a transmission on one network segment find each other.
func TestSegment(t *testing.T) {
	hosts := segment(t, 4)
	env := []string{"LSD_TEST_PEER=1"}
	one := launch(t, hosts[0], env, os.Args[0])
	two := launch(t, hosts[1], env, os.Args[0])
	// The later one is heard at once, and it hears the answer to its first announce.
	one.expectAll(t, "10.77.0.2:4001", "[fd77::2]:4001")
	two.expectAll(t, "10.77.0.1:4001", "[fd77::1]:4001")
	t.Run("libtorrent", func(t *testing.T) {
		if exec.Command("/usr/bin/python3", "-c", "import libtorrent").Run() != nil {
			t.Skip("no libtorrent for python3")
		}
		other := launch(t, hosts[2], nil, "/usr/bin/python3", "-u", "testdata/libtorrent_peer.py", "10.77.0.3:4003", hash40)
		one.expectAll(t, "10.77.0.3:4003")
		other.expect(t, "10.77.0.1:4001")
	})
	t.Run("transmission", func(t *testing.T) {
		if _, err := exec.LookPath("transmission-daemon"); err != nil {
			t.Skip(err)
		}
		dir := t.TempDir()
		other := launch(t, hosts[3], nil, "sh", "-c", `exec transmission-daemon "$@" 2>&1`, "sh", "-f", "--log-debug", "-g", dir,
			"-w", dir, "--lpd", "--no-dht", "--no-portmap", "-P", "4004", "-p", "9091", "--no-auth")
		add := exec.Command("ip", "netns", "exec", hosts[3], "transmission-remote", "127.0.0.1:9091", "-a", "magnet:?xt=urn:btih:"+hash40)
		for deadline := time.Now().Add(time.Minute); add.Run() != nil; add = exec.Command(add.Path, add.Args[1:]...) {
			if time.Now().After(deadline) {
				t.Fatal("transmission takes no torrents")
			}
			time.Sleep(50 * time.Millisecond)
		}
		two.expectAll(t, "10.77.0.4:4004")
		other.expect(t, "peer from LPD (10.77.0.2:4001)")
	})
}

// TestEveryInterface has one in the middle of two segments find who is on either, and be found by both.
func TestEveryInterface(t *testing.T) {
	hosts := segment(t, 2)
	far := fmt.Sprintf("lsdfar%d", os.Getpid())
	for _, args := range [][]string{
		{"netns", "add", far},
		{"-n", hosts[0], "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", far},
		{"-n", hosts[0], "addr", "add", "10.78.0.1/24", "dev", "eth1"}, {"-n", hosts[0], "link", "set", "eth1", "up"},
		{"-n", far, "addr", "add", "10.78.0.2/24", "dev", "eth0"}, {"-n", far, "link", "set", "eth0", "up"}, {"-n", far, "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
		if args[0] == "netns" {
			t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", far).Run() })
		}
	}
	env := []string{"LSD_TEST_PEER=1"}
	middle, near, other := launch(t, hosts[0], env, os.Args[0]), launch(t, hosts[1], env, os.Args[0]), launch(t, far, env, os.Args[0])
	middle.expectAll(t, "10.77.0.2:4001", "10.78.0.2:4001")
	near.expectAll(t, "10.77.0.1:4001")
	other.expectAll(t, "10.78.0.1:4001")
}

// expectAll waits until the program has found all these peers, in any order.
func (p peer) expectAll(t *testing.T, peers ...string) {
	t.Helper()
	missing := make(map[string]bool)
	for _, a := range peers {
		missing[fmt.Sprintf("found %x %s", hash, a)] = true
	}
	for len(missing) > 0 && p.lines.Scan() {
		t.Logf("%s: %s", p.name, p.lines.Text())
		delete(missing, p.lines.Text())
	}
	if len(missing) > 0 {
		t.Fatalf("%s never found %v", p.name, missing)
	}
}

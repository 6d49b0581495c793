package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// segment is a network of hosts on one link, each a network namespace of its own: nothing leaves it.
type segment struct {
	t      testing.TB
	prefix string   // of the names of its namespaces
	names  []string // of the namespaces of the hosts
}

var segments atomic.Int32

// newSegment makes a segment, which takes root.
func newSegment(t testing.TB, hosts int) *segment {
	t.Helper()
	s := noSegment(t)
	hub := s.namespace("hub")
	output(t, "ip", "-n", hub, "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
	output(t, "ip", "-n", hub, "link", "set", "br0", "up")
	for i := range hosts {
		host := s.namespace(fmt.Sprint(i))
		port := fmt.Sprintf("port%d", i)
		output(t, "ip", "-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", hub)
		output(t, "ip", "-n", hub, "link", "set", port, "master", "br0", "up")
		output(t, "ip", "-n", host, "address", "add", s.ip(i)+"/24", "dev", "eth0")
		output(t, "ip", "-n", host, "link", "set", "eth0", "up")
		output(t, "ip", "-n", host, "route", "add", "default", "dev", "eth0") // where some clients look for multicast
		s.names = append(s.names, host)
	}
	return s
}

// noSegment has no hosts yet.
func noSegment(t testing.TB) *segment {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	need(t, "ip", "nsenter")
	return &segment{t: t, prefix: fmt.Sprintf("tfs-%d-%d", os.Getpid(), segments.Add(1))}
}

// namespace makes a network namespace and returns its name.
func (s *segment) namespace(name string) string {
	s.t.Helper()
	name = s.prefix + "-" + name
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		s.t.Skipf("no network namespaces here: %v: %s", err, out)
	}
	s.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	output(s.t, "ip", "-n", name, "link", "set", "lo", "up")
	return name
}

// ip is the address of a host.
func (s *segment) ip(host int) string { return fmt.Sprintf("10.77.0.%d", host+1) }

// on changes a command so that it runs on a host. Its files, and what it mounts, are everybody's.
func (s *segment) on(host int) func(*exec.Cmd) *exec.Cmd {
	return func(cmd *exec.Cmd) *exec.Cmd {
		args := append([]string{"--net=/run/netns/" + s.names[host], "--", cmd.Path}, cmd.Args[1:]...)
		wrapped := exec.Command("nsenter", args...)
		wrapped.Env, wrapped.Dir = cmd.Env, cmd.Dir
		return wrapped
	}
}

// inside runs f on a host: sockets that it opens there stay there.
func (s *segment) inside(host int, f func() error) {
	s.t.Helper()
	if err := s.enter(host, f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *segment) enter(host int, f func() error) error {
	// The thread has to come back whole: processes that it started, for whatever test, would end with it (Pdeathsig).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	away, err := os.Open("/run/netns/" + s.names[host])
	if err != nil {
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // nothing may run on in the wrong network
	}
	return err
}

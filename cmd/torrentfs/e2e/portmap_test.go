package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPortMapping has a seeder behind a router let in peers from outside, by each protocol that routers speak; the router
// is miniupnpd. With the seeder's end the way in is gone.
func TestPortMapping(t *testing.T) {
	t.Parallel()
	needMount(t)
	for name, speaks := range map[string]string{"NAT-PMP": "enable_natpmp=yes\nenable_upnp=no\n", "UPnP": "enable_natpmp=no\nenable_upnp=yes\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t)
			r.mapPorts(speaks)
			tt := byTransmission(t, write(t, filepath.Join(t.TempDir(), "inside.bin"), noise(72, 1<<20)), making{})
			cacheDir := t.TempDir()
			seed := start(t, r.on(inside)(exec.Command(binary(t), "seed", "--log-level", "debug", "--cache-dir", cacheDir, "--no-lsd",
				"--dht-bootstrap", "203.0.113.1:1", tt.file, tt.folder)))
			for _, protocol := range []string{"TCP", "UDP"} {
				eventually(t, "the router lets peers in by "+protocol, func() bool {
					return seed.ended() || bytes.Contains(seed.stderr(), fmt.Appendf(nil, "protocol=%s by=%s address=9.9.9.9", protocol, name))
				})
			}
			port := strings.TrimSpace(output(t, "cat", filepath.Join(cacheDir, "state", "port")))
			if n := strings.Count(r.rules(), "dnat ip to 192.168.77.2:"+port); n != 2 {
				t.Errorf("the router has %d rules for port %s:\n%s", n, port, r.rules())
			}
			m := startMount(t, r.on(outside), t.TempDir(), tt.file, "--listen", ":0", "--no-portmap", "--peer", "9.9.9.9:"+port)
			output(t, "cmp", tt.original(tt.name), m.path(tt.name))
			m.interrupt()
			seed.signal(syscall.SIGINT)
			if code := seed.exit(); code != 0 {
				t.Errorf("seed: exit code %d", code)
			}
			if rules := r.rules(); strings.Contains(rules, "dnat") {
				t.Errorf("the way in is still there:\n%s", rules)
			}
		})
	}
}

// router is a network of three namespaces: a host inside, a router, and a host outside.
type router struct{ *segment }

const (
	inside = iota
	between
	outside
)

func newRouter(t testing.TB) router {
	t.Helper()
	need(t, "nft")
	r := router{noSegment(t)}
	for _, name := range []string{"in", "router", "out"} {
		r.names = append(r.names, r.namespace(name))
	}
	ip := func(host int, args string) {
		output(t, "ip", append([]string{"-n", r.names[host]}, strings.Fields(args)...)...)
	}
	for _, line := range []struct {
		host            int
		end, ours, ends string
	}{{inside, "lan", "192.168.77.2/24", "192.168.77.1/24"}, {outside, "wan", "9.9.9.1/24", "9.9.9.9/24"}} {
		ip(line.host, "link add eth0 type veth peer name "+line.end+" netns "+r.names[between])
		ip(line.host, "address add "+line.ours+" dev eth0")
		ip(line.host, "link set eth0 up")
		ip(between, "address add "+line.ends+" dev "+line.end)
		ip(between, "link set "+line.end+" up")
	}
	ip(inside, "route add default via 192.168.77.1")
	outputOf(t, r.on(between)(exec.Command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")))
	r.add(`table inet miniupnpd {
	chain forward { type filter hook forward priority 0; }
	chain prerouting { type nat hook prerouting priority -100; }
	chain postrouting {
		type nat hook postrouting priority 100;
		oifname "wan" masquerade
	}
}
`)
	return r
}

// add adds to what the router does with packets, in the words of nft.
func (r router) add(rules string) {
	r.t.Helper()
	outputOf(r.t, r.on(between)(exec.Command("nft", "-f", write(r.t, filepath.Join(r.t.TempDir(), "rules.nft"), []byte(rules)))))
}

// mapPorts has the router map ports for who asks it, by the protocols that miniupnpd's configuration turns on.
func (r router) mapPorts(speaks string) {
	t := r.t
	t.Helper()
	need(t, "miniupnpd")
	dir := t.TempDir()
	config := write(t, filepath.Join(dir, "miniupnpd.conf"), []byte(speaks+`ext_ifname=wan
listening_ip=lan
port=0
http_port=0
secure_mode=yes
uuid=73a9cb68-a00b-4d2f-8412-75dc989f0c6a
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=forward
upnp_nat_chain=prerouting
upnp_nat_postrouting_chain=postrouting
allow 1024-65535 0.0.0.0/0 1024-65535
`))
	p := start(t, r.on(between)(exec.Command("miniupnpd", "-d", "-f", config, "-P", filepath.Join(dir, "pid"))))
	eventually(t, "miniupnpd is up", func() bool { return p.ended() || bytes.Contains(p.stderr(), []byte("istening ")) })
}

// rules are what the router does with packets.
func (r router) rules() string {
	r.t.Helper()
	return outputOf(r.t, r.on(between)(exec.Command("nft", "list", "ruleset")))
}

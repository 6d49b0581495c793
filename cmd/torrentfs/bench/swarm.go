package main

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"torrentfs/fetch/fetchtest"
)

// Peers is a number of seeders behind links of one kind.
type Peers struct {
	N    int
	RTT  time.Duration
	Rate int64 // bytes a second each; 0: unlimited
}

// sendBuffer is a seeder's: as much as its link holds, as TCP would have it, since what is in the socket can't
// be taken back by a cancel. The kernel doubles what it is told.
func (p Peers) sendBuffer() int64 {
	if p.Rate == 0 {
		return 0 // the kernel's choice
	}
	return max(int64(float64(p.Rate)*p.RTT.Seconds()), 32<<10) / 2
}

// A swarm is the other side of one run: a tracker, seeders and what lies before them.
type swarm struct {
	torrent string // path of the .torrent, tracker included
	peers   []netip.AddrPort
	proxies []*fetchtest.Proxy
	seeders *seeders
	stops   []func()
}

//go:embed seed.py
var seedScript string

// newSwarm starts a fresh swarm in dir. Peers without a link announce themselves to a real tracker; those
// behind one can't, since they do not know the address it gives them, so there a handler announces them.
func newSwarm(ctx context.Context, dir string, t *torrent, peers []Peers) (_ *swarm, err error) {
	s := &swarm{torrent: filepath.Join(dir, "torrents", "bench.torrent")}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	bare := filepath.Join(dir, "bare.torrent")
	if err := errors.Join(os.MkdirAll(filepath.Dir(s.torrent), 0o755), t.write(bare, "")); err != nil {
		return nil, err
	}

	shaped, n := false, 0
	cfg := seedConfig{Torrent: bare, Data: t.dir}
	for _, p := range peers {
		n += p.N
		shaped = shaped || p.Rate > 0 || p.RTT > 0
		for range p.N {
			cfg.SendBuffers = append(cfg.SendBuffers, p.sendBuffer())
		}
	}
	tracker := ""
	if !shaped {
		// Each seeder has an address of its own: clients keep one connection to an address.
		for i := range n {
			cfg.Addresses = append(cfg.Addresses, fmt.Sprintf("127.0.1.%d", i+1))
		}
		stop, url, err := openTracker(ctx, dir, t.hash)
		if err != nil {
			return nil, err
		}
		s.stops = append(s.stops, stop)
		tracker = url
		cfg.Trackers = []string{url}
	} else {
		for range n {
			cfg.Addresses = append(cfg.Addresses, "127.0.0.1")
		}
	}

	s.seeders, err = startSeeders(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, s.seeders.stop)

	if !shaped {
		for i, port := range s.seeders.ports {
			s.peers = append(s.peers, netip.AddrPortFrom(netip.MustParseAddr(cfg.Addresses[i]), port))
		}
		return s, t.write(s.torrent, tracker)
	}

	i := 0
	for _, p := range peers {
		for range p.N {
			target := fmt.Sprintf("127.0.0.1:%d", s.seeders.ports[i])
			i++
			proxy, err := fetchtest.Shape(fmt.Sprintf("127.0.1.%d:0", i), target, fetchtest.Link{Delay: p.RTT / 2, Rate: p.Rate})
			if err != nil {
				return nil, err
			}
			s.stops = append(s.stops, func() { proxy.Close() })
			s.proxies = append(s.proxies, proxy)
			s.peers = append(s.peers, netip.MustParseAddrPort(proxy.Addr()))
		}
	}
	stop, url, err := announcer(s.peers)
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, stop)
	return s, t.write(s.torrent, url)
}

// close ends everything newSwarm started, the last first.
func (s *swarm) close() {
	for len(s.stops) > 0 {
		last := len(s.stops) - 1
		s.stops[last]()
		s.stops = s.stops[:last]
	}
}

type seedConfig struct {
	Torrent     string   `json:"torrent"`
	Data        string   `json:"data"`
	Trackers    []string `json:"trackers"`
	Addresses   []string `json:"addresses"`    // of each seeder
	SendBuffers []int64  `json:"send_buffers"` // bytes, likewise
}

// seeders is a process with some libtorrent sessions.
type seeders struct {
	*script
	ports []uint16
}

func startSeeders(ctx context.Context, cfg seedConfig) (*seeders, error) {
	if cfg.Trackers == nil {
		cfg.Trackers = []string{}
	}
	s := &seeders{}
	var err error
	if s.script, err = startScript(ctx, seedScript, cfg, &s.ports); err != nil {
		return nil, fmt.Errorf("the seeders: %w", err)
	}
	return s, nil
}

// sent is the number of payload bytes the seeders sent so far.
func (s *seeders) sent(ctx context.Context) (n int64, err error) {
	return n, s.ask(ctx, "sent", &n)
}

// end ends a process that has nothing to save.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// openTracker starts opentracker for one torrent. Debian's build serves only the info-hashes it is given;
// started by root it changes to nobody and its root directory to the one given.
func openTracker(ctx context.Context, dir string, hash [20]byte) (stop func(), url string, err error) {
	home := filepath.Join(dir, "opentracker")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, "", err
	}
	if err := os.WriteFile(filepath.Join(home, "hashes"), []byte(hex.EncodeToString(hash[:])+"\n"), 0o644); err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command("opentracker", "-i", "127.0.0.1", "-p", port, "-P", port, "-d", home, "-w", "hashes")
	cmd.Dir = home
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	stop = func() { end(cmd) }
	for begin := time.Now(); ; {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return stop, "http://127.0.0.1:" + port + "/announce", nil
		}
		if time.Since(begin) > 5*time.Second || ctx.Err() != nil {
			stop()
			return nil, "", fmt.Errorf("opentracker does not start: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// freePort gives a port that was free a moment ago.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// announcer is a tracker that answers every announce with the same peers.
func announcer(peers []netip.AddrPort) (stop func(), url string, err error) {
	var compact strings.Builder
	for _, p := range peers {
		a := p.Addr().As4()
		compact.Write(append(a[:], byte(p.Port()>>8), byte(p.Port())))
	}
	answer := fmt.Sprintf("d8:completei%de10:incompletei0e8:intervali1800e5:peers%d:%se", len(peers), compact.Len(), compact.String())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })}
	go func() { _ = server.Serve(l) }()
	return func() { server.Close() }, "http://" + l.Addr().String() + "/announce", nil
}

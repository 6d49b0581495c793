package dht

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// trial is how long strangers have to come in before it counts that none did. In the network of the Internet the first
	// come within a minute or two.
	trial = 5 * time.Minute
	// signLasts is how long a sign that we can be reached is good, and nextTrial how long a node is read-only before it is
	// tried anew: a port may be forwarded meanwhile.
	signLasts, nextTrial = time.Hour, time.Hour
	// calledFor is how long we remember at least whom we have sent to: longer than a NAT lets them answer.
	calledFor   = time.Hour
	calledSlots = 1 << 17 // bits of what remembers that
)

// door knows whether strangers get in to the socket of a family. While they don't, the node is read-only (BEP 43). What
// shows that they do is a query of somebody whom we have sent nothing, which a NAT or a firewall would have kept out, or
// the router's word.
type door struct {
	shut   atomic.Bool // the node is read-only
	locked bool        // for good

	mu      sync.Mutex
	until   time.Time // when the latest sign, or the trial, has lost its worth
	peers   time.Time // the same of signs that peers get in, by TCP
	seed    maphash.Seed
	called  [2][]uint64 // origins that we have sent to, by chance a few others too: in this period and the one before
	rotated time.Time
}

func newDoor(locked bool) *door {
	d := &door{locked: locked, seed: maphash.MakeSeed(), rotated: time.Now()}
	for i := range d.called {
		d.called[i] = make([]uint64, calledSlots/64)
	}
	d.shut.Store(locked)
	return d
}

// call notes that something is sent to an address.
func (d *door) call(to netip.Addr, now time.Time) {
	if local(to) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.rotated) >= calledFor {
		d.called[0], d.called[1], d.rotated = d.called[1], d.called[0], now
		clear(d.called[0])
	}
	word, bit := d.slot(to)
	d.called[0][word] |= bit
}

func (d *door) slot(ip netip.Addr) (word int, bit uint64) {
	n := maphash.Comparable(d.seed, origin(ip)) % calledSlots
	return int(n / 64), 1 << (n % 64)
}

// knock notes that a query came in.
func (d *door) knock(from netip.Addr, now time.Time) {
	if local(from) {
		return
	}
	d.mu.Lock()
	word, bit := d.slot(from)
	stranger := (d.called[0][word]|d.called[1][word])&bit == 0
	d.mu.Unlock()
	if stranger {
		d.sign(now)
	}
}

// sign notes that others get in.
func (d *door) sign(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = now.Add(signLasts)
	d.shut.Store(d.locked)
}

// peerSign notes that peers get in.
func (d *door) peerSign(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers = now.Add(signLasts)
}

// look decides again. A node is hidden if it has cause to doubt that it can be reached; as long as it has none, the trial has
// not begun.
func (d *door) look(hidden bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !hidden || now.Sub(d.until) >= nextTrial {
		if end := now.Add(trial); end.After(d.until) {
			d.until = end
		}
	}
	d.shut.Store(d.locked || !now.Before(d.until))
}

// admitsPeers says whether it helps others to be told of our port for peers: there is a sign that they get in, or none yet
// that they don't.
func (d *door) admitsPeers(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.locked && (!d.shut.Load() || now.Before(d.peers))
}

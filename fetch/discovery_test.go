package fetch

import (
	"net/netip"
	"slices"
	"testing"

	"torrentfs/fetch/socket"
	"torrentfs/fetch/swarm"
	"torrentfs/fetch/tracker"
)

// ears is a listener that keeps what it is told.
type ears struct{ heard []netip.AddrPort }

func (e *ears) AddPeers(_ string, addrs []netip.AddrPort) { e.heard = append(e.heard, addrs...) }
func (e *ears) report() tracker.Request                   { return tracker.Request{} }
func (e *ears) short() bool                               { return false }
func (e *ears) completed() <-chan struct{}                { return nil }

func TestShort(t *testing.T) {
	for _, c := range []struct {
		left             int64
		wanted, unchoked int
		want             bool
	}{
		{0, 0, 0, false}, // all is here
		{1, 0, 0, true},  // the next read would wait
		{1, 0, 1, false}, // nobody reads
		{1, 1, 1, true},  // somebody does
		{1, 1, enoughPeers, false},
	} {
		if got := short(swarm.Stats{Left: c.left, Wanted: c.wanted, Unchoked: c.unchoked}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// What a magnet link names leads to no link-local address, what the user names does.
func TestWhereNamedPeersMayBe(t *testing.T) {
	hosts := []string{"169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "0.0.0.0:80", "224.0.0.1:80", "127.0.0.1:6881", "1.2.3.4:6881"}
	for source, want := range map[string]int{byLink: 2, "by hand": len(hosts)} {
		e := new(ears)
		d := &discovery{client: &Client{sockets: new(socket.Opener)}, to: e}
		d.resolve(t.Context(), source, slices.Clone(hosts))
		if len(e.heard) != want {
			t.Errorf("%s: %v", source, e.heard)
		}
	}
}

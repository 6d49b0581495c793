package fetch

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"torrentfs/fetch/reach"
)

// maxLobby is how many peers may be shaking hands with us of their own accord; the torrent is not known before. maxAtDoor is
// how many of them may be of one household.
const (
	maxLobby  = 50
	maxAtDoor = 5
)

var errGaveWay = errors.New("gave way to others that dialled us")

// lobby are the peers that dialled us and are shaking hands. There is always a place for the next one: where there are too
// many, of one household or in all, one gives way that has been there for longest. A handshake takes a round trip or two, so
// who is shut out by that would have to be slower than all those who came after.
type lobby struct {
	mu     sync.Mutex
	guests []*guest // oldest first
}

// guest is one of them.
type guest struct {
	nc     net.Conn
	home   netip.Prefix // not valid on this host
	talked bool         // guarded by the lobby's mutex
}

// enter takes a newcomer in.
func (l *lobby) enter(nc net.Conn) *guest {
	g := &guest{nc: nc}
	if a, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		g.home, _ = reach.Home(a.Addr())
	}
	if out := l.admit(g); out != nil {
		_ = out.nc.Close()
	}
	return g
}

// admit gives a newcomer a place, and returns who gave way for that, nil if nobody had to.
func (l *lobby) admit(g *guest) (out *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	neighbours := func(o *guest) bool { return o.home == g.home }
	switch {
	case g.home.IsValid() && count(l.guests, neighbours) >= maxAtDoor:
		out = l.oldest(neighbours)
	case len(l.guests) >= maxLobby:
		out = l.oldest(func(*guest) bool { return true })
	}
	l.remove(out)
	l.guests = append(l.guests, g)
	return out
}

func count(guests []*guest, which func(*guest) bool) (n int) {
	for _, g := range guests {
		if which(g) {
			n++
		}
	}
	return n
}

// oldest is who has been there for longest without a word, or if all have spoken, for longest. The caller holds mu.
func (l *lobby) oldest(which func(*guest) bool) (oldest *guest) {
	for _, g := range l.guests {
		switch {
		case !which(g):
		case !g.talked:
			return g
		case oldest == nil:
			oldest = g
		}
	}
	return oldest
}

// remove takes a guest out of the list, and reports whether it was there. The caller holds mu.
func (l *lobby) remove(g *guest) bool {
	i := slices.Index(l.guests, g)
	if i >= 0 {
		l.guests = slices.Delete(l.guests, i, i+1)
	}
	return i >= 0
}

// spoke notes that a guest has begun to shake hands.
func (l *lobby) spoke(g *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g.talked = true
}

// leave ends a guest's stay; false if it had to give way, and its connection is closed.
func (l *lobby) leave(g *guest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remove(g)
}

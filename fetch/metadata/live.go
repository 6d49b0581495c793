package metadata

import (
	"net"
	"net/netip"
	"time"

	"torrentfs/fetch/wire"
)

// maxSaid bounds what is kept, in bytes, of what a peer said beside metadata; bitfields of all but the largest torrents fit.
const maxSaid = 256 << 10

// Live is a connection that outlasts the search for metadata. Both sides have shaken hands, with the fast extension (BEP 6)
// and the extension protocol (BEP 10), under the numbers of package wire; we have said that we have no piece.
type Live struct {
	Conn     net.Conn // reading begins with what the peer has said since, without its metadata and peer exchange
	Peer     wire.Handshake
	RTT      time.Duration // of the handshake; 0 when the peer dialled us
	Addr     netip.AddrPort
	Source   string // who named the address
	Incoming bool   // nobody did: the peer dialled us
}

// Live returns the connections that were open when Run ended, each with a peer that may be of use for the content. They are
// the caller's to close from then on.
func (f *Fetcher) Live() []Live {
	f.mu.Lock()
	defer f.mu.Unlock()
	live := f.live
	f.live = nil
	return live
}

// note keeps a message that is not about metadata for whoever takes the connection over.
func (c *conversation) note(m wire.Message) {
	if m.ID == wire.KeepAlive || c.mute {
		return
	}
	if c.said = m.Append(c.said); len(c.said) > maxSaid {
		c.said, c.mute = nil, true
	}
}

// handOver keeps the connection open for the content, unless something said on it is lost; it reports whether.
func (c *conversation) handOver() bool {
	if c.rd == nil || c.mute || c.broken.Load() || c.nc.SetDeadline(time.Time{}) != nil {
		return false
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.live = append(c.f.live, Live{
		Conn: &resumed{Conn: c.nc, said: append(c.said, c.rd.Rest()...)}, Peer: c.peer, RTT: c.rtt,
		Addr: c.s.addr, Source: c.s.named, Incoming: c.s.named == byItself,
	})
	return true
}

// resumed is a connection that is read from an earlier point on.
type resumed struct {
	net.Conn
	said []byte
}

func (r *resumed) Read(p []byte) (int, error) {
	if len(r.said) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.said)
	if r.said = r.said[n:]; len(r.said) == 0 {
		r.said = nil
	}
	return n, nil
}

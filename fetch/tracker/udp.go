package tracker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"torrentfs/fetch/reach"
)

// The UDP tracker protocol (BEP 15). To announce, a client first asks for a connection id, which proves that it
// receives at the address it sends from, and then announces with it. Each request has a random transaction id that
// the reply repeats; a lost one is sent again, ever more patiently.
// The sockets are in session.go.

const (
	protocolMagic = 0x41727101980

	actionConnect  = 0
	actionAnnounce = 1
	actionError    = 3

	udpBaseWait = 15 * time.Second // for a reply; doubled by every further try
	udpLastTry  = 8                // the number of doublings after which to give up
	maxURLData  = 960              // bytes of path and query that are sent along (BEP 41)
)

var errNoReply = errors.New("no reply")

// announceUDP makes one announce to a UDP tracker by one family.
func (c *Client) announceUDP(ctx context.Context, u *url.URL, f family, r Request) (Response, error) {
	if f == either {
		return Response{}, errors.New("UDP trackers can't be reached through a proxy that resolves names")
	}
	port := uint64(80)
	if p := u.Port(); p != "" {
		var err error
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return Response{}, fmt.Errorf("port %q is not a port", clean(p))
		}
	}
	options, err := urlOptions(u)
	if err != nil {
		return Response{}, err
	}
	addrs, err := c.resolve(ctx, u, f, false)
	if err != nil {
		return Response{}, err
	}
	for n := range udpLastTry + 1 {
		addr := netip.AddrPortFrom(addrs[n%len(addrs)], uint16(port))
		resp, err := c.tryUDP(ctx, addr, r, options, udpBaseWait<<n)
		switch {
		case err == nil:
			resp.Peers = sift(resp.Peers, reach.Of(addr.Addr()))
			return resp, nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return Response{}, errNoReply
		case ctx.Err() != nil:
			return Response{}, ctx.Err()
		case !errors.Is(err, errNoReply) && n >= len(addrs)-1:
			return Response{}, err
		}
		// Silence is met with another try, and an address that is plainly dead with the next one.
	}
	return Response{}, errNoReply
}

// tryUDP makes one try at one address: it gets a connection id unless there is one, and announces.
func (c *Client) tryUDP(ctx context.Context, addr netip.AddrPort, r Request, options []byte, wait time.Duration) (Response, error) {
	s, err := c.session(ctx, addr)
	if err != nil {
		return Response{}, err
	}
	defer c.release(s)
	for {
		id, reused, err := s.connect(ctx, wait)
		if err != nil {
			return Response{}, err
		}
		p, err := s.exchange(ctx, announcePacket(id, r, options), wait)
		if err != nil {
			return Response{}, err
		}
		resp, err := parseAnnounce(p, addr.Addr().Is6())
		var refused *RefusedError
		if reused && errors.As(err, &refused) {
			// It may have been the id that was refused.
			s.forget(id)
			continue
		}
		return resp, err
	}
}

// connectPacket is a request for a connection id, without its transaction id.
func connectPacket() []byte {
	p := binary.BigEndian.AppendUint64(make([]byte, 0, 16), protocolMagic)
	p = binary.BigEndian.AppendUint32(p, actionConnect)
	return append(p, 0, 0, 0, 0)
}

// announcePacket is an announce, without its transaction id. Its layout is the same for IPv4 and IPv6.
func announcePacket(id uint64, r Request, options []byte) []byte {
	be := binary.BigEndian
	p := be.AppendUint64(make([]byte, 0, 98+len(options)), id)
	p = be.AppendUint32(p, actionAnnounce)
	p = append(p, 0, 0, 0, 0)
	p = append(p, r.InfoHash[:]...)
	p = append(p, r.PeerID[:]...)
	p = be.AppendUint64(p, uint64(max(r.Downloaded, 0)))
	p = be.AppendUint64(p, uint64(r.left()))
	p = be.AppendUint64(p, uint64(max(r.Uploaded, 0)))
	p = be.AppendUint32(p, r.Event.code())
	p = be.AppendUint32(p, 0) // our address: the one it sees
	p = be.AppendUint32(p, r.Key)
	p = be.AppendUint32(p, uint32(r.numWant()))
	p = be.AppendUint16(p, r.Port)
	return append(p, options...)
}

// urlOptions tells the tracker the path and query of its URL (BEP 41), where there is more than a host.
func urlOptions(u *url.URL) ([]byte, error) {
	data := u.EscapedPath()
	if data == "/" {
		data = ""
	}
	if u.RawQuery != "" {
		data += "?" + u.RawQuery
	}
	if len(data) > maxURLData {
		return nil, fmt.Errorf("path of the tracker's URL is longer than %d bytes", maxURLData)
	}
	const urlData = 2
	var options []byte
	for len(data) > 0 {
		n := min(len(data), 255)
		options = append(options, urlData, byte(n))
		options = append(options, data[:n]...)
		data = data[n:]
	}
	return options, nil
}

// parseConnect reads the reply to a connectPacket, of at least 8 bytes.
func parseConnect(p []byte) (id uint64, err error) {
	if binary.BigEndian.Uint32(p) == actionError {
		return 0, refusal(p)
	}
	if len(p) < 16 {
		return 0, fmt.Errorf("connect reply of %d bytes is too short", len(p))
	}
	return binary.BigEndian.Uint64(p[8:]), nil
}

// parseAnnounce reads the reply to an announcePacket, of at least 8 bytes. The size of its peers is that of the
// family it was asked over.
func parseAnnounce(p []byte, is6 bool) (Response, error) {
	be := binary.BigEndian
	if be.Uint32(p) == actionError {
		return Response{}, refusal(p)
	}
	if len(p) < 20 {
		return Response{}, fmt.Errorf("announce reply of %d bytes is too short", len(p))
	}
	size := compact4
	if is6 {
		size = compact6
	}
	// The numbers are signed on the wire; a negative one is nonsense and counts as none.
	return Response{
		Interval: seconds(int64(int32(be.Uint32(p[8:])))),
		Leechers: count(int64(int32(be.Uint32(p[12:])))),
		Seeders:  count(int64(int32(be.Uint32(p[16:])))),
		Peers:    compactPeers(p[20:], size),
	}, nil
}

func refusal(p []byte) error {
	reason := clean(string(p[8:]))
	if reason == "" {
		reason = "no reason given"
	}
	return &RefusedError{Reason: reason}
}

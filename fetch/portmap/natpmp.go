package portmap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"torrentfs/fetch/socket"
)

// NAT-PMP is 100 lines of our own: the libraries for it open their sockets themselves, past the device or address that
// everything is to go by.

const (
	pmpPort    = 5351
	pmpFirst   = 250 * time.Millisecond // for an answer; doubles with each try (RFC 6886, 3.1)
	pmpTries   = 4
	pmpAddress = 0 // operations
	pmpUDP     = 1
	pmpTCP     = 2
	pmpAnswer  = 128 // added to the operation in answers
)

// natPMP is a router that speaks NAT-PMP.
type natPMP struct {
	sockets *socket.Opener
	router  netip.AddrPort
}

func (*natPMP) String() string { return "NAT-PMP" }

// probe asks whether somebody is there.
func (g *natPMP) probe(ctx context.Context) error {
	_, err := g.ask(ctx, []byte{0, pmpAddress}, 12)
	return err
}

func (g *natPMP) external(ctx context.Context) netip.Addr {
	b, err := g.ask(ctx, []byte{0, pmpAddress}, 12)
	if err != nil {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b[8:]))
}

func (g *natPMP) mapPort(ctx context.Context, m mapping, lease time.Duration) (time.Duration, error) {
	b, err := g.ask(ctx, pmpRequest(m, m.port, lease), 16)
	if err != nil {
		return 0, err
	}
	ours, theirs := binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:])
	granted := time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Second
	switch {
	case ours != m.port || granted == 0:
		return 0, errors.New("its answer makes no sense")
	case theirs != m.port: // nobody would look for us there
		return 0, errors.Join(fmt.Errorf("somebody else has the port: it offers %d", theirs), g.unmap(ctx, m))
	}
	return granted, nil
}

func (g *natPMP) unmap(ctx context.Context, m mapping) error {
	_, err := g.ask(ctx, pmpRequest(m, 0, 0), 16)
	return err
}

// pmpRequest asks for a mapping, or with no time for its end.
func pmpRequest(m mapping, external uint16, lease time.Duration) []byte {
	b := make([]byte, 12)
	b[1] = pmpTCP
	if m.protocol == UDP {
		b[1] = pmpUDP
	}
	binary.BigEndian.PutUint16(b[4:], m.port)
	binary.BigEndian.PutUint16(b[6:], external)
	binary.BigEndian.PutUint32(b[8:], uint32(lease/time.Second))
	return b
}

// ask sends a request until it is answered, and returns the answer, which is at least size bytes long.
func (g *natPMP) ask(ctx context.Context, request []byte, size int) ([]byte, error) {
	c, err := g.sockets.DialContext(ctx, "udp4", g.router.String()) // so that nobody else is heard
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer := make([]byte, 64)
	wait := pmpFirst
	for range pmpTries {
		if _, err = c.Write(request); err != nil {
			return nil, err
		}
		until := time.Now().Add(wait)
		wait *= 2
		for {
			if err := c.SetReadDeadline(until); err != nil {
				return nil, err
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			var n int
			if n, err = c.Read(answer); err != nil {
				break
			}
			if n < 4 || answer[0] != 0 || answer[1] != pmpAnswer+request[1] {
				continue
			}
			if code := binary.BigEndian.Uint16(answer[2:]); code != 0 {
				return nil, fmt.Errorf("it refuses: NAT-PMP result code %d", code)
			}
			if n >= size {
				return answer[:n], nil
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			return nil, err // nobody listens there
		}
	}
	return nil, err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

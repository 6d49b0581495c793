package fetch

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// caller is a connection from some address.
type caller struct {
	net.Conn
	from   string
	closed bool
}

func (c *caller) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}
func (c *caller) Close() error { c.closed = true; return nil }

// TestLobby has peers dial us in some order, and says who of them had to give way: "!" are those that have said something.
func TestLobby(t *testing.T) {
	many := func(n int, format string) (from []string) {
		for i := range n {
			from = append(from, fmt.Sprintf(format, i))
		}
		return from
	}
	for name, c := range map[string]struct {
		from []string
		out  []int
	}{
		"one host":                  {[]string{"6.0.0.1:1", "6.0.0.1:2", "7.0.0.1:1", "6.0.0.1:3", "6.0.0.1:4", "6.0.0.1:5", "6.0.0.1:6", "6.0.0.1:7"}, []int{0, 1}},
		"one host in IPv6":          {many(7, "[2a00::%x:0:0:1]:1"), []int{0, 1}},
		"customers of one provider": {many(7, "[2a00:0:0:%x::1]:1"), nil},
		"those who talk stay":       {append([]string{"!6.0.0.1:1", "!6.0.0.1:2"}, many(5, "6.0.0.1:1%d")...), []int{2, 3}},
		"all talk":                  {many(7, "!6.0.0.1:1%d"), []int{0, 1}},
		"full":                      {append([]string{"!6.0.0.1:1", "7.0.0.1:1"}, many(49, "8.0.%d.1:1")...), []int{1}},
		"full of those who talk":    {many(52, "!8.0.%d.1:1"), []int{0, 1}},
		"on this host":              {many(51, "127.0.0.1:1%d"), []int{0}},
		"as IPv4 in IPv6":           {append(many(3, "6.0.0.1:1%d"), many(3, "[::ffff:6.0.0.1]:1%d")...), []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			var l lobby
			var callers []*caller
			var guests []*guest
			for _, from := range c.from {
				talks := from[0] == '!'
				if talks {
					from = from[1:]
				}
				nc := &caller{from: from}
				g := l.enter(nc)
				if talks {
					l.spoke(g)
				}
				callers, guests = append(callers, nc), append(guests, g)
			}
			var out []int
			for i, nc := range callers {
				if nc.closed {
					out = append(out, i)
				}
				if l.leave(guests[i]) == nc.closed {
					t.Errorf("%d: closed %v", i, nc.closed)
				}
			}
			if fmt.Sprint(out) != fmt.Sprint(c.out) {
				t.Errorf("%v gave way, want %v", out, c.out)
			}
			if len(l.guests) > 0 {
				t.Errorf("%d are still there", len(l.guests))
			}
		})
	}
}

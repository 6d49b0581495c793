package portmap

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"torrentfs/fetch/socket"
)

// routeTable is the kernel's IPv4 routing table.
const routeTable = "/proc/net/route"

// routers are the gateways of the default routes by the interfaces that sockets may use, the best first.
func routers(table string, sockets *socket.Opener) ([]netip.Addr, error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	interfaces, err := sockets.Interfaces()
	if err != nil {
		return nil, err
	}
	usable := make(map[string]bool)
	for _, ifi := range interfaces {
		usable[ifi.Name] = true
	}
	return defaultRouters(f, usable), nil
}

// defaultRouters reads the gateways of default routes from a routing table.
func defaultRouters(table io.Reader, usable map[string]bool) (routers []netip.Addr) {
	type route struct {
		via    netip.Addr
		metric int
	}
	var routes []route
	for in := bufio.NewScanner(table); in.Scan(); {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask ...
		fields := strings.Fields(in.Text())
		if len(fields) < 8 || !usable[fields[0]] || fields[1] != "00000000" || fields[7] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(fields[2])
		metric, bad := strconv.Atoi(fields[6])
		if err != nil || bad != nil || len(b) != 4 {
			continue
		}
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], binary.BigEndian.Uint32(b))
		if via := netip.AddrFrom4(ip); !via.IsUnspecified() {
			routes = append(routes, route{via, metric})
		}
	}
	slices.SortStableFunc(routes, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	for _, r := range routes {
		if !slices.Contains(routers, r.via) {
			routers = append(routers, r.via)
		}
	}
	return routers
}

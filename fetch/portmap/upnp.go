package portmap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"
)

const (
	ssdpPort     = 1900
	ssdpWait     = 2 * time.Second // for routers to answer a search
	maxAnswers   = 16              // looked at of one search
	maxDocument  = 256 << 10       // bytes of a description, or of an answer to a request
	requestLimit = 5 * time.Second
)

var ssdpGroup = netip.MustParseAddr("239.255.255.250")

// search finds a router by UPnP. Asked are whoever hears a multicast, and the router itself; heard are those who are a
// private network away, and they lead to themselves alone.
func (m *Mapper) search(ctx context.Context, router, us netip.Addr) (gateway, error) {
	c, err := m.cfg.Sockets.ListenPacket(ctx, "udp4", ":0")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(ssdpWait)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	sent := 0
	for _, to := range []netip.Addr{ssdpGroup, router} {
		for _, target := range []string{"urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:device:InternetGatewayDevice:2"} {
			if _, err = c.WriteTo(searchFor(target), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, ssdpPort))); err == nil {
				sent++
			}
		}
	}
	if sent == 0 {
		return nil, err
	}
	seen := make(map[string]bool)
	buf := make([]byte, 2048)
	errs := []error{errors.New("no router answers to UPnP")}
	for len(seen) < maxAnswers && ctx.Err() == nil {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			break
		}
		udp, ok := from.(*net.UDPAddr)
		if !ok {
			continue
		}
		location := located(buf[:n], udp.AddrPort().Addr().Unmap())
		if location == nil || seen[location.String()] {
			continue
		}
		seen[location.String()] = true
		g, err := m.describe(ctx, location, us)
		if err == nil {
			return g, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func searchFor(target string) []byte {
	return fmt.Appendf(nil, "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n", target)
}

// located is where the answer to a search says that a description is; nil unless that is who has sent it, in a private
// network.
func located(answer []byte, from netip.Addr) *url.URL {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil {
		return nil
	}
	resp.Body.Close()
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusOK || u.Scheme != "http" || u.User != nil {
		return nil
	}
	if host, err := netip.ParseAddr(u.Hostname()); err != nil || host != from || !from.IsPrivate() {
		return nil
	}
	return u
}

// describe gets a router's description, and returns what of it maps ports.
func (m *Mapper) describe(ctx context.Context, location *url.URL, us netip.Addr) (gateway, error) {
	client := m.only(location.Hostname())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the router's description is not there: status %d", resp.StatusCode)
	}
	services, err := parseDescription(resp.Body, location)
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		s.soap.HTTPClient = client
		if s.external(ctx).IsValid() { // a router may have more than one line, and not all connected
			s.us = us
			return s, nil
		}
	}
	return nil, errors.New("the router is not connected")
}

// parseDescription reads the services that map ports out of a router's description.
func parseDescription(description io.Reader, location *url.URL) (services []*igd, err error) {
	root := new(goupnp.RootDevice)
	decoder := xml.NewDecoder(description)
	decoder.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := decoder.Decode(root); err != nil {
		return nil, errors.New("the router's description can't be understood")
	}
	base := location
	if root.URLBaseStr != "" {
		if base, err = url.Parse(root.URLBaseStr); err != nil {
			return nil, errors.New("the router's description has a base that is no URL")
		}
	}
	root.SetURLBase(base)
	// The errors say that there is no such service.
	v2, _ := internetgateway2.NewWANIPConnection2ClientsFromRootDevice(root, location)
	for _, c := range v2 {
		services = append(services, &igd{wan: c, soap: c.SOAPClient})
	}
	v1, _ := internetgateway2.NewWANIPConnection1ClientsFromRootDevice(root, location)
	for _, c := range v1 {
		services = append(services, &igd{wan: c, soap: c.SOAPClient})
	}
	ppp, _ := internetgateway2.NewWANPPPConnection1ClientsFromRootDevice(root, location)
	for _, c := range ppp {
		services = append(services, &igd{wan: c, soap: c.SOAPClient})
	}
	if len(services) == 0 {
		return nil, errors.New("the router maps no ports")
	}
	return services[:min(len(services), maxAnswers)], nil
}

// only is a client that connects to one host, whatever URLs lead to, and reads so much and no more.
func (m *Mapper) only(host string) http.Client {
	return http.Client{
		Timeout: requestLimit,
		Transport: bounded{&http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if h, _, err := net.SplitHostPort(address); err != nil || h != host {
					return nil, errors.New("the router leads elsewhere")
				}
				return m.cfg.Sockets.DialContext(ctx, network, address)
			},
			DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the router leads elsewhere") },
	}
}

// bounded cuts answers off.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxDocument), resp.Body}
	}
	return resp, err
}

// igd is a router that speaks UPnP.
type igd struct {
	wan  wan
	soap *soap.SOAPClient
	us   netip.Addr
}

// wan is what the kinds of connections of a router have in common.
type wan interface {
	AddPortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string, internalPort uint16,
		internalClient string, enabled bool, description string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string) error
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
}

// The errors of UPnP that have an answer.
const (
	onlyPermanent = 725
	taken         = 718
)

func (*igd) String() string { return "UPnP" }

func (g *igd) external(ctx context.Context) netip.Addr {
	s, err := g.wan.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}
	}
	ip, _ := netip.ParseAddr(strings.TrimSpace(s)) // invalid, too, is what it doesn't know
	return ip
}

func (g *igd) mapPort(ctx context.Context, m mapping, lease time.Duration) (time.Duration, error) {
	add := func(lease time.Duration) error {
		return g.wan.AddPortMappingCtx(ctx, "", m.port, string(m.protocol), m.port, g.us.String(), true, "torrentfs",
			uint32(lease/time.Second))
	}
	err := add(lease)
	if code(err) == onlyPermanent {
		lease, err = 0, add(0)
	}
	if err != nil {
		return 0, refusal(err)
	}
	return lease, nil
}

func (g *igd) unmap(ctx context.Context, m mapping) error {
	return refusal(g.wan.DeletePortMappingCtx(ctx, "", m.port, string(m.protocol)))
}

// code is UPnP's number for an error, 0 for another one.
func code(err error) int {
	var fault *soap.SOAPFaultError
	if errors.As(err, &fault) {
		return fault.Detail.UPnPError.Errorcode
	}
	return 0
}

// refusal words an error without the router's words, which may be long.
func refusal(err error) error {
	switch c := code(err); {
	case err == nil:
		return nil
	case c == taken:
		return errors.New("somebody else has the port: another --listen may help")
	case c != 0:
		return fmt.Errorf("it refuses: UPnP error %d", c)
	}
	return errors.New("it doesn't answer as it should")
}

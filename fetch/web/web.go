// Package web gets .torrent files over HTTP, and keeps strangers' links from reaching where they must not: see package
// reach. It parses nothing of what it gets.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"torrentfs/fetch/reach"
	"torrentfs/fetch/socket"
)

// Trust says who gave a link, which decides where it may lead.
type Trust int

const (
	// Stranger is who wrote a magnet link or a .torrent file: only public addresses are reached.
	Stranger Trust = iota
	// User is who typed the link: the local network is reached too, but not by a redirect from a public host.
	User
)

const (
	limit        = 64 << 20 // bytes of a body, unpacked
	maxRedirects = 5
	timeout      = time.Minute
	dialTimeout  = 15 * time.Second
)

// ErrReach is wrapped by the error of a link that leads where it may not.
var ErrReach = errors.New("address not allowed")

// Client gets files.
type Client struct {
	Sockets   *socket.Opener
	UserAgent string // told to servers
}

// Get returns the body of an http or https link. It follows up to five redirects and refuses a body of more than 64 MiB.
// Through a proxy a name may lead anywhere: what it stands for is not known here.
func (c Client) Get(ctx context.Context, link string, trust Trust) ([]byte, error) {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no http or https link", link)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	g := &guard{trust: trust}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return c.Sockets.DialPermitted(ctx, network, address, g.permit)
		},
		DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}
	client := http.Client{Transport: transport, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.UserAgent)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", u.Host, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if len(body) > limit {
		return nil, fmt.Errorf("%s sends more than %d bytes", u.Host, limit)
	}
	return body, nil
}

// guard checks each address just before it is dialled, so that a name that resolves differently a second time gains
// nothing.
type guard struct {
	trust  Trust
	public atomic.Bool // a public address was dialled: from there on nothing local is
}

func (g *guard) permit(a netip.AddrPort) error {
	switch reach.Of(a.Addr()) {
	case reach.Public:
		g.public.Store(true)
		return nil
	case reach.Local:
		if g.trust == User && !g.public.Load() {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not on the public internet", ErrReach, a.Addr())
}

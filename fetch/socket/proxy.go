package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"

	socks "golang.org/x/net/proxy"
)

// ParseProxy reads what names a proxy: socks5://[user:password@]host:port. The error says what would have been right.
func ParseProxy(s string) (*url.URL, error) {
	const right = "write socks5://host:port or socks5://user:password@host:port"
	u, err := url.Parse(s)
	if err != nil { // its words would hold the password
		return nil, errors.New("it is no URL; " + right)
	}
	// Names are always passed on, which some call socks5h.
	if u.Scheme != "socks5" && u.Scheme != "socks5h" {
		return nil, fmt.Errorf("%q is not a kind of proxy that is known; %s", u.Scheme, right)
	}
	if u.Hostname() == "" {
		return nil, errors.New("it has no host; " + right)
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("%q is not a port; %s", u.Port(), right)
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("there is something after the port; " + right)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		if name := u.User.Username(); name == "" || len(name) > 255 || password == "" || len(password) > 255 {
			return nil, errors.New("a user and a password are 1 to 255 bytes each; " + right)
		}
	}
	return u, nil
}

// proxy is a SOCKS5 proxy (RFC 1928, 1929).
type proxy struct {
	at   string
	to   socks.ContextDialer
	lost atomic.Bool // it could not be reached the last time
	log  *slog.Logger
}

// newProxy returns the proxy at u, which is reached by direct.
func newProxy(u *url.URL, direct dialer, log *slog.Logger) (*proxy, error) {
	p := &proxy{at: u.Host, log: log}
	var auth *socks.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &socks.Auth{User: u.User.Username(), Password: password}
	}
	d, err := socks.SOCKS5("tcp", p.at, auth, dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := direct(ctx, network, address)
		if ctx.Err() == nil {
			p.reached(err)
		}
		return c, err
	}))
	if err != nil {
		return nil, fmt.Errorf("cannot use the proxy %s: %w", p.at, err)
	}
	var ok bool
	if p.to, ok = d.(socks.ContextDialer); !ok {
		return nil, fmt.Errorf("cannot use the proxy %s: it can't be given up waiting for", p.at)
	}
	return p, nil
}

// DialContext connects to address through the proxy.
func (p *proxy) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return p.to.DialContext(ctx, network, address)
}

// reached notes whether the proxy could be reached, and tells of a change.
func (p *proxy) reached(err error) {
	switch {
	case err != nil && !p.lost.Swap(true):
		p.log.Warn("the proxy can't be reached: nothing is sent until it can", "proxy", p.at, "err", err)
	case err == nil && p.lost.Swap(false):
		p.log.Info("the proxy is back", "proxy", p.at)
	}
}

// relayed is a connection through a proxy to whom it was asked for. The kernel knows the proxy alone, which is not to be
// taken for the one peer at the other end of all connections.
type relayed struct {
	net.Conn
	remote net.Addr
}

// RemoteAddr implements net.Conn.
func (c *relayed) RemoteAddr() net.Addr { return c.remote }

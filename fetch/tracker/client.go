package tracker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"torrentfs/fetch/reach"
	"torrentfs/fetch/socket"
)

// ClientOptions says how a Client reaches trackers. The zero value is ready for use.
type ClientOptions struct {
	UserAgent string        // for HTTP trackers; "torrentfs" when empty
	Timeout   time.Duration // of one HTTP announce, redirects and body included; 30 s when 0
	TLS       *tls.Config   // for https trackers; nil verifies against the system's roots

	// MaxConcurrent bounds the announces under way at a time, each of which holds up to two sockets; 256 when 0.
	// Further ones wait their turn.
	MaxConcurrent int

	// DialContext, if not nil, opens the connections to trackers, network being tcp4 or tcp6, or for UDP trackers udp4 or
	// udp6. It gets addresses that are resolved and checked against the rules of reach.go, never names, unless
	// RemoteDNS is set.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// ListenPacket, if not nil, opens the sockets to UDP trackers instead, address being :0.
	ListenPacket func(ctx context.Context, network, address string) (net.PacketConn, error)
	// Lookup, if not nil, resolves names in place of the system's resolver, network being ip4 or ip6.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// RemoteDNS is for a DialContext that is a proxy which resolves names: it then gets names, network being tcp. The
	// rules of reach.go can't be applied to what a name stands for behind a proxy.
	RemoteDNS bool
}

// Client makes announces. It is safe for concurrent use, and one serves a whole process. Close it after use.
type Client struct {
	opt   ClientOptions
	slots chan struct{} // one taken by each announce under way

	running sync.WaitGroup // announces, and readers of UDP sessions

	mu       sync.Mutex
	closed   bool
	cancels  map[*context.CancelFunc]struct{} // of the announces under way
	sessions map[netip.AddrPort]*session      // with UDP trackers, by their address
	lame     map[route]time.Time              // until when a route is left alone, since the other one works
}

// family is one of the two ways to a host. A tracker learns our address and tells us peers by the family it is asked
// over (BEP 7), so a host that has both is asked over both.
type family string

const (
	v4     family = "4"
	v6     family = "6"
	either family = "" // whichever a proxy chooses
)

// route is a host by one family.
type route struct {
	host string
	family
}

const (
	familyGrace = 5 * time.Second  // how much longer the second family may take than the first
	lameTime    = 30 * time.Minute // how long a family that fails while the other works is left alone
	maxLame     = 1000
	maxAddrs    = 4 // addresses tried of one name by one family
)

// errNoAddress is a host that has no address of a family.
var errNoAddress = errors.New("no such address")

// NewClient returns a Client. It opens nothing until the first announce.
func NewClient(opt ClientOptions) *Client {
	opt.UserAgent = cmp.Or(opt.UserAgent, "torrentfs")
	opt.Timeout = cmp.Or(opt.Timeout, 30*time.Second)
	opt.MaxConcurrent = cmp.Or(opt.MaxConcurrent, 256)
	if opt.Lookup == nil {
		opt.Lookup = new(socket.Opener).LookupNetIP
	}
	if opt.DialContext == nil {
		opt.DialContext = new(socket.Opener).DialContext
		opt.RemoteDNS = false
	}
	return &Client{
		opt:      opt,
		slots:    make(chan struct{}, opt.MaxConcurrent),
		cancels:  make(map[*context.CancelFunc]struct{}),
		sessions: make(map[netip.AddrPort]*session),
		lame:     make(map[route]time.Time),
	}
}

// Close ends the announces under way, and returns when they have ended and every socket is closed.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	for cancel := range c.cancels {
		(*cancel)()
	}
	for _, s := range c.sessions {
		s.idle.Stop()
		s.conn.Close()
	}
	c.mu.Unlock()
	c.running.Wait()
}

// Announce makes one announce to the tracker at rawURL, over IPv4 and IPv6 where the tracker has both, and merges
// what they answer; it succeeds if one of them does. It ends when ctx does. A UDP tracker that does not answer is
// asked again for two hours (BEP 15), so give ctx a deadline. The error is a *RefusedError when the tracker answered and
// refused; ErrScheme, ErrReach and ErrClosed can be told apart by errors.Is. Errors name the tracker's host but not
// its path, which may hold a passkey.
func (c *Client) Announce(ctx context.Context, rawURL string, r Request) (Response, error) {
	return c.announce(ctx, rawURL, r, func(Response) {})
}

// announce is Announce, and calls got with each family's answer as soon as it is there.
func (c *Client) announce(ctx context.Context, rawURL string, r Request, got func(Response)) (Response, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return Response{}, err
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return Response{}, err
	}
	defer leave()
	resp, err := c.overFamilies(ctx, u, r, got)
	if err != nil {
		if c.isClosed() {
			err = ErrClosed
		}
		return Response{}, fmt.Errorf("tracker %s: %w", site(u), err)
	}
	return resp, nil
}

// parseURL parses an announce URL and checks that it is one.
func parseURL(rawURL string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(rawURL))
	if err != nil {
		return nil, fmt.Errorf("tracker URL %q can't be parsed", clean(rawURL))
	}
	u.Scheme = strings.ToLower(u.Scheme)
	switch u.Scheme {
	case "http", "https", "udp":
	default:
		return nil, fmt.Errorf("%w: %q", ErrScheme, clean(u.Scheme))
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("tracker URL %q has no host", clean(rawURL))
	}
	return u, nil
}

// site names a tracker in errors and log lines, without its path and query, which may hold a passkey.
func site(u *url.URL) string { return u.Scheme + "://" + clean(u.Host) }

// enter admits one announce: it waits for a slot and returns a context that ends when the client is closed, and what
// to call at the end.
func (c *Client) enter(ctx context.Context) (context.Context, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		cancel()
		return nil, nil, ErrClosed
	}
	c.running.Add(1)
	c.cancels[&cancel] = struct{}{}
	c.mu.Unlock()
	leave := func() {
		cancel()
		c.mu.Lock()
		delete(c.cancels, &cancel)
		c.mu.Unlock()
		c.running.Done()
	}
	select {
	case c.slots <- struct{}{}:
		return ctx, func() { <-c.slots; leave() }, nil
	case <-ctx.Done():
		err := ctx.Err()
		if c.isClosed() {
			err = ErrClosed
		}
		leave()
		return nil, nil, err
	}
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// answer is what came of an announce by one family.
type answer struct {
	family
	Response
	err error
}

// overFamilies announces by each family that the host may have, at once, and merges the answers. The slower one gets
// a short grace after the faster, so that half a network never holds up a tracker that works.
func (c *Client) overFamilies(ctx context.Context, u *url.URL, r Request, got func(Response)) (Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	families := c.families(u.Hostname())
	answers := make(chan answer, len(families))
	for _, f := range families {
		go func() {
			resp, err := c.byScheme(ctx, u, f, r)
			answers <- answer{f, resp, err}
		}()
	}
	var merged Response
	var failed []answer
	grace := time.NewTimer(time.Hour)
	grace.Stop()
	defer grace.Stop()
	for range families {
		var a answer
		select {
		case a = <-answers:
		case <-grace.C:
			cancel()
			a = <-answers
		}
		if a.err != nil {
			failed = append(failed, a)
			continue
		}
		got(a.Response)
		merged = merge(merged, a.Response)
		grace.Reset(familyGrace)
	}
	if len(failed) < len(families) {
		c.setLame(u.Hostname(), failed)
		return merged, nil
	}
	c.clearLame(u.Hostname())
	return Response{}, telling(failed)
}

// byScheme announces by one family.
func (c *Client) byScheme(ctx context.Context, u *url.URL, f family, r Request) (Response, error) {
	if u.Scheme == "udp" {
		return c.announceUDP(ctx, u, f, r)
	}
	return c.announceHTTP(ctx, u, f, r)
}

// families lists the families a host may have, without those known to be lame.
func (c *Client) families(host string) []family {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Unmap().Is4() {
			return []family{v4}
		}
		return []family{v6}
	}
	if c.opt.RemoteDNS {
		return []family{either}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var fs []family
	for _, f := range []family{v4, v6} {
		if until, ok := c.lame[route{host, f}]; !ok || now.After(until) {
			fs = append(fs, f)
		}
	}
	if len(fs) == 0 {
		fs = []family{v4, v6}
	}
	return fs
}

// setLame remembers the families that failed while the other one worked.
func (c *Client) setLame(host string, failed []answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range failed {
		if len(c.lame) >= maxLame {
			clear(c.lame)
		}
		c.lame[route{host, a.family}] = time.Now().Add(lameTime)
	}
}

// clearLame makes the next announce try both families again.
func (c *Client) clearLame(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lame, route{host, v4})
	delete(c.lame, route{host, v6})
}

// merge adds what another family answered: the union of the peers, the more patient of the intervals.
func merge(a, b Response) Response {
	a.Interval = max(a.Interval, b.Interval)
	a.MinInterval = max(a.MinInterval, b.MinInterval)
	a.Peers = sift(append(a.Peers, b.Peers...), reach.Local)
	a.Seeders = max(a.Seeders, b.Seeders)
	a.Leechers = max(a.Leechers, b.Leechers)
	a.Warning = cmp.Or(a.Warning, b.Warning)
	a.TrackerID = cmp.Or(a.TrackerID, b.TrackerID)
	if !a.ExternalIP.IsValid() {
		a.ExternalIP = b.ExternalIP
	}
	return a
}

// telling picks the error that says most about why no family worked: the tracker's own word before a network's
// error, and any of them before the lack of an address.
func telling(failed []answer) error {
	weight := func(err error) int {
		var refused *RefusedError
		switch {
		case errors.As(err, &refused):
			return 3
		case errors.Is(err, ErrReach):
			return 2
		case errors.Is(err, errNoAddress):
			return 0
		}
		return 1
	}
	best := failed[0].err
	for _, a := range failed[1:] {
		if weight(a.err) > weight(best) {
			best = a.err
		}
	}
	return best
}

// resolve returns the addresses of u's host by one family which the rules of reach.go allow. At least one is
// returned, or an error.
func (c *Client) resolve(ctx context.Context, u *url.URL, f family, afterPublic bool) ([]netip.Addr, error) {
	addrs, err := c.lookup(ctx, u.Hostname(), f)
	if err != nil {
		return nil, err
	}
	var allowed []netip.Addr
	var refused error
	for _, a := range addrs {
		a = a.Unmap()
		if a.Is4() != (f == v4) {
			continue
		}
		if err := permit(u, a, afterPublic); err != nil {
			refused = err
		} else if len(allowed) < maxAddrs {
			allowed = append(allowed, a)
		}
	}
	switch {
	case len(allowed) > 0:
		return allowed, nil
	case refused != nil:
		return nil, refused
	}
	return nil, fmt.Errorf("%w: IPv%s of %s", errNoAddress, f, clean(u.Hostname()))
}

// lookup returns the addresses of a host.
func (c *Client) lookup(ctx context.Context, host string, f family) ([]netip.Addr, error) {
	if addrs := literal(host); addrs != nil {
		return addrs, nil
	}
	addrs, err := c.opt.Lookup(ctx, "ip"+string(f), host)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil, fmt.Errorf("%w: IPv%s of %s", errNoAddress, f, clean(host))
	}
	return addrs, err
}

// literal returns the addresses of a host that needs no looking up: one given as an address, or localhost (RFC 6761).
func literal(host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return nil
}

package tracker

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/reach"
)

const (
	maxRedirects = 5
	maxBody      = 1 << 20   // bytes of a reply, packed and unpacked alike
	maxHeader    = 128 << 10 // bytes of reply headers
	dialTimeout  = 10 * time.Second
)

// announceHTTP makes one announce to an HTTP or HTTPS tracker by one family, following redirects.
//
// The exchange is done here rather than by http.Client: an announce is one request on one connection, and this way
// every byte read is counted, no goroutine is left behind, no Referer tells one tracker another's passkey, and the
// address of each hop is checked by its own rules.
func (c *Client) announceHTTP(ctx context.Context, u *url.URL, f family, r Request) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	u = withQuery(u, r)
	afterPublic := false
	for range maxRedirects + 1 {
		page, err := c.get(ctx, u, f, afterPublic)
		if err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return Response{}, fmt.Errorf("no complete answer in time: %w", context.DeadlineExceeded)
			}
			return Response{}, err
		}
		if page.location == "" {
			return page.parse()
		}
		next, err := u.Parse(page.location)
		if err != nil || next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" {
			return Response{}, fmt.Errorf("redirects to what is not an http or https URL: %q", clean(page.location))
		}
		u = next
		afterPublic = afterPublic || page.reach == reach.Public
	}
	return Response{}, fmt.Errorf("more than %d redirects", maxRedirects)
}

// withQuery adds the parameters of an announce to an announce URL, which may have some of its own.
func withQuery(u *url.URL, r Request) *url.URL {
	var q strings.Builder
	add := func(key, value string) {
		if q.Len() > 0 {
			q.WriteByte('&')
		}
		q.WriteString(key + "=" + escape(value))
	}
	add("info_hash", string(r.InfoHash[:]))
	add("peer_id", string(r.PeerID[:]))
	add("port", strconv.Itoa(int(r.Port)))
	add("uploaded", strconv.FormatInt(max(r.Uploaded, 0), 10))
	add("downloaded", strconv.FormatInt(max(r.Downloaded, 0), 10))
	add("left", strconv.FormatInt(r.left(), 10))
	add("compact", "1")
	add("no_peer_id", "1")
	add("numwant", strconv.Itoa(r.numWant()))
	add("key", hex.EncodeToString([]byte{byte(r.Key >> 24), byte(r.Key >> 16), byte(r.Key >> 8), byte(r.Key)}))
	if r.Event != None {
		add("event", r.Event.String())
	}
	if r.TrackerID != "" {
		add("trackerid", r.TrackerID)
	}
	full := *u
	full.Fragment = ""
	full.RawQuery = strings.Trim(u.RawQuery+"&"+q.String(), "&")
	return &full
}

// escape is the escaping of BEP 3: every byte but letters, digits and -._~ as %hh. (url.QueryEscape makes a plus sign
// of a space, which some trackers take for a plus sign.)
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch ch := s[i]; {
		case 'a' <= ch && ch <= 'z', 'A' <= ch && ch <= 'Z', '0' <= ch && ch <= '9', strings.IndexByte("-._~", ch) >= 0:
			b.WriteByte(ch)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[ch>>4])
			b.WriteByte(digits[ch&15])
		}
	}
	return b.String()
}

// page is what one GET brought.
type page struct {
	status   string
	ok       bool   // status 200
	location string // where to go on, for a redirect
	body     []byte
	reach    reach.Class // of the address it came from
}

// get makes one GET on a connection of its own.
func (c *Client) get(ctx context.Context, u *url.URL, f family, afterPublic bool) (page, error) {
	conn, at, err := c.dial(ctx, u, f, afterPublic)
	if err != nil {
		return page{}, err
	}
	defer conn.Close()
	// The end of ctx fails whatever read or write is under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return page{}, errors.New("URL can't be requested")
	}
	req.Close = true
	req.Header.Set("User-Agent", c.opt.UserAgent)
	req.Header.Set("Accept-Encoding", "gzip")
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	if err := req.Write(conn); err != nil {
		return page{}, err
	}
	p, err := readPage(conn, req)
	p.reach = at
	return p, err
}

// readPage reads the answer to a request.
func readPage(r io.Reader, req *http.Request) (page, error) {
	counted := &io.LimitedReader{R: r, N: maxHeader + maxBody}
	in := bufio.NewReader(counted)
	resp, err := http.ReadResponse(in, req)
	for err == nil && resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
		resp, err = http.ReadResponse(in, req)
	}
	var body []byte
	if err == nil {
		body, err = readBody(resp)
		resp.Body.Close()
	}
	switch {
	case counted.N <= 0:
		return page{}, errTooLong
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return page{}, errors.New("connection closed before a complete answer")
	case err != nil:
		return page{}, err
	}
	p := page{status: clean(resp.Status), ok: resp.StatusCode == http.StatusOK, body: body}
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		p.location = resp.Header.Get("Location")
	}
	return p, nil
}

var errTooLong = fmt.Errorf("answer is longer than %d bytes", maxBody)

// readBody reads a body and unpacks it, both within maxBody.
func readBody(resp *http.Response) ([]byte, error) {
	var in io.Reader = resp.Body
	if strings.EqualFold(strings.TrimSpace(resp.Header.Get("Content-Encoding")), "gzip") {
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("answer is not the gzip it claims to be: %w", err)
		}
		in = unpacked
	}
	body, err := io.ReadAll(io.LimitReader(in, maxBody+1))
	if len(body) > maxBody {
		return nil, errTooLong
	}
	return body, err
}

// dial connects to u's host by one family, trying its addresses one after another, with TLS for https. It returns
// how far away the address is.
func (c *Client) dial(ctx context.Context, u *url.URL, f family, afterPublic bool) (net.Conn, reach.Class, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, at, err := c.dialTCP(ctx, u, port, f, afterPublic)
	if err != nil || u.Scheme == "http" {
		return conn, at, err
	}
	cfg := &tls.Config{}
	if c.opt.TLS != nil {
		cfg = c.opt.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = u.Hostname()
	}
	cfg.NextProtos = []string{"http/1.1"}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, 0, err
	}
	return secure, at, nil
}

func (c *Client) dialTCP(ctx context.Context, u *url.URL, port string, f family, afterPublic bool) (net.Conn, reach.Class, error) {
	if f == either {
		// Names are for the proxy to resolve, but what is plain to see is checked here too.
		for _, a := range literal(u.Hostname()) {
			if err := permit(u, a, afterPublic); err != nil {
				return nil, 0, err
			}
		}
		conn, err := c.opt.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
		return conn, reach.Public, err
	}
	addrs, err := c.resolve(ctx, u, f, afterPublic)
	if err != nil {
		return nil, 0, err
	}
	for _, a := range addrs {
		var conn net.Conn
		dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err = c.opt.DialContext(dialCtx, "tcp"+string(f), net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			return conn, reach.Of(a), nil
		}
	}
	return nil, 0, err
}

// reply is the bencoded answer of an HTTP tracker. A value of another type than its field counts as absent.
type reply struct {
	Failure     metainfo.Raw `bencode:"failure reason"`
	RetryIn     any          `bencode:"retry in"`
	Warning     string       `bencode:"warning message"`
	Interval    int64        `bencode:"interval"`
	MinInterval int64        `bencode:"min interval"`
	TrackerID   string       `bencode:"tracker id"`
	Seeders     int64        `bencode:"complete"`
	Leechers    int64        `bencode:"incomplete"`
	Peers       metainfo.Raw `bencode:"peers"`
	Peers6      string       `bencode:"peers6"`
	ExternalIP  string       `bencode:"external ip"`
}

// replyPeer is a peer in a reply whose peers are a list of dictionaries, as BEP 3 has them.
type replyPeer struct {
	IP   string `bencode:"ip"`
	Port uint16 `bencode:"port"`
}

// parse reads the reply off a page. Trackers put refusals on pages of any status, so that is looked at last.
func (p page) parse() (Response, error) {
	resp, err := parseReply(p.body)
	var refused *RefusedError
	switch {
	case err == nil && p.ok:
		resp.Peers = sift(resp.Peers, p.reach)
		return resp, nil
	case errors.As(err, &refused):
		return Response{}, refused
	case !p.ok:
		return Response{}, fmt.Errorf("answered %s", p.status)
	}
	return Response{}, fmt.Errorf("answer is not that of a tracker: %w", err)
}

// parseReply reads the body of an HTTP tracker's reply. It returns a *RefusedError for a refusal.
func parseReply(body []byte) (Response, error) {
	var r reply
	if err := metainfo.Decode(bytes.TrimSpace(body), &r); err != nil {
		return Response{}, err
	}
	if r.Failure != "" {
		var reason string // stays empty if the tracker gave something else than a text
		_ = metainfo.Decode([]byte(r.Failure), &reason)
		return Response{}, &RefusedError{Reason: cmp.Or(clean(reason), "no reason given"), RetryIn: retryIn(r.RetryIn)}
	}
	resp := Response{
		Interval:    seconds(r.Interval),
		MinInterval: seconds(r.MinInterval),
		Peers:       append(replyPeers(r.Peers), compactPeers([]byte(r.Peers6), compact6)...),
		Seeders:     count(r.Seeders),
		Leechers:    count(r.Leechers),
		Warning:     clean(r.Warning),
	}
	if len(r.TrackerID) <= maxID {
		resp.TrackerID = r.TrackerID
	}
	if ip, ok := netip.AddrFromSlice([]byte(r.ExternalIP)); ok {
		resp.ExternalIP = ip.Unmap()
	}
	return resp, nil
}

// replyPeers reads the value of "peers", which is a compact list or one of dictionaries. Of anything else no peer
// comes.
func replyPeers(raw metainfo.Raw) []netip.AddrPort {
	if raw == "" {
		return nil
	}
	var compact string
	if metainfo.Decode([]byte(raw), &compact) == nil {
		return compactPeers([]byte(compact), compact4)
	}
	var list []replyPeer
	if metainfo.Decode([]byte(raw), &list) != nil {
		return nil
	}
	var peers []netip.AddrPort
	for _, p := range list[:min(len(list), maxPeers)] {
		// BEP 3 allows a name for an address. A stranger's choice of name is not looked up.
		if ip, err := netip.ParseAddr(p.IP); err == nil {
			peers = append(peers, netip.AddrPortFrom(ip.Unmap().WithZone(""), p.Port))
		}
	}
	return peers
}

// retryIn reads BEP 31's "retry in": minutes, or the word never.
func retryIn(v any) time.Duration {
	var minutes int64
	switch v := v.(type) {
	case string:
		if v == "never" {
			return Never
		}
		minutes, _ = strconv.ParseInt(v, 10, 64)
	case int64:
		minutes = v
	}
	return seconds(min(max(minutes, 0), int64(maxInterval/time.Minute)) * 60)
}

package metainfo

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxMagnet bounds the length of a magnet link in bytes; one with a hundred trackers has about 5 KiB.
	maxMagnet = 1 << 20
	// maxFileIndex bounds the indices of BEP 53.
	maxFileIndex = 1 << 30
)

// Magnet is what a magnet link says (BEP 9). All but the info-hash is optional.
type Magnet struct {
	InfoHash Hash
	Name     string   // dn, as a safe file name; empty when not given
	Trackers []string // tr
	Peers    []string // x.pe, host:port
	WebSeeds []string // ws (BEP 19)
	Sources  []string // xs and as: where a .torrent file may be had
	Select   []Range  // so (BEP 53); nil means every file
}

// Range is a range of files by their index in the torrent, both ends included (BEP 53).
type Range struct{ First, Last int }

// ParseMagnet reads a magnet link. Parameters that are unknown or make no sense are ignored, as other clients
// do, but a link without a usable info-hash is an error.
func ParseMagnet(s string) (Magnet, error) {
	s = strings.TrimSpace(s)
	const scheme = "magnet:?"
	if len(s) > maxMagnet {
		return Magnet{}, fmt.Errorf("magnet link is larger than %d MiB", maxMagnet>>20)
	}
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return Magnet{}, fmt.Errorf("%.40q is not a magnet link: it does not begin with %q", s, scheme)
	}
	params := splitQuery(s[len(scheme):])
	var m Magnet
	var err error
	if m.InfoHash, err = magnetHash(params["xt"]); err != nil {
		return Magnet{}, err
	}
	for _, dn := range params["dn"] {
		if m.Name == "" && dn != "" {
			m.Name = safeName(dn)
		}
	}
	m.Trackers = urls(params["tr"])
	m.WebSeeds = urls(params["ws"])
	m.Sources = urls(append(params["xs"], params["as"]...))
	m.Peers = peers(params["x.pe"])
	m.Select = ranges(params["so"])
	return m, nil
}

// splitQuery is url.ParseQuery made lenient: a parameter that can't be unescaped is left out, a number after
// a key ("tr.1", for repeated parameters) is taken off, keys are in lower case, and a link copied out of HTML
// with its ampersands escaped works.
func splitQuery(q string) map[string][]string {
	params := make(map[string][]string)
	for param := range strings.SplitSeq(q, "&") {
		key, val, _ := strings.Cut(strings.TrimPrefix(param, "amp;"), "=")
		key = strings.ToLower(key)
		if i := strings.LastIndexByte(key, '.'); i > 0 && strings.Trim(key[i+1:], "0123456789") == "" {
			key = key[:i]
		}
		if val, err := url.QueryUnescape(val); err == nil {
			params[key] = append(params[key], val)
		}
	}
	return params
}

// magnetHash is the version 1 info-hash among the exact topics of a link; the last one, as elsewhere.
func magnetHash(topics []string) (h Hash, err error) {
	err = errors.New("magnet link has no info-hash (xt=urn:btih:...)")
	for _, xt := range slices.Backward(topics) {
		const v1, v2 = "urn:btih:", "urn:btmh:"
		switch {
		case len(xt) > len(v1) && strings.EqualFold(xt[:len(v1)], v1):
			h, hashErr := ParseHash(xt[len(v1):])
			if hashErr == nil {
				return h, nil
			}
			err = fmt.Errorf("magnet link: %w", hashErr)
		case len(xt) > len(v2) && strings.EqualFold(xt[:len(v2)], v2):
			err = errV2Only
		}
	}
	return Hash{}, err
}

// peers keeps what is host:port.
func peers(list []string) []string {
	var kept []string
	for _, s := range list {
		host, port, err := net.SplitHostPort(s)
		if err != nil || !isHost(host) || len(kept) == maxURLs {
			continue
		}
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
			kept = append(kept, net.JoinHostPort(host, strconv.FormatUint(n, 10)))
		}
	}
	return kept
}

// ranges reads lists such as "0,2,4-8".
func ranges(list []string) []Range {
	var kept []Range
	for _, s := range list {
		for part := range strings.SplitSeq(s, ",") {
			first, last, isRange := strings.Cut(part, "-")
			if !isRange {
				last = first
			}
			a, errA := strconv.ParseUint(first, 10, 31)
			b, errB := strconv.ParseUint(last, 10, 31)
			if errA == nil && errB == nil && a <= b && b < maxFileIndex && len(kept) < maxURLs {
				kept = append(kept, Range{int(a), int(b)})
			}
		}
	}
	return kept
}

// String is the magnet link that ParseMagnet reads as m.
func (m Magnet) String() string {
	var b strings.Builder
	b.WriteString("magnet:?xt=urn:btih:" + m.InfoHash.String())
	write := func(key string, values ...string) {
		for _, v := range values {
			// Not every client takes a plus for a space.
			b.WriteString("&" + key + "=" + strings.ReplaceAll(url.QueryEscape(v), "+", "%20"))
		}
	}
	if m.Name != "" {
		write("dn", m.Name)
	}
	write("tr", m.Trackers...)
	write("x.pe", m.Peers...)
	write("ws", m.WebSeeds...)
	write("xs", m.Sources...)
	for i, r := range m.Select {
		sep := ","
		if i == 0 {
			sep = "&so="
		}
		b.WriteString(sep + strconv.Itoa(r.First))
		if r.Last != r.First {
			b.WriteString("-" + strconv.Itoa(r.Last))
		}
	}
	return b.String()
}

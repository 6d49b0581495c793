package tracker

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"torrentfs/fetch/fetchtest/heap"
	"torrentfs/fetch/reach"
)

// sound checks what holds for every response, whatever the tracker sent.
func sound(t *testing.T, resp Response, err error) {
	t.Helper()
	var refused *RefusedError
	if errors.As(err, &refused) && (refused.Reason == "" || refused.RetryIn < 0 || !presentable(refused.Reason)) {
		t.Errorf("failure is %+q", refused)
	}
	if err != nil {
		if len(resp.Peers) > 0 {
			t.Errorf("peers besides an error: %+v", resp)
		}
		return
	}
	for _, d := range []int64{int64(resp.Interval), int64(resp.MinInterval)} {
		if d < 0 || d > int64(maxInterval) {
			t.Errorf("interval out of bounds: %+v", resp)
		}
	}
	if resp.Seeders < 0 || resp.Leechers < 0 || len(resp.TrackerID) > maxID || !presentable(resp.Warning) {
		t.Errorf("out of bounds: %+v", resp)
	}
	if len(resp.Peers) > 2*maxPeers {
		t.Errorf("%d peers", len(resp.Peers))
	}
	seen := make(map[netip.AddrPort]bool)
	for _, p := range sift(resp.Peers, reach.Public) {
		if seen[p] || p.Port() == 0 || p.Addr().Is4In6() || p.Addr().Zone() != "" || p.Addr().IsLoopback() ||
			reach.Of(p.Addr()) == reach.Never || len(seen) == maxPeers {
			t.Errorf("peer %v is not one to connect to", p)
		}
		seen[p] = true
	}
}

// presentable says whether a text was made fit for a log line.
func presentable(s string) bool { return printable(s) && len(s) <= maxText }

// printable says whether a text can be printed on a terminal.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// many is a compact list of so many peers.
func many(n int) string {
	var b []byte
	for i := range n {
		b = append(b, 8, 8, byte(i>>8), byte(i), 0x1a, 0xe1)
	}
	return string(b)
}

func FuzzHTTPReply(f *testing.F) {
	for _, s := range []string{
		"d14:failure reason2:no8:retry in2:15e", "d14:failure reason2:no8:retry ini5ee", "d14:failure reason2:no8:retry inlee",
		says4, says6, "de", "le", "", "i1e", "d14:failure reason3:noe", "d14:failure reason3:no\x1b8:retry in5:nevere",
		"d5:peersld2:ip7:1.2.3.44:porti6881eed2:ip3:::14:porti1eeee", "d5:peersd1:ai1eee", "d5:peersli1e1:alee6:peers6i1ee",
		"d8:intervali9223372036854775807e12:min intervali-1e8:completei-1e10:tracker id1:xe",
		"d15:warning message4:\xff\x00\n 11:external ip4:\x01\x02\x03\x04e",
		fmt.Sprintf("d14:failure reason%d:%se", 2*maxText, strings.Repeat("ä", maxText)),
		fmt.Sprintf("d5:peers%d:%se", 6*(maxPeers+1), many(maxPeers+1)),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if took := heap.Allocated(func() { _, _ = parseReply(body) }); took > 128<<10+512*uint64(len(body)) {
			t.Errorf("%d bytes allocated for %d", took, len(body))
		}
		resp, err := parseReply(body)
		sound(t, resp, err)
	})
}

func FuzzUDPReply(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01abcd\x00\x00\x07\x08\x00\x00\x00\x03\x00\x00\x00\x04\x01\x02\x03\x04\x1a\xe1"), false)
	f.Add([]byte("\x00\x00\x00\x01abcd\x7f\xff\xff\xff\xff\xff\xff\xff\x80\x00\x00\x00"+says6), true)
	f.Add([]byte("\x00\x00\x00\x00abcdconn-id!"), false)
	f.Add([]byte("\x00\x00\x00\x03abcdoverloaded\x1b"), false)
	f.Add([]byte("\x00\x00\x00\x03abcd"), true)
	f.Add([]byte("\x00\x00\x00\x01abc"), false)
	f.Fuzz(func(t *testing.T, p []byte, is6 bool) {
		// As the reader of a session has it: what is shorter goes nowhere, and the rest to whoever waits for it.
		s := &session{waiting: make(map[uint32]waiter)}
		replies := make(chan datagram, 2)
		asked := uint32(actionAnnounce)
		if is6 {
			asked = actionConnect
		}
		s.waiting[binary.BigEndian.Uint32([]byte("abcd"))] = waiter{asked, replies}
		s.handle(p)
		if len(replies) > 0 {
			d := <-replies
			if action := binary.BigEndian.Uint32(d.p); action != asked && action != actionError {
				t.Errorf("passed on action %d", action)
			}
			if !bytes.Equal(d.p[4:8], []byte("abcd")) {
				t.Errorf("passed on another's reply %q", d.p)
			}
		}
		if len(p) < 8 {
			return
		}
		if took := heap.Allocated(func() { _, _ = parseAnnounce(p, is6) }); took > 16<<10+32*uint64(len(p)) {
			t.Errorf("%d bytes allocated for %d", took, len(p))
		}
		resp, err := parseAnnounce(p, is6)
		sound(t, resp, err)
		_, err = parseConnect(p)
		sound(t, Response{}, err)
	})
}

// FuzzCompact checks that compact lists read back as what was written.
func FuzzCompact(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x1a\xe1"), false)
	f.Add(bytes.Repeat([]byte{0x20, 1}, 27), true)
	f.Add([]byte(many(maxPeers+1)), false)
	f.Fuzz(func(t *testing.T, b []byte, is6 bool) {
		size := compact4
		if is6 {
			size = compact6
		}
		peers := compactPeers(b, size)
		if len(peers) != min(len(b)/size, maxPeers) {
			t.Fatalf("%d peers of %d bytes", len(peers), len(b))
		}
		for i, p := range peers {
			a := p.Addr()
			if is6 {
				a = netip.AddrFrom16(a.As16())
			}
			again := binary.BigEndian.AppendUint16(a.AsSlice(), p.Port())
			if !bytes.Equal(again, b[i*size:(i+1)*size]) {
				t.Errorf("%x is read as %v", b[i*size:(i+1)*size], p)
			}
		}
	})
}

// packed is s in gzip.
func packed(s string) string {
	var b strings.Builder
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s) // into memory
	_ = w.Close()
	return b.String()
}

// FuzzPage runs whole HTTP answers, headers and all, through the client.
func FuzzPage(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\n\r\n" + says4,
		"HTTP/1.0 200\r\nContent-Length: 2\r\n\r\nde",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x4b\x49\x05\x00",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nde",
		"HTTP/1.1 200 OK\r\n\r\nd14:failure reason2:noe",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + packed(strings.Repeat("d", maxBody+1)),
		"HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("a", maxHeader+maxBody),
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		var p page
		var err error
		// What is unpacked may be a thousand times what came, but no more than a body may be, twice over while it grows.
		if took := heap.Allocated(func() { p, err = readPage(bytes.NewReader(answer), nil) }); took > 8*maxBody+64*uint64(len(answer)) {
			t.Errorf("%d bytes allocated for %d", took, len(answer))
		}
		if len(p.body) > maxBody {
			t.Errorf("body of %d bytes", len(p.body))
		}
		if err != nil {
			return
		}
		resp, err := p.parse()
		sound(t, resp, err)
	})
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{
		"udp://x:1/", "udp://x:1/" + strings.Repeat("a", maxURLData),
		"http://x/announce", "https://u:p@x:1/a?b#c", "udp://[::1]:80/announce?x", "udp://[fe80::1%25lo]:1", "//x", "http://", "http://%zz",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parseURL(raw)
		if err != nil {
			if !printable(err.Error()) {
				t.Errorf("error is %q", err)
			}
			return
		}
		if !printable(site(u)) {
			t.Errorf("site is %q", site(u))
		}
		q := withQuery(u, sample())
		if got := q.Query().Get("info_hash"); q.Query().Has("info_hash") && len(u.RawQuery) == 0 && len(got) != 20 {
			t.Errorf("info_hash of %d bytes in %s", len(got), q)
		}
		if options, err := urlOptions(u); err == nil && len(options) > maxURLData+2*(maxURLData/255+1) {
			t.Errorf("%d bytes of options", len(options))
		}
	})
}

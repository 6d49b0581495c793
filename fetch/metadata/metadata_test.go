package metadata

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"torrentfs/fetch/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// holder is a peer that answers metadata requests in its own way.
type holder struct {
	size   int64                        // claimed
	answer func(part int) wire.Metadata // nil: says nothing
	pex    []netip.AddrPort             // told at once
	more   []netip.AddrPort             // told right after that
	served chan int                     // the parts it was asked for, if anybody looks
}

// honest is a peer that has the info dictionary.
func honest(info []byte) *holder {
	return &holder{size: int64(len(info)), answer: func(part int) wire.Metadata {
		from := part * wire.MetadataPieceSize
		return wire.Metadata{Type: wire.MetadataData, Piece: part, Size: int64(len(info)),
			Data: info[from:min(from+wire.MetadataPieceSize, len(info))]}
	}}
}

// liar sends bytes of its own making.
func liar(info []byte) *holder {
	wrong := bytes.Repeat([]byte{'x'}, len(info))
	return honest(wrong)
}

// serve lets a holder listen until the test ends.
func serve(t *testing.T, hash [20]byte, h *holder) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			h.talk(nc, hash) // one at a time is enough
			_ = nc.Close()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func (h *holder) talk(nc net.Conn, hash [20]byte) {
	if _, err := wire.ReadHandshake(nc); err != nil {
		return
	}
	h.goOn(nc, holding(hash).Append(nil))
}

// holding is a holder's handshake.
func holding(hash [20]byte) wire.Handshake {
	return wire.Handshake{Features: wire.Features{Extended: true}, InfoHash: hash, PeerID: [20]byte{'h'}}
}

// goOn is what a holder does after the handshakes; b is what it has still to say of its own.
func (h *holder) goOn(nc net.Conn, b []byte) {
	hello := wire.ExtendedHandshake{Messages: map[string]uint8{wire.ExtMetadata: 9}, MetadataSize: h.size}
	b = wire.Message{ID: wire.Bitfield, Data: []byte{0xff}}.Append(b)
	b = wire.Message{ID: wire.Extended, Data: hello.Append(nil)}.Append(b)
	if h.pex != nil {
		b = wire.Message{ID: wire.Extended, Ext: wire.OurPEX, Data: wire.Exchange{Added: h.pex}.Append(nil)}.Append(b)
	}
	if h.more != nil {
		b = wire.Message{ID: wire.Extended, Ext: wire.OurPEX, Data: wire.Exchange{Added: h.more}.Append(nil)}.Append(b)
	}
	if _, err := nc.Write(b); err != nil {
		return
	}
	rd := wire.NewReader(nc, 1<<20)
	for {
		m, err := rd.Next()
		if err != nil {
			return
		}
		if m.ID != wire.Extended || m.Ext != 9 || h.answer == nil {
			continue
		}
		req, err := wire.ParseMetadata(m.Data)
		if err != nil || req.Type != wire.MetadataRequest {
			return
		}
		if h.served != nil {
			h.served <- req.Piece
		}
		if _, err := nc.Write((wire.Message{ID: wire.Extended, Ext: wire.OurMetadata, Data: h.answer(req.Piece).Append(nil)}).Append(nil)); err != nil {
			return
		}
	}
}

func dictionary(n int) []byte {
	info := make([]byte, n)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{}), info)
	return info
}

// run is Run, and closes the connections that it leaves.
func run(ctx context.Context, f *Fetcher) ([]byte, error) {
	info, err := f.Run(ctx)
	for _, l := range f.Live() {
		_ = l.Conn.Close()
	}
	return info, err
}

func fetch(t *testing.T, info []byte, holders ...*holder) *Fetcher {
	t.Helper()
	hash := sha1.Sum(info)
	f := New(Config{InfoHash: hash, PeerID: [20]byte{'n'}, Dial: dialTCP})
	for _, h := range holders {
		f.AddPeers("test", []netip.AddrPort{serve(t, hash, h)})
	}
	return f
}

func mustRun(t *testing.T, f *Fetcher, want []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := run(ctx, f)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v; progress %+v", len(got), err, f.Progress())
	}
}

func TestFetch(t *testing.T) {
	for _, n := range []int{1, wire.MetadataPieceSize - 1, wire.MetadataPieceSize, wire.MetadataPieceSize + 1, 5 << 20} {
		info := dictionary(n)
		mustRun(t, fetch(t, info, honest(info), honest(info)), info)
	}
}

func TestPartsComeFromSeveralPeers(t *testing.T) {
	info := dictionary(2 * wire.MetadataPieceSize)
	a, b := honest(info), honest(info)
	a.served, b.served = make(chan int, 10), make(chan int, 10)
	// Neither answers before both were asked.
	both := make(chan struct{})
	go func() { <-a.served; <-b.served; close(both) }()
	for _, h := range []*holder{a, b} {
		answer := h.answer
		h.answer = func(part int) wire.Metadata { <-both; return answer(part) }
	}
	mustRun(t, fetch(t, info, a, b), info)
}

func TestNineLiarsAndOneHonestPeer(t *testing.T) {
	info := dictionary(100 << 10)
	holders := []*holder{
		liar(info), liar(info), liar(info), liar(info),
		{size: 1 << 40}, // a size that nobody could hold
		{size: 5000, answer: honest(bytes.Repeat([]byte{'y'}, 5000)).answer}, // another size
		{size: int64(len(info))}, // never answers
		{size: int64(len(info)), answer: func(part int) wire.Metadata { return wire.Metadata{Type: wire.MetadataReject, Piece: part} }},
		{size: int64(len(info)), answer: func(part int) wire.Metadata {
			return wire.Metadata{Type: wire.MetadataData, Piece: part, Data: []byte("short")}
		}},
		honest(info),
	}
	mustRun(t, fetch(t, info, holders...), info)
}

func TestPeersTellOfOthers(t *testing.T) {
	info := dictionary(20 << 10)
	knows := &holder{pex: []netip.AddrPort{serve(t, sha1.Sum(info), honest(info))}}
	mustRun(t, fetch(t, info, knows), info)
}

// A peer that tells of others again at once is not listened to a second time.
func TestPeersTellOfOthersSeldom(t *testing.T) {
	info := dictionary(20 << 10)
	knows := honest(info)
	knows.pex, knows.more = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:10")}
	f := fetch(t, info, knows)
	mustRun(t, f, info)
	if named := f.Peers()[byPeers]; !slices.Equal(named, knows.pex) {
		t.Errorf("known are %v, want %v", named, knows.pex)
	}
}

// What peers name fills half of the list at most, and is asked after those that others have named.
func TestHearsayComesLast(t *testing.T) {
	f := New(Config{})
	addrs := func(net byte, n int) (addrs []netip.AddrPort) {
		for i := range n {
			addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{net, 0, byte(i >> 8), byte(i)}), 1))
		}
		return addrs
	}
	f.AddPeers(byPeers, addrs(20, 3*maxKnown))
	f.AddPeers("tracker", addrs(30, 3))
	if n := len(f.Peers()[byPeers]); n != maxHearsay {
		t.Errorf("%d are known by hearsay", n)
	}
	for i := range 4 {
		if s := f.next(); s == nil || (s.named == "tracker") != (i < 3) {
			t.Errorf("number %d is %+v", i, s)
		}
	}
	f.AddPeers("tracker", addrs(40, 3*maxKnown))
	if len(f.known) != maxKnown {
		t.Errorf("%d are known", len(f.known))
	}
}

// A peer out on the Internet names services of this host: nobody knocks there.
func TestPeersCannotNameWhatIsNearer(t *testing.T) {
	info := dictionary(20 << 10)
	hash := sha1.Sum(info)
	var dialled sync.Map
	knows := honest(info)
	knows.pex = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:22"), netip.MustParseAddrPort("169.254.169.254:80"), netip.MustParseAddrPort("[::ffff:127.0.0.1]:22")}
	at := serve(t, hash, knows)
	f := New(Config{InfoHash: hash, PeerID: [20]byte{'n'}, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		dialled.Store(addr, true)
		return new(net.Dialer).DialContext(ctx, "tcp", at.String())
	}})
	f.AddPeers("test", []netip.AddrPort{netip.MustParseAddrPort("60.1.2.3:6881")})
	mustRun(t, f, info)
	if addrs := f.Peers(); len(addrs) != 1 {
		t.Errorf("known are %v", addrs)
	}
	dialled.Range(func(addr, _ any) bool {
		if addr != "60.1.2.3:6881" {
			t.Errorf("dialled %v", addr)
		}
		return true
	})
}

func TestNobodyHasIt(t *testing.T) {
	info := dictionary(20 << 10)
	f := fetch(t, info, &holder{}, liar(info))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if got, err := run(ctx, f); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// TestBoasters has peers that claim sizes that fill all the room there is. One with an info dictionary of the usual size
// is not shut out, whoever comes first.
func TestBoasters(t *testing.T) {
	info := dictionary(40 << 10)
	f := New(Config{InfoHash: sha1.Sum(info), Dial: dialTCP})
	f.mu.Lock()
	var all []*grid
	for i := range int64(4) {
		g := f.newGrid(maxSize - i)
		g.users++
		all = append(all, g)
	}
	data := make([]byte, wire.MetadataPieceSize)
	for part := range maxSize/wire.MetadataPieceSize - 1 {
		for _, g := range all {
			if _, err := f.put(g, part, data); err != nil {
				t.Fatal(err)
			}
		}
		if f.held > maxHeld {
			t.Fatalf("%d bytes are held", f.held)
		}
	}
	f.mu.Unlock()
	f.AddPeers("test", []netip.AddrPort{serve(t, sha1.Sum(info), honest(info))})
	mustRun(t, f, info)
}

// TestDeafPeer has a peer that asks and asks and reads nothing of the answers. Others are served meanwhile.
func TestDeafPeer(t *testing.T) {
	info := dictionary(40 << 10)
	deaf, flooded := net.Pipe()
	defer deaf.Close()
	hash := sha1.Sum(info)
	f := New(Config{InfoHash: hash, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == "192.0.2.1:1" {
			return flooded, nil
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		b := wire.Handshake{Features: wire.Features{Extended: true}, InfoHash: hash, PeerID: [20]byte{'d'}}.Append(nil)
		hello := wire.ExtendedHandshake{Messages: map[string]uint8{wire.ExtMetadata: 9}}
		b = wire.Message{ID: wire.Extended, Data: hello.Append(nil)}.Append(b)
		question := wire.Metadata{Type: wire.MetadataRequest}.Append(nil)
		b = wire.Message{ID: wire.Extended, Ext: wire.OurMetadata, Data: question}.Append(b)
		_, _ = wire.ReadHandshake(deaf)
		_, _ = deaf.Write(b[:wire.HandshakeSize])
		_, _ = wire.NewReader(deaf, 1<<20).Next()
		_, _ = deaf.Write(b[wire.HandshakeSize:])
	}()
	f.AddPeers("test", []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1")})
	ended := make(chan struct{})
	go func() { <-asked; f.AddPeers("test", []netip.AddrPort{serve(t, hash, honest(info))}); close(ended) }()
	mustRun(t, f, info)
	<-ended
}

// TestNoPEX hears nothing of other peers where that is not wanted.
func TestNoPEX(t *testing.T) {
	info := dictionary(20 << 10)
	hash := sha1.Sum(info)
	f := New(Config{InfoHash: hash, NoPEX: true, Dial: dialTCP})
	f.AddPeers("test", []netip.AddrPort{serve(t, hash, &holder{pex: []netip.AddrPort{serve(t, hash, honest(info))}})})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if got, err := run(ctx, f); err == nil {
		t.Fatalf("%d bytes", len(got))
	}
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// TestLiveConnections goes on with the connections where the search left off: what peers said meanwhile is read again, but
// not their metadata, and neither side says a thing twice.
func TestLiveConnections(t *testing.T) {
	info := dictionary(40 << 10)
	f := fetch(t, info, honest(info), &holder{size: int64(len(info))}, liar(info[1:]))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := f.Run(ctx); err != nil || !bytes.Equal(got, info) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	live := f.Live()
	defer func() {
		for _, l := range live {
			_ = l.Conn.Close()
		}
	}()
	if len(live) == 0 || len(f.Live()) != 0 {
		t.Fatalf("%d connections, and then %d", len(live), len(f.Live()))
	}
	for _, l := range live {
		if l.Source != "test" || l.Peer.PeerID[0] != 'h' || !l.Peer.Features.Extended || l.RTT <= 0 || l.Addr.String() != l.Conn.RemoteAddr().String() {
			t.Errorf("%+v", l)
		}
		rd := wire.NewReader(l.Conn, 1<<20)
		for _, want := range []wire.ID{wire.Bitfield, wire.Extended} { // as a holder greets
			m, err := rd.Next()
			if err != nil || m.ID != want || m.Ext != 0 {
				t.Fatalf("%v %d, %v; want %v", m.ID, m.Ext, err, want)
			}
		}
		// And the connection is still good for an answer.
		request := wire.Metadata{Type: wire.MetadataRequest}.Append(nil)
		if _, err := l.Conn.Write(wire.Message{ID: wire.Extended, Ext: 9, Data: request}.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCallers has all peers dial us: some lie, and more than there is room for say nothing.
func TestCallers(t *testing.T) {
	info := dictionary(40 << 10)
	hash := sha1.Sum(info)
	f := New(Config{InfoHash: hash, PeerID: [20]byte{'n'}})
	var wg sync.WaitGroup
	defer wg.Wait()
	call := func(from string, h *holder) {
		near, far := ends(t)
		wg.Go(func() { defer far.Close(); h.goOn(far, nil) })
		f.Accept(near, netip.MustParseAddrPort(from), holding(hash))
	}
	callers := make(chan struct{})
	go func() {
		defer close(callers)
		for i := range 2 * maxCallers {
			call(fmt.Sprintf("20.0.%d.1:1", i), &holder{size: int64(len(info))})
		}
		for i := range 2 * maxAtHome {
			call(fmt.Sprintf("30.0.0.1:%d", 1+i), liar(info))
		}
		call("40.0.0.1:1", honest(info))
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := f.Run(ctx)
	if err != nil || !bytes.Equal(got, info) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	<-callers
	if len(f.Peers()) > 0 || len(f.callers) > 0 || len(f.talks) > 0 {
		t.Errorf("known are %v; %d callers, %d conversations", f.Peers(), len(f.callers), len(f.talks))
	}
	kept := false
	for _, l := range f.Live() {
		kept = kept || l.Addr.String() == "40.0.0.1:1"
		if !l.Incoming || l.RTT != 0 {
			t.Errorf("%+v", l)
		}
		_ = l.Conn.Close()
	}
	if !kept {
		t.Error("the peer that gave it is not kept")
	}
	late, far := ends(t)
	defer far.Close()
	f.Accept(late, netip.MustParseAddrPort("40.0.0.1:2"), holding(hash))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("when it is over: %v", err)
	}
}

// ends are two ends of a connection.
func ends(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err == nil {
		far, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

// TestCallersMakeRoom has peers dial us in some order, and says who of them gives way; "!" are those that have given something.
func TestCallersMakeRoom(t *testing.T) {
	crowd := make([]string, maxCallers+2)
	for i := range crowd {
		crowd[i] = fmt.Sprintf("20.0.%d.1:1", i)
	}
	crowd[0] = "!" + crowd[0]
	for name, c := range map[string]struct {
		from []string
		out  []int
	}{
		"one host":         {[]string{"!6.0.0.1:1", "6.0.0.1:2", "6.0.0.1:3", "6.0.0.1:4", "6.0.0.1:5", "7.0.0.1:1", "6.0.0.1:6"}, []int{1}},
		"one host in IPv6": {[]string{"[2a00::1]:1", "[2a00::2]:1", "[2a00::3]:1", "[2a00::4]:1", "[2a00::5]:1", "[2a00::6]:1"}, []int{0}},
		"all are of use":   {[]string{"!6.0.0.1:1", "!6.0.0.1:2", "!6.0.0.1:3", "!6.0.0.1:4", "!6.0.0.1:5", "6.0.0.1:6"}, []int{5}},
		"many hosts":       {crowd, []int{1, 2}},
	} {
		f := New(Config{})
		var conns []*closing
		var out []int
		for i, from := range c.from {
			conns = append(conns, new(closing))
			o := f.newConversation(&source{addr: netip.MustParseAddrPort(strings.TrimPrefix(from, "!"))}, conns[i])
			o.gave = from[0] == '!'
			if !f.admit(o) {
				out = append(out, i)
			}
		}
		for i, nc := range conns {
			if nc.closed {
				out = append(out, i)
			}
		}
		if !slices.Equal(out, c.out) {
			t.Errorf("%s: %v gave way, want %v", name, out, c.out)
		}
	}
}

// closing is a connection of which only its end matters.
type closing struct {
	net.Conn
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

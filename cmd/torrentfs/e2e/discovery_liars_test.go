package e2e

import (
	"bytes"
	endian "encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestMetadataLiars gets metadata from one honest peer among nine that lie about its size or its content, or keep it to
// themselves. The honest one is heard of last, from a liar.
func TestMetadataLiars(t *testing.T) {
	t.Parallel()
	needMount(t)
	tt := byLibtorrent(t, write(t, filepath.Join(t.TempDir(), "liars.bin"), noise(72, 300_000)), making{
		info: map[string]any{"x-several-parts": strings.Repeat("metadata ", 10_000)},
	})
	honest := seedByLibtorrent(t, tt, seeding{})
	size := int(infoSize(t, tt))
	const most = 64 << 20 // the largest that is believed
	gossip := make(chan struct{})
	var met sync.WaitGroup
	flags := []string{"--no-pex=false"}
	for _, l := range []*liar{
		{size: size, lie: true}, {size: size, lie: true}, {size: size / 2, lie: true}, {size: size}, {size: size, refuse: true},
		{size: most, lie: true}, {size: most - 1, lie: true}, {size: most - 2, lie: true}, {size: most - 3, lie: true},
	} {
		l.hash, l.met, l.gossip, l.honest = tt.hash, &met, gossip, honest.addr()
		met.Add(1)
		flags = append(flags, "--peer", l.listen(t))
	}
	go func() {
		met.Wait()
		close(gossip)
	}()
	m := startMount(t, nil, t.TempDir(), tt.magnet(), flags...)
	output(t, "cmp", tt.original(tt.name), m.path(tt.name))
}

// infoSize is the length in bytes of a torrent's info dictionary, by its .torrent, which has nothing after it.
func infoSize(t testing.TB, tt torrent) int64 {
	t.Helper()
	b := []byte(output(t, "cat", tt.file))
	return int64(len(b) - bytes.Index(b, []byte("4:info")) - len("4:info") - len("e"))
}

// liar is a peer that has no honest word about the metadata, but knows who has.
type liar struct {
	size   int  // of the info dictionary, as it says
	lie    bool // answer with the wrong bytes
	refuse bool // answer with no

	hash, honest string
	once         sync.Once
	met          *sync.WaitGroup // told when somebody has asked for metadata
	gossip       <-chan struct{} // closed when it is time to tell of the honest peer
}

// listen starts the liar and gives its address.
func (l *liar) listen(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var talks sync.WaitGroup
	talks.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			talks.Go(func() {
				defer nc.Close()
				l.talk(nc)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); talks.Wait() })
	return listener.Addr().String()
}

var requested = regexp.MustCompile(`8:msg_typei0e5:piecei(\d+)e`)

// talk goes on until the other side, which it never cuts off, has had enough.
func (l *liar) talk(nc net.Conn) {
	shake := make([]byte, 68)
	if _, err := io.ReadFull(nc, shake); err != nil {
		return
	}
	hash, _ := hex.DecodeString(l.hash)
	copy(shake[20:], "\x00\x00\x00\x00\x00\x10\x00\x00")
	copy(shake[28:], hash)
	copy(shake[48:], "-LI0001-"+nc.LocalAddr().String()+"------------")
	hello := fmt.Sprintf("d1:md11:ut_metadatai1e6:ut_pexi2ee13:metadata_sizei%dee", l.size)
	var mu sync.Mutex
	send := func(ext byte, payload string) {
		mu.Lock()
		defer mu.Unlock()
		b := endian.BigEndian.AppendUint32(nil, uint32(2+len(payload)))
		_, _ = nc.Write(append(append(b, 20, ext), payload...)) // reading tells when it is over
	}
	_, _ = nc.Write(shake)
	send(0, hello)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-l.gossip:
			a := netip.MustParseAddrPort(l.honest)
			send(2, fmt.Sprintf("d5:added6:%s7:added.f1:\x00e", endian.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())))
		case <-over:
		}
	}()
	for {
		var head [4]byte
		if _, err := io.ReadFull(nc, head[:]); err != nil {
			return
		}
		body := make([]byte, endian.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(nc, body); err != nil {
			return
		}
		m := requested.FindSubmatch(body)
		if m == nil {
			continue
		}
		l.once.Do(l.met.Done)
		part, _ := strconv.Atoi(string(m[1]))
		switch {
		case l.refuse:
			send(1, fmt.Sprintf("d8:msg_typei2e5:piecei%dee", part))
		case l.lie:
			send(1, fmt.Sprintf("d8:msg_typei1e5:piecei%de10:total_sizei%dee%s", part, l.size,
				bytes.Repeat([]byte{'x'}, min(16<<10, l.size-part*16<<10))))
		}
	}
}

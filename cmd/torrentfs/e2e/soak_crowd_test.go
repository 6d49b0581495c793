package e2e

import (
	"context"
	"crypto/sha256"
	endian "encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/wire"
)

// How many peers the soak's crowd has, beside libtorrent's, and how many of them are honest.
const (
	crowdSize   = 10
	honestPeers = 5
)

// crowd is the peers of the soak and the tracker that knows them.
type crowd struct {
	t       *testing.T
	content *fetchtest.Content
	sum     [sha256.Size]byte
	torrent torrent
	tracker *httptest.Server
	kinds   []fetchtest.Misdeed

	mu      sync.Mutex
	all     []*guest
	steady  seeder // libtorrent's, at port
	port    int
	next    int // the kind of the next hostile peer
	changes int
}

// guest is a peer of the crowd.
type guest struct {
	*fetchtest.Peer
	kind *fetchtest.Misdeed // nil: honest
}

// newCrowd makes a torrent and its peers.
func newCrowd(t *testing.T, seed uint64) *crowd {
	t.Helper()
	c := &crowd{t: t, content: fetchtest.NewContent(40<<20+777, 128<<10), kinds: fetchtest.Misdeeds()}
	random := rand.New(rand.NewPCG(seed, 1))
	random.Shuffle(len(c.kinds), func(i, j int) { c.kinds[i], c.kinds[j] = c.kinds[j], c.kinds[i] })
	c.sum = sha256.Sum256(c.content.Bytes)
	c.tracker = httptest.NewServer(http.HandlerFunc(c.announce))
	t.Cleanup(c.tracker.Close)
	folder := t.TempDir()
	write(t, filepath.Join(folder, c.content.Name), c.content.Bytes)
	url := c.tracker.URL + "/announce"
	c.torrent = torrent{
		file: write(t, filepath.Join(folder, "soak.torrent"), fmt.Appendf(nil, "d8:announce%d:%s4:info%se", len(url), url, c.content.Info)),
		hash: c.content.InfoHash.String(), folder: folder, name: c.content.Name,
	}
	c.port = freePort(t)
	c.steady = seedByLibtorrent(t, c.torrent, seeding{port: c.port})
	t.Cleanup(func() {
		for _, g := range c.all {
			g.Close()
		}
	})
	c.mu.Lock() // the first to come ask who else is there
	defer c.mu.Unlock()
	for i := range crowdSize {
		g, err := c.invite("127.0.0.1:0", i < honestPeers)
		if err != nil {
			t.Fatal(err)
		}
		c.all = append(c.all, g)
	}
	return c
}

func (c *crowd) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d peers came and went", c.changes)
}

// announce answers as a tracker: everybody who is there now.
func (c *crowd) announce(w http.ResponseWriter, _ *http.Request) {
	var peers []byte
	for _, a := range c.addrs() {
		peers = append(peers, a.Addr().AsSlice()...)
		peers = endian.BigEndian.AppendUint16(peers, a.Port())
	}
	fmt.Fprintf(w, "d8:intervali60e12:min intervali30e5:peers%d:%se", len(peers), peers)
}

// addrs are where the peers are.
func (c *crowd) addrs() []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	addrs := []netip.AddrPort{netip.MustParseAddrPort(c.steady.addr())}
	for _, g := range c.all {
		addrs = append(addrs, g.Addr())
	}
	return addrs
}

// theirs is the number under which the peers of the crowd take metadata messages.
const theirs = 1

// honest is a peer that gives up to a hundred blocks a second, and the metadata, and tells of everybody else.
func (c *crowd) honest() fetchtest.Conduct {
	return fetchtest.Conduct{
		Greet: func(s *fetchtest.Session) error {
			return s.Send(s.Having(), s.Hello(wire.ExtendedHandshake{
				Messages: map[string]uint8{wire.ExtMetadata: theirs}, ReqQ: 250, MetadataSize: int64(len(c.content.Info)),
			}))
		},
		Heed: func(s *fetchtest.Session, m wire.Message) (bool, error) {
			ext := s.Their(wire.ExtMetadata)
			if m.ID != wire.Extended || m.Ext != theirs || ext == 0 {
				return false, nil
			}
			req, err := wire.ParseMetadata(m.Data)
			if err != nil || req.Type != wire.MetadataRequest {
				return true, err
			}
			from := min(req.Piece*wire.MetadataPieceSize, len(c.content.Info))
			part := c.content.Info[from:min(from+wire.MetadataPieceSize, len(c.content.Info))]
			d := wire.Metadata{Type: wire.MetadataData, Piece: req.Piece, Size: int64(len(c.content.Info)), Data: part}
			return true, s.Send(wire.Message{ID: wire.Extended, Ext: ext, Data: d.Append(nil)})
		},
		Answer: func(s *fetchtest.Session, req wire.Message) error {
			if err := s.Pause(10 * time.Millisecond); err != nil {
				return err
			}
			return s.Answer(req)
		},
		Beside: func(s *fetchtest.Session) error {
			for {
				if ext := s.Their(wire.ExtPEX); ext != 0 {
					e := wire.Exchange{Added: c.addrs()}
					if err := s.Send(wire.Message{ID: wire.Extended, Ext: ext, Data: e.Append(nil)}); err != nil {
						return err
					}
				}
				if err := s.Pause(3 * time.Second); err != nil {
					return err
				}
			}
		},
	}
}

// invite starts a peer at an address: an honest one, or of the next kind that is not.
func (c *crowd) invite(at string, honest bool) (*guest, error) {
	l, err := net.Listen("tcp", at)
	if err != nil { // the port has been taken meanwhile
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	g, conduct := new(guest), c.honest()
	if !honest {
		g.kind = &c.kinds[c.next%len(c.kinds)]
		conduct = g.kind.Conduct()
		c.next++
	}
	g.Peer = fetchtest.NewPeer(c.content, l, conduct)
	return g, nil
}

// calm has nobody but honest peers be there; rouse has as many hostile ones come as there were.
func (c *crowd) calm()  { c.others(true) }
func (c *crowd) rouse() { c.others(false) }

func (c *crowd) others(honest bool) {
	c.t.Helper()
	for i := honestPeers; i < crowdSize; i++ {
		if err := c.replace(i, "127.0.0.1:0", honest); err != nil {
			c.t.Error(err)
		}
	}
}

// replace has a peer leave and another come.
func (c *crowd) replace(i int, at string, honest bool) error {
	c.mu.Lock()
	old := c.all[i]
	c.mu.Unlock()
	old.Close() // which waits for its goroutines, and those may want the addresses
	c.mu.Lock()
	defer c.mu.Unlock()
	g, err := c.invite(at, honest)
	if err == nil {
		c.all[i] = g
		c.changes++
	}
	return err
}

// restart kills libtorrent and starts it again.
func (c *crowd) restart() {
	c.steady.kill()
	again := seedByLibtorrent(c.t, c.torrent, seeding{port: c.port})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steady = again
	c.changes++
}

// churn has something happen to a peer: it dies and another comes, it dies and comes back, or loses its connections.
func (c *crowd) churn(ctx context.Context, random *rand.Rand) error {
	select {
	case <-time.After(time.Duration(random.Int64N(int64(time.Second)))):
	case <-ctx.Done():
		return nil
	}
	c.mu.Lock()
	i := random.IntN(len(c.all))
	g := c.all[i]
	c.mu.Unlock()
	switch random.IntN(3) {
	case 0:
		g.Drop()
		return nil
	case 1:
		return c.replace(i, g.Addr().String(), i < honestPeers)
	default:
		return c.replace(i, "127.0.0.1:0", i < honestPeers)
	}
}

// Package peer is one connection to one peer: the handshake, a reader goroutine that checks what comes and puts blocks
// where they belong, and a writer goroutine that coalesces what goes out and serves the peer's requests. It has no
// opinion about which piece is wanted or who is served: package swarm decides, through Request, Cancel and Unchoke, and
// learns what happened from batches of items on a channel.
package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"torrentfs/fetch/wire"
)

// Sink takes the blocks of one piece. Put copies a whole block that begins at begin (bytes into the piece) and reports
// whether it was still wanted: false for a second copy, or a piece that was given up. It never blocks for long and is
// safe for several connections at once.
type Sink interface {
	Put(begin uint32, block []byte) bool
}

// Source gives verified bytes for upload.
type Source interface {
	// AppendBlock appends length bytes of a piece, from begin on, to dst. They are within the piece. It returns dst as it
	// was, and false, when the piece is not there. It may read a disk, but keeps no piece in memory for it.
	AppendBlock(dst []byte, piece int, begin, length uint32) (_ []byte, ok bool)
}

// Pacer bounds the rate of what is sent, over all connections. Only blocks wait for it; the rest is charged when it is sent.
type Pacer interface {
	// Reserve charges n bytes of blocks and says when to send them: evenly from the one time until the other.
	Reserve(n int) (from, until time.Time)
	// Reserved says that n bytes are sent now that were charged when they were reserved.
	Reserved(n int)
	// Return takes n bytes back that were reserved and will not be sent.
	Return(n int)
}

// Torrent is what a connection must know of its torrent and its own side; it is shared by all connections of a torrent
// and never changes while one is open.
type Torrent struct {
	InfoHash    [20]byte
	PeerID      [20]byte
	Pieces      int    // number of pieces; bounds bitfields and indices
	PieceLength int64  // bytes of a piece but the last
	Length      int64  // bytes of all pieces
	Source      Source // nil: nothing is uploaded
	Pace        Pacer  // nil: no limit
	Info        []byte // the info dictionary, for peers that ask for it (BEP 9)
	DHTPort     uint16 // of our DHT node, told to peers that have one (BEP 5); 0: none
	Hello       wire.ExtendedHandshake
	Events      chan<- *Batch   // where batches go
	Done        <-chan struct{} // closed when nobody reads Events any more
}

// Item is one thing that happened: a message of the peer's, or a block that was put in its place.
type Item struct {
	ID     wire.ID
	Ext    uint8
	Asked  bool   // Piece: the block was asked for
	Stored Sink   // Piece: the sink that took the block; nil if none did
	Index  uint32 // as in wire.Message
	Begin  uint32
	Length uint32
	Data   []byte // Bitfield, Extended: a copy; nil for Piece
}

// Batch is what a connection's reader found in one go, in order. The last batch of a connection has Err set; both of its
// goroutines have ended by then.
type Batch struct {
	Conn  *Conn
	At    time.Time
	Items []Item
	Err   error
}

var batches = sync.Pool{New: func() any { return new(Batch) }}

// Recycle gives the batch back; its items must not be used after.
func (b *Batch) Recycle() {
	clear(b.Items)
	*b = Batch{Items: b.Items[:0]}
	batches.Put(b)
}

// Conn is a connection after its handshake. Its methods never block and may be called from one goroutine at a time with
// respect to each other (the swarm's loop), beside the connection's own two.
type Conn struct {
	// Written once, before Start.
	nc       net.Conn
	torrent  *Torrent
	id       [20]byte
	features wire.Features
	incoming bool
	resumed  bool          // it has greeted already, with no piece
	rtt      time.Duration // of the handshake; 0 unknown

	once sync.Once
	done chan struct{} // closed by Close
	wake chan struct{} // capacity 1: the writer has something to look at

	uploaded atomic.Int64 // bytes of blocks sent
	refused  atomic.Int64 // requests rejected by the writer, for the reader to count

	mu       sync.Mutex // guards what follows; never held over I/O or a send
	out      []byte     // messages to be written
	maxOut   int        // bytes that may wait there
	pending  map[uint64]request
	given    []uint64       // the keys of requests given up, oldest first; some have been answered or renewed since
	serve    []wire.Message // the peer's requests, to be answered in order; Extended stands for a piece of metadata
	metadata int            // pieces of metadata queued so far
	unchoked bool           // we serve the peer
	closeErr error
}

// request is a block that we asked for and that has not come.
type request struct {
	sink      Sink
	length    uint32
	cancelled bool // given up by the swarm; if it comes after all it is still offered to its sink
}

const (
	// ReqQ is how many requests of a peer's we queue, as our extension handshake says.
	ReqQ = 500
	// maxOut bounds the bytes waiting for a peer that does not read, beside the bitfield.
	maxOut = 256 << 10
	// maxGiven is how many requests that were given up are remembered; later blocks are no longer known as asked for.
	maxGiven = 2048
	// maxServed is the longest block that we serve; requests beyond it are refused.
	maxServed = 128 << 10
	// maxMessage bounds the messages of a peer's, but for a bitfield that needs more.
	maxMessage   = maxServed + wire.PieceHeaderSize
	maxItems     = 256 // of a batch
	keepAlive    = 100 * time.Second
	idleTimeout  = 4 * time.Minute // the BEP's two minutes, twice
	writeTimeout = time.Minute
)

func newConn(nc net.Conn, t *Torrent, theirs wire.Handshake) *Conn {
	return &Conn{
		nc: nc, torrent: t, id: theirs.PeerID, features: theirs.Features,
		done: make(chan struct{}), wake: make(chan struct{}, 1), pending: make(map[uint64]request), maxOut: maxOut,
	}
}

// Start begins the exchange: it says which pieces we have (bits as in BEP 3, nil for none), and starts the reader and the
// writer. wg is told of both.
func (c *Conn) Start(have []byte, wg *sync.WaitGroup) {
	var b []byte
	switch {
	case c.resumed:
		b = haves(have, c.torrent.Pieces)
	case have == nil && c.features.Fast:
		b = wire.Message{ID: wire.HaveNone}.Append(b)
	case have != nil && c.features.Fast && wire.Full(have, c.torrent.Pieces):
		b = wire.Message{ID: wire.HaveAll}.Append(b)
	case have != nil:
		b = wire.Message{ID: wire.Bitfield, Data: have}.Append(b)
	}
	if c.features.Extended {
		b = wire.Message{ID: wire.Extended, Data: c.torrent.Hello.Append(nil)}.Append(b)
	}
	if c.features.DHT && c.torrent.DHTPort != 0 {
		b = wire.Message{ID: wire.Port, Index: uint32(c.torrent.DHTPort)}.Append(b)
	}
	c.out, c.maxOut = b, maxOut+len(b)
	c.poke()
	writerDone := make(chan struct{})
	wg.Add(2)
	go func() {
		defer wg.Done()
		defer close(writerDone)
		c.fail(c.write())
	}()
	go func() {
		defer wg.Done()
		c.fail(c.read())
		<-writerDone
		b := batches.Get().(*Batch)
		b.Conn, b.At, b.Err = c, time.Now(), c.err()
		c.post(b)
	}()
}

// haves are the messages that say of each piece that we have it.
func haves(bits []byte, n int) (b []byte) {
	for i := range n {
		if bits != nil && wire.HasBit(bits, i) {
			b = wire.Message{ID: wire.Have, Index: uint32(i)}.Append(b)
		}
	}
	return b
}

// post hands a batch to the swarm.
func (c *Conn) post(b *Batch) {
	select {
	case c.torrent.Events <- b:
	case <-c.torrent.Done:
	}
}

// ErrClosed is the error of a connection that our side closed.
var ErrClosed = errors.New("closed by us")

// Close ends the connection; the last batch follows.
func (c *Conn) Close() { c.fail(ErrClosed) }

// fail ends the connection for a reason; the first one counts.
func (c *Conn) fail(err error) {
	c.once.Do(func() {
		c.mu.Lock()
		c.closeErr = err
		c.mu.Unlock()
		close(c.done)
		_ = c.nc.Close()
	})
}

func (c *Conn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeErr
}

// Addr is the peer's address.
func (c *Conn) Addr() netip.AddrPort {
	a, _ := netip.ParseAddrPort(c.nc.RemoteAddr().String())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// ID is the peer id of the peer's handshake.
func (c *Conn) ID() [20]byte { return c.id }

// Features are the extensions that the peer announced in its handshake.
func (c *Conn) Features() wire.Features { return c.features }

// Incoming reports whether the peer dialled us.
func (c *Conn) Incoming() bool { return c.incoming }

// RTT is the round trip that the handshake took; 0 when the peer dialled us.
func (c *Conn) RTT() time.Duration { return c.rtt }

// Uploaded is the number of bytes of blocks sent to the peer.
func (c *Conn) Uploaded() int64 { return c.uploaded.Load() }

func (c *Conn) String() string { return c.nc.RemoteAddr().String() }

func key(index, begin uint32) uint64 { return uint64(index)<<32 | uint64(begin) }

// Request asks for a block of length bytes, to be put into sink when it comes.
func (c *Conn) Request(index, begin, length uint32, sink Sink) {
	c.mu.Lock()
	c.pending[key(index, begin)] = request{sink: sink, length: length}
	c.mu.Unlock()
	c.Send(wire.Message{ID: wire.Request, Index: index, Begin: begin, Length: length})
}

// Cancel takes a request back. The block may come all the same.
func (c *Conn) Cancel(index, begin uint32) {
	c.mu.Lock()
	defer c.unlock()
	k := key(index, begin)
	if r, ok := c.pending[k]; ok {
		c.giveUp(k, r)
		c.out = wire.Message{ID: wire.Cancel, Index: index, Begin: begin, Length: r.length}.Append(c.out)
	}
}

// giveUp notes that a request need not be answered any more. Many peers don't say whether they will, so only so many of
// these are remembered. The caller holds mu.
func (c *Conn) giveUp(k uint64, r request) {
	r.cancelled = true
	c.pending[k] = r
	if c.given = append(c.given, k); len(c.given) > maxGiven {
		if c.pending[c.given[0]].cancelled {
			delete(c.pending, c.given[0])
		}
		c.given = append(c.given[:0], c.given[1:]...)
	}
}

// Send queues a message. A peer that does not read while a quarter of a mebibyte waits for it is closed.
func (c *Conn) Send(m wire.Message) {
	c.mu.Lock()
	defer c.unlock()
	c.out = m.Append(c.out)
}

// unlock releases mu after a change to what is to be written, which the writer is told of.
func (c *Conn) unlock() {
	over := len(c.out) > c.maxOut
	c.mu.Unlock()
	if over {
		c.fail(errDeaf)
		return
	}
	c.poke()
}

var errDeaf = errors.New("the peer does not read what it is sent")

// poke wakes the writer.
func (c *Conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Unchoke lets the peer's requests be served, or with false ends that; what is queued is then rejected.
func (c *Conn) Unchoke(yes bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.unchoked == yes {
		return
	}
	c.unchoked = yes
	if yes {
		c.out = wire.Message{ID: wire.Unchoke}.Append(c.out)
		return
	}
	c.out = wire.Message{ID: wire.Choke}.Append(c.out)
	kept := c.serve[:0]
	for _, r := range c.serve {
		if r.ID == wire.Extended {
			kept = append(kept, r)
		} else {
			c.reject(r)
		}
	}
	c.serve = kept
}

// SendMetadata queues the answer to a request for a piece of the info dictionary (BEP 9); ext is the number under which the
// peer takes the message. What is not there is rejected, and so is whatever a peer asks for that has had it all twice.
func (c *Conn) SendMetadata(ext uint8, piece int) {
	c.mu.Lock()
	defer c.unlock()
	n := (len(c.torrent.Info) + wire.MetadataPieceSize - 1) / wire.MetadataPieceSize
	if piece < 0 || piece >= n || c.metadata >= 2*n || len(c.serve) >= ReqQ {
		no := wire.Metadata{Type: wire.MetadataReject, Piece: piece}
		c.out = wire.Message{ID: wire.Extended, Ext: ext, Data: no.Append(nil)}.Append(c.out)
		return
	}
	c.metadata++
	c.serve = append(c.serve, wire.Message{ID: wire.Extended, Ext: ext, Index: uint32(piece)})
}

// reject answers a request with no (BEP 6), where the peer understands it. The caller holds mu.
func (c *Conn) reject(r wire.Message) {
	if c.features.Fast {
		r.ID = wire.Reject
		c.out = r.Append(c.out)
	}
}

// violation is an error that says what rule the peer broke.
func violation(format string, args ...any) error {
	return fmt.Errorf("protocol violation: "+format, args...)
}

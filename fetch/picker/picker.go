// Package picker answers one question: which block is asked of which peer next? It is pure: plain integers, bitfields and
// times that its caller gives it, no net, no clock, no channel, no mutex, so that a table or a simulation can drive it
// through hours of swarm in milliseconds. It owns the state of blocks and what is believed about peers' speed; it never
// owns a connection or a byte of content.
//
// The order of work is the order in which readers need it: class first, then deadline. Within that order a block goes to
// the peer that is predicted to deliver it first (earliest finish). So an urgent piece is striped over many peers, and a
// slow peer works deep in the window, on blocks that the others could not deliver before it, and never gates the head.
package picker

import "time"

// BlockSize is the size of a block in bytes; only a piece's last one may be shorter.
const BlockSize = 16 << 10

// Class says how urgent a piece is; a lower one always comes first.
type Class uint8

// The classes of pieces.
const (
	Blocked     Class = iota // a reader waits for it
	Ahead                    // a reader will come to it by its deadline
	Speculative              // a guess (a media file's head and tail)
	Background               // wanted some time
)

// Request is a block and the peer that it is asked of, or taken back from.
type Request struct {
	Peer   int
	Piece  int
	Begin  int64 // bytes into the piece
	Length int64 // bytes
}

// Picker is the state of one torrent's active pieces and its peers.
type Picker struct {
	pieceLength int64
	length      int64

	peers  []*peer // in the order they came; a slice, so that equal inputs give equal outputs
	byID   map[int]*peer
	pieces map[int]*piece
	order  queue         // all active pieces
	open   queue         // those of them with free blocks
	free   int           // blocks of active pieces neither here nor in flight
	dryAt  time.Duration // when there was last nothing to ask for

	claims     map[int]*claim // by piece
	neighbours int            // peers that claim
	gained     bool           // one of them has a piece now that we have begun
	vain       int            // their claims that came to nothing, less those that came true
	salt       uint64
	coming     coming
	line       line
	typical    typical
	outlook    outlook
	hedges     bucket
	hedgeAt    time.Duration // when blocks that a reader waits for should next be looked at; 0: at once
	stallAt    time.Duration // no peer is silent for too long before; 0: none has anything to deliver
	unused     []*flight     // for reuse
	spare      []block       // for reuse
	requests   []Request
	cancels    []Request
	cancelled  []Request // the cancels of the last Step
}

// New makes a picker for a torrent of length bytes in pieces of pieceLength bytes.
func New(length, pieceLength int64) *Picker {
	return &Picker{
		pieceLength: pieceLength, length: length,
		byID: make(map[int]*peer), pieces: make(map[int]*piece), claims: make(map[int]*claim),
		hedges: newBucket(), line: newLine(), typical: typical{rate: guessedRate},
	}
}

// Step decides everything that is to be decided now: late peers lose their blocks, free blocks are given out, blocks that
// readers wait for are hedged. It returns the requests to send, those to cancel, and when to call again if nothing happens
// until then (0: no need). The cancels come first: a block may be cancelled and asked for again. The slices are good until
// the next Step.
func (p *Picker) Step(now time.Duration) (requests, cancels []Request, wake time.Duration) {
	p.requests = p.requests[:0]
	p.typical.update(p.peers, now)
	p.expire(now)
	p.spareSeeds(now)
	wake = p.fill(now)
	wake = earlier(wake, p.hedge(now))
	wake = earlier(wake, p.stallAt)
	p.cancels, p.cancelled = p.cancelled[:0], p.cancels
	return p.requests, p.cancelled, wake
}

// earlier is the earlier of two times of which zero means never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

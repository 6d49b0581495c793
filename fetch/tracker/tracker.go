// Package tracker asks trackers for peers: HTTP announces (BEP 3, 7, 23), UDP announces (BEP 15, 41), and the
// schedule that keeps one torrent announced to its tiers (BEP 12). It owns sockets to trackers and nothing else: it
// never connects to a peer, and what it returns is a stranger's claim about where peers are.
//
// A Client makes single announces; an Announcer keeps a torrent announced through a Client; a Server is a small
// tracker of our own for the demo and for tests.
package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Event tells a tracker why it hears from us (BEP 3).
type Event int

// The events of BEP 3. None is a regular announce.
const (
	None Event = iota
	Started
	Stopped
	Completed
)

// String is the word an HTTP tracker wants; it is empty for None.
func (e Event) String() string {
	switch e {
	case Started:
		return "started"
	case Stopped:
		return "stopped"
	case Completed:
		return "completed"
	}
	return ""
}

// code is the number a UDP tracker wants (BEP 15).
func (e Event) code() uint32 {
	switch e {
	case Started:
		return 2
	case Stopped:
		return 3
	case Completed:
		return 1
	}
	return 0
}

// LeftUnknown is the Left of a torrent whose size is not known yet, as with a magnet link being resolved.
const LeftUnknown = -1

// DefaultNumWant is how many peers are asked for when a Request does not say.
const DefaultNumWant = 200

// Request is what one announce tells a tracker.
type Request struct {
	InfoHash, PeerID [20]byte
	Port             uint16 // the port we accept peers on
	Uploaded         int64  // bytes since Started
	Downloaded       int64  // bytes since Started
	Left             int64  // bytes still to get, or LeftUnknown
	Event            Event
	NumWant          int    // peers wanted; 0 means DefaultNumWant, negative none. Stopped always asks for none.
	Key              uint32 // the same for a whole session, so that a tracker knows us after a change of address
	TrackerID        string // the Response.TrackerID this tracker gave before
}

// left is the number sent for Left. Some trackers give no peers to one who claims a negative or absurd size, so an
// unknown one is stated as a single block.
func (r Request) left() int64 {
	if r.Left < 0 {
		return 16 << 10
	}
	return r.Left
}

// numWant is the number sent for NumWant.
func (r Request) numWant() int {
	switch {
	case r.Event == Stopped || r.NumWant < 0:
		return 0
	case r.NumWant == 0:
		return DefaultNumWant
	}
	return min(r.NumWant, maxPeers)
}

// Response is what a tracker answered. Durations and counts are zero where the tracker did not give them or gave
// nonsense; texts are cleaned for a terminal and cut to a sane length.
type Response struct {
	Interval    time.Duration // wait this long before the next regular announce
	MinInterval time.Duration // never announce more often than this
	Peers       []netip.AddrPort
	Seeders     int
	Leechers    int
	Warning     string
	TrackerID   string     // to be sent back with the next announce to this tracker
	ExternalIP  netip.Addr // our address as the tracker sees it (BEP 24); not valid when not given
}

// RefusedError is a tracker's own refusal: it answered, and said no.
type RefusedError struct {
	Reason  string
	RetryIn time.Duration // BEP 31: when to try again; 0 when not given, Never when never
}

// Never is the RefusedError.RetryIn of a tracker that wants no further announce of this torrent.
const Never = time.Duration(1<<63 - 1)

func (f *RefusedError) Error() string {
	return fmt.Sprintf("tracker refused the announce: %s", f.Reason)
}

// Errors a caller may branch on.
var (
	// ErrScheme is an announce URL that is neither http, https nor udp.
	ErrScheme = errors.New("tracker URL is not http, https or udp")
	// ErrReach is an address that announces don't go to; see reach.go for the rules.
	ErrReach = errors.New("address not allowed for a tracker")
	// ErrClosed is an announce through a closed Client.
	ErrClosed = errors.New("tracker client is closed")
)

const (
	maxPeers    = 1000           // of one answer; more would be a flood
	maxText     = 300            // bytes of a reason or a warning
	maxID       = 512            // bytes of a tracker id, which we must send back
	maxInterval = 24 * time.Hour // a Response never asks for longer; an Announcer bounds it further
)

// seconds turns a tracker's number of seconds into a duration, bounded so that no sum with it overflows.
func seconds(n int64) time.Duration {
	if n <= 0 {
		return 0
	}
	return time.Duration(min(n, int64(maxInterval/time.Second))) * time.Second
}

// count bounds a tracker's number of seeders or leechers.
func count(n int64) int {
	return int(min(max(n, 0), 1<<31-1))
}

// clean makes a stranger's text fit for a log line or a terminal: valid UTF-8, no control characters, bounded.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.TrimSpace(s)
}

package picker

import (
	"slices"
	"time"
)

const (
	slack        = 50 * time.Millisecond // of data kept queued at a peer beyond what its round trip holds
	firstBlocks  = 4                     // asked of a peer that has not delivered yet
	mostFirst    = 32                    // the same, when a reader waits and nobody is known better
	guessedRate  = 1 << 20               // bytes a second of a peer, when nothing is known of any
	guessedRTT   = 100 * time.Millisecond
	defaultQueue = 250              // requests a peer queues when it does not say
	maxQueue     = 2048             // requests, whatever it says
	patience     = time.Second      // of silence beyond what is expected, after which a peer has stalled
	rateWindow   = 2 * time.Second  // the age at which a measured rate is forgotten, at least
	rejectPause  = time.Second      // for which a peer that rejects is asked nothing
	maxDeviation = 10 * time.Second // of an arrival
)

// peer is what is known of one peer. Its rate is the highest delivery rate seen lately (a windowed maximum, as in BBR), so
// that an idle or waiting peer is not taken for a slow one.
type peer struct {
	id     int
	have   []byte // bits as on the wire (BEP 3); nil none
	all    bool   // has every piece
	choked bool
	fast   map[int]bool // pieces it serves even when we are choked (BEP 6)
	queue  int          // requests it takes

	head, tail  *flight // requests in flight, in the order they were sent
	flights     int
	outstanding int64 // bytes in flight
	sent        int64 // bytes asked for, ever
	delivered   int64 // bytes that came, ever
	deliveredAt time.Duration

	rtt       time.Duration // the smallest seen
	deviation time.Duration // of arrivals from what was predicted
	rates     [2]float64    // bytes a second: the highest of this window and of the one before; 0 unknown
	window    time.Duration // when the current one began
	full      int           // rounds in which the rate has not grown
	roundRate float64
	roundEnds int64 // of bytes delivered
	stalled   bool  // silent when it should have delivered: asked one block at a time until it delivers
	pausedTil time.Duration
	retry     time.Duration // no sooner is it worth looking for work for it
}

// flight is one request on its way.
type flight struct {
	peer       *peer
	piece      *piece
	block      int
	length     int64
	sentAt     time.Duration
	ahead      int64 // peer.sent when it was sent, itself included
	delivered  int64 // peer.delivered then
	since      time.Duration
	limited    bool // the peer could have taken more: its rate of this moment says nothing
	prev, next *flight
}

// AddPeer adds a peer, choking us and without pieces. rtt is its round-trip time, 0 when unknown.
func (p *Picker) AddPeer(id int, rtt time.Duration) {
	if rtt <= 0 {
		rtt = guessedRTT
	}
	x := &peer{id: id, choked: true, queue: defaultQueue, rtt: rtt, deviation: rtt / 4}
	p.byID[id] = x
	p.peers = append(p.peers, x)
}

// RemovePeer forgets a peer; its blocks are free again.
func (p *Picker) RemovePeer(id int) {
	x := p.byID[id]
	if x == nil {
		return
	}
	p.release(x, false)
	for _, pc := range p.order {
		if pc.sole == x {
			pc.sole, pc.isSole = nil, false
		}
	}
	delete(p.byID, id)
	p.peers = slices.Delete(p.peers, slices.Index(p.peers, x), slices.Index(p.peers, x)+1)
}

// SetBits says which pieces a peer has: bits as on the wire (BEP 3), nil for none. The picker keeps the slice.
func (p *Picker) SetBits(id int, bits []byte, all bool) {
	if x := p.byID[id]; x != nil {
		x.have, x.all, x.retry = bits, all, 0
		p.hedgeAt = 0
	}
}

// AddHave says that a peer has one more piece, of n in all.
func (p *Picker) AddHave(id, index, n int) {
	x := p.byID[id]
	if x == nil || x.all {
		return
	}
	if x.have == nil {
		x.have = make([]byte, (n+7)/8)
	}
	x.have[index/8] |= 0x80 >> (index % 8)
	x.retry, p.hedgeAt = 0, 0
}

// DropHave says that a peer has a piece no more (BEP 54), of n in all.
func (p *Picker) DropHave(id, index, n int) {
	x := p.byID[id]
	if x == nil {
		return
	}
	if x.all {
		x.all, x.have = false, make([]byte, (n+7)/8)
		for i := range n {
			x.have[i/8] |= 0x80 >> (i % 8)
		}
	}
	if x.have != nil {
		x.have[index/8] &^= 0x80 >> (index % 8)
	}
}

// SetChoked says whether a peer chokes us. A choke frees its blocks, but those that it serves all the same (BEP 6).
func (p *Picker) SetChoked(id int, choked bool) {
	x := p.byID[id]
	if x == nil || x.choked == choked {
		return
	}
	x.choked, x.retry, p.hedgeAt = choked, 0, 0
	if !choked {
		return
	}
	for f := x.head; f != nil; {
		next := f.next
		if !x.fast[f.piece.index] {
			p.lose(f)
		}
		f = next
	}
}

// AllowFast says that a peer serves a piece even while it chokes us (BEP 6).
func (p *Picker) AllowFast(id, index int) {
	const most = 64 // a set that a peer may grow without end would be a way to use up memory
	if x := p.byID[id]; x != nil && len(x.fast) < most {
		if x.fast == nil {
			x.fast = make(map[int]bool)
		}
		x.fast[index] = true
		x.retry = 0
	}
}

// SetQueue says how many requests a peer queues (`reqq` of BEP 10).
func (p *Picker) SetQueue(id, n int) {
	if x := p.byID[id]; x != nil && n > 0 {
		x.queue = min(n, maxQueue)
	}
}

// has reports whether the peer has a piece.
func (x *peer) has(index int) bool {
	return x.all || x.have != nil && x.have[index/8]&(0x80>>(index%8)) != 0
}

// open reports whether the peer serves a piece now.
func (x *peer) open(index int) bool { return !x.choked || x.fast[index] }

func (x *peer) measured() float64 { return max(x.rates[0], x.rates[1]) }

// rate is the peer's rate in bytes a second: what was measured, or the median of those measured.
func (p *Picker) rate(x *peer) float64 {
	if r := x.measured(); r > 0 {
		return r
	}
	return p.typicalRate()
}

// typicalRate is the median of the measured rates.
func (p *Picker) typicalRate() float64 {
	var buf [32]float64
	known := buf[:0]
	for _, x := range p.peers {
		if r := x.measured(); r > 0 && len(known) < cap(known) {
			known = append(known, r)
		}
	}
	if len(known) == 0 {
		return guessedRate
	}
	slices.Sort(known)
	return known[len(known)/2]
}

// depth is how many bytes the peer may have in flight: what its round trip holds and some milliseconds more, so that it is
// never idle; twice the round trip's worth while its rate still grows (slow start).
func (x *peer) depth(first int) int64 {
	if x.stalled {
		return BlockSize
	}
	r := x.measured()
	if r == 0 {
		return int64(first) * BlockSize
	}
	gain := 1.25
	if x.full < 3 {
		gain = 2.5
	}
	w := int64(r * (gain*x.rtt.Seconds() + slack.Seconds()))
	return min(max(w, firstBlocks*BlockSize), int64(x.queue)*BlockSize)
}

// late is for how long the oldest request has been overdue.
func (x *peer) late(rate float64, now time.Duration) time.Duration {
	if x.head == nil {
		return 0
	}
	return max(0, now-x.expected(rate)-x.deviation)
}

// expected is when the oldest request should be answered.
func (x *peer) expected(rate float64) time.Duration {
	return max(x.head.sentAt+x.rtt, x.deliveredAt) + seconds(float64(x.head.length)/rate)
}

// stallsAt is when the peer will have been silent for too long.
func (x *peer) stallsAt(rate float64) time.Duration {
	return x.expected(rate) + 4*x.deviation + patience
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// start is when a block asked of the peer now would begin to arrive. What the peer is late already it is believed to be
// late once more.
func (x *peer) start(rate float64, now time.Duration) time.Duration {
	return now + 2*x.late(rate, now) + max(x.rtt, seconds(float64(x.outstanding)/rate)) + x.deviation/2
}

// arrives is when a block in flight is expected.
func (f *flight) arrives(rate float64, now time.Duration) time.Duration {
	x := f.peer
	queued := f.ahead - (x.sent - x.outstanding)
	return max(f.sentAt+x.rtt, now+seconds(float64(queued)/rate)) + 2*x.late(rate, now)
}

// push puts a flight at the end of the peer's queue.
func (x *peer) push(f *flight, now time.Duration) {
	if x.head == nil {
		x.deliveredAt = now // the clock of its delivery starts with its work
	}
	x.sent += f.length
	x.outstanding += f.length
	x.flights++
	f.sentAt, f.ahead, f.delivered, f.since = now, x.sent, x.delivered, x.deliveredAt
	f.prev = x.tail
	if x.tail != nil {
		x.tail.next = f
	} else {
		x.head = f
	}
	x.tail = f
}

// remove takes a flight out of the peer's queue.
func (x *peer) remove(f *flight) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		x.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		x.tail = f.prev
	}
	x.outstanding -= f.length
	x.flights--
}

// received learns from a block that came; f is its flight, nil when it was given up before.
func (x *peer) received(f *flight, length int64, now time.Duration) {
	x.delivered += length
	x.stalled = false
	x.retry = 0
	if f != nil {
		if d := now - f.sentAt; d < x.rtt && d > 0 {
			x.rtt = d
		}
		if f == x.head && x.measured() > 0 {
			off := (now - x.expected(x.measured())).Abs()
			x.deviation += (min(off, maxDeviation) - x.deviation) / 8
		}
		x.sample(f, now)
	}
	x.deliveredAt = now
}

// sample measures the rate between the sending of a request and its answer, and whether slow start is over.
func (x *peer) sample(f *flight, now time.Duration) {
	took := now - f.since
	if took <= 0 {
		return
	}
	r := float64(x.delivered-f.delivered) / took.Seconds()
	if now-x.window > max(rateWindow, 8*x.rtt) && !f.limited {
		x.rates = [2]float64{0, x.rates[0]}
		x.window = now
	}
	x.rates[0] = max(x.rates[0], r)
	if f.delivered < x.roundEnds || f.limited {
		return
	}
	x.roundEnds = x.delivered
	if best := x.measured(); best > 1.25*x.roundRate {
		x.roundRate, x.full = best, 0
	} else {
		x.full++
	}
}

// stall is what a peer's silence does to it.
func (x *peer) stall(now time.Duration) {
	x.stalled = true
	x.deliveredAt = now
}

// rejected pauses a peer that says no, so that it is not asked the same again at once.
func (x *peer) rejected(now time.Duration) {
	x.pausedTil = now + rejectPause
}

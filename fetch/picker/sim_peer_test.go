package picker

import (
	"math/rand/v2"
	"slices"
	"time"
)

// peerSpec is a modelled peer: a request reaches it after half its round trip, it serves them one after the other at its
// rate, and each block reaches us after the other half.
type peerSpec struct {
	rate    float64       // bytes a second
	rtt     time.Duration // round trip
	jitter  time.Duration // the mean of what each message takes beyond its half of the round trip
	have    []byte        // bits as on the wire (BEP 3); nil: every piece
	reqq    int           // requests it queues and says so; 0: 250, unsaid
	buffer  int64         // bytes that are in its socket already, where no cancel reaches them
	slow    bool          // without the fast extension (BEP 6): it rejects nothing
	lies    float64       // share of its blocks that are wrong
	join    time.Duration
	choked  time.Duration // until it first unchokes us, after join
	serving time.Duration // mean time until it chokes us, for the mean time of
	pausing time.Duration
	dies    time.Duration // after join; 0: never
	returns time.Duration // after its death; 0: never
	silent  time.Duration // after join; 0: never
	fades   time.Duration // after join its rate falls to a tenth; 0: never
	hiccup  time.Duration // mean time between halts of up to a second; 0: none
	waves   time.Duration // the mean of a delay of all that is sent, which changes every 50 ms or so
	longer  time.Duration // after join its round trip is longer by 300 ms; 0: never
	doles   time.Duration // it limits its rate: so often it sends, all at once, what its rate allows for as long; 0: it does not
	tick    time.Duration // it looks at new requests so often, when it is not sending anyway; 0: at once
}

// simPeer is a connection to a modelled peer.
type simPeer struct {
	w       *world
	spec    *peerSpec
	id      int
	rate    float64
	way     time.Duration // half a round trip
	wave    time.Duration // and more, for now
	gone    bool
	silent  bool
	choking bool
	halted  time.Duration // until when it sends nothing
	queue   []simRequest  // in the order they came; the first is being sent
	sending bool
	dole    time.Duration         // of one that limits its rate: the number of its last
	quota   float64               // what is left of it, in bytes
	flowing bool                  // it has not run out of requests
	upAt    time.Duration         // when the last message from us arrives there
	downAt  time.Duration         // and the last of theirs here
	adds    float64               // to what the swarm can give
	pending map[Request]*simBuild // what we asked for and where it belongs, as package peer keeps it
	life    *rand.Rand            // decides what becomes of it, the same whatever is asked of it
	path    *rand.Rand            // decides what its messages meet on their way
}

type simRequest struct{ Request }

// able keeps account of what the swarm can give.
func (s *simPeer) able() {
	can := s.rate
	if s.gone || s.silent || s.choking || s.w.now < s.halted {
		can = 0
	}
	s.w.serving += can - s.adds
	s.adds = can
}

// expect tells the picker of the peers that are being dialled, as package swarm does: to connect took so long.
func (w *world) expect(took time.Duration) {
	slack := took/4 + 20*time.Millisecond
	n := 0
	for i := range w.spec.peers {
		if at := w.spec.peers[i].join; at > w.now && at <= w.now+slack {
			n++
		}
	}
	w.p.Expect(n, w.now+slack)
}

// join connects a peer.
func (w *world) join(spec *peerSpec) {
	s := &simPeer{w: w, spec: spec, id: w.next, rate: spec.rate, choking: true, pending: make(map[Request]*simBuild)}
	s.life = rand.New(rand.NewPCG(w.spec.seed, uint64(2*s.id)))
	s.path = rand.New(rand.NewPCG(w.spec.seed, uint64(2*s.id+1)))
	w.next++
	w.peers[s.id] = s
	w.p.AddPeer(s.id, spec.rtt+exp(s.path, spec.jitter))
	w.expect(2 * spec.rtt)
	w.p.SetBits(s.id, spec.have, spec.have == nil)
	if spec.reqq > 0 {
		w.p.SetQueue(s.id, spec.reqq)
	}
	if spec.choked > 0 {
		w.after(spec.choked, func() { s.choke(false) })
	} else {
		s.choking = false
		w.p.SetChoked(s.id, false)
		s.able()
	}
	if spec.serving > 0 {
		w.after(spec.choked+exp(s.life, spec.serving), func() { s.choke(true) })
	}
	if spec.dies > 0 {
		w.after(spec.dies, s.die)
	}
	if spec.silent > 0 {
		w.after(spec.silent, func() { s.silent = true; s.able() })
	}
	if spec.fades > 0 {
		w.after(spec.fades, func() { s.rate /= 10; s.able() })
	}
	s.way = spec.rtt / 2
	if spec.longer > 0 {
		w.after(spec.longer, func() { s.way += 150 * time.Millisecond })
	}
	if spec.waves > 0 {
		s.sway()
	}
	if spec.hiccup > 0 {
		w.after(exp(s.life, spec.hiccup), s.halt)
	}
}

// sway changes the delay of all that is sent.
func (s *simPeer) sway() {
	s.wave = exp(s.path, s.spec.waves)
	s.w.after(exp(s.path, 50*time.Millisecond), s.sway)
}

// crossing is how long the next message is on its way.
func (s *simPeer) crossing() time.Duration { return s.way + s.wave + exp(s.path, s.spec.jitter) }

func (s *simPeer) halt() {
	s.halted = s.w.now + time.Duration(s.life.Float64()*float64(time.Second))
	s.able()
	s.w.at(s.halted, s.able)
	s.w.after(exp(s.life, s.spec.hiccup), s.halt)
}

// choke changes the peer's mind, and sees to it that it changes again.
func (s *simPeer) choke(yes bool) {
	if s.gone || s.silent {
		return
	}
	s.choking = yes
	s.able()
	s.tell(func() {
		if yes && s.spec.slow {
			clear(s.pending)
		}
		s.w.p.SetChoked(s.id, yes)
	})
	if yes {
		for len(s.queue) > s.unstoppable() {
			s.reject(s.queue[len(s.queue)-1].Request)
			s.queue = s.queue[:len(s.queue)-1]
		}
		s.w.after(exp(s.life, s.spec.pausing), func() { s.choke(false) })
	} else if s.spec.serving > 0 {
		s.w.after(exp(s.life, s.spec.serving), func() { s.choke(true) })
	}
}

// die closes the connection.
func (s *simPeer) die() {
	s.gone = true
	s.able()
	s.w.after(s.spec.rtt/2, func() { s.w.part(s) })
	if s.spec.returns > 0 {
		s.w.after(s.spec.returns, func() { s.w.join(s.spec) })
	}
}

// hear has something happen at the peer when a message sent now arrives.
func (s *simPeer) hear(do func()) {
	s.upAt = max(s.upAt, s.w.now+s.crossing())
	s.w.at(s.upAt, func() {
		if !s.gone && !s.silent {
			do()
		}
	})
}

// tell has something happen here when a message that the peer sends now arrives.
func (s *simPeer) tell(do func()) {
	s.downAt = max(s.downAt, s.w.now+s.crossing())
	s.w.at(s.downAt, func() {
		if s.w.peers[s.id] != nil {
			do()
		}
	})
}

// request sends a request.
func (w *world) request(r Request) {
	s, t := w.peers[r.Peer], w.targets[r.Piece]
	if s == nil || t == nil || t.build == nil {
		w.t.Fatalf("a request without a peer or a piece: %+v", r)
	}
	s.pending[r] = t.build
	w.requests++
	s.hear(func() {
		limit := s.spec.reqq
		if limit == 0 {
			limit = 250
		}
		switch {
		case s.choking && s.spec.slow:
		case s.choking || len(s.queue) >= limit:
			s.reject(r)
		default:
			s.queue = append(s.queue, simRequest{r})
			s.serve()
		}
	})
}

// reject answers a request with no.
func (s *simPeer) reject(r Request) {
	if s.spec.slow {
		return
	}
	s.tell(func() {
		delete(s.pending, r)
		s.w.p.Rejected(s.id, r.Piece, r.Begin, s.w.now)
	})
}

// cancel sends a cancel.
func (s *simPeer) cancel(r Request) {
	s.w.cancels++
	s.hear(func() {
		i := slices.IndexFunc(s.queue, func(q simRequest) bool { return q.Request == r })
		if i >= s.unstoppable() {
			s.queue = slices.Delete(s.queue, i, i+1)
			s.reject(r)
		}
	})
}

// unstoppable is how many of the queued requests are answered whatever we say: what is in the socket, at least the block
// that is being sent.
func (s *simPeer) unstoppable() int {
	n, held := 0, int64(0)
	for n < len(s.queue) && (n == 0 && s.sending || held < s.spec.buffer) {
		held += s.queue[n].Length
		n++
	}
	return n
}

// serve sends the first block of the queue, and then the others.
func (s *simPeer) serve() {
	if s.sending || len(s.queue) == 0 || s.gone || s.silent {
		return
	}
	s.sending = true
	if d := s.spec.doles; d > 0 {
		if turn := s.w.now / d; turn != s.dole {
			s.dole, s.quota = turn, min(s.quota, 0)+s.rate*d.Seconds()
		}
		wait := max(0, s.halted-s.w.now)
		if s.quota <= 0 {
			wait = max(wait, d-s.w.now%d)
		}
		s.w.after(wait, func() {
			s.sending = false
			if s.gone || s.silent {
				return
			}
			if s.quota > 0 {
				r := s.queue[0].Request
				s.queue = s.queue[1:]
				s.quota -= float64(r.Length)
				s.deliver(r)
			}
			s.serve()
		})
		return
	}
	wait := max(0, s.halted-s.w.now)
	if t := s.spec.tick; t > 0 && !s.flowing {
		wait = max(wait, t-s.w.now%t)
	}
	s.w.after(wait+seconds(float64(s.queue[0].Length)/s.rate), func() {
		s.sending = false
		if s.gone || s.silent {
			return
		}
		r := s.queue[0].Request
		s.queue = s.queue[1:]
		s.deliver(r)
		s.flowing = len(s.queue) > 0
		s.serve()
	})
}

// deliver carries a block to us, over our own line.
func (s *simPeer) deliver(r Request) {
	bad := s.spec.lies > 0 && s.path.Float64() < s.spec.lies
	s.downAt = max(s.downAt, s.w.now+s.crossing())
	s.w.at(s.downAt, func() {
		if s.w.spec.line > 0 {
			s.w.line = max(s.w.line, s.w.now) + seconds(float64(r.Length)/s.w.spec.line)
			s.downAt = max(s.downAt, s.w.line)
			s.w.at(s.w.line, func() { s.w.block(s, r, bad) })
			return
		}
		s.w.block(s, r, bad)
	})
}

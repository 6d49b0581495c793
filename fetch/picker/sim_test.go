package picker

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A world is a swarm in virtual time: modelled peers and readers around a real Picker. Everything in it follows from its
// spec and its seed, so that a run is the same on every machine. The model is in five files: the clock (this one), a peer
// (sim_peer_test.go), what package swarm does around the picker (sim_swarm_test.go), readers (sim_reader_test.go), and
// the cases (sim_cases_test.go).
type world struct {
	t      testing.TB
	rnd    *rand.Rand
	now    time.Duration
	events events
	seq    int
	wakeAt time.Duration
	audit  int // steps between looks at the picker's books
	steps  int
	probe  func() // called after every step, if not nil

	p     *Picker
	spec  swarmSpec
	peers map[int]*simPeer
	next  int           // the next peer's number
	line  time.Duration // when our own line has carried what it was given

	serving float64 // bytes a second that peers would send now if they were asked well
	could   float64 // bytes that they would have sent so far
	swarmSide
}

// swarmSpec is what a world is made of.
type swarmSpec struct {
	size, piece int64 // bytes
	peers       []peerSpec
	line        float64 // bytes a second of our own line; 0: no bound
	inFlight    int64   // bytes of incomplete pieces; 0: 64 MiB
	seed        uint64
}

// grain is how close together events are that the loop takes in as one.
const grain = 50 * time.Microsecond

// hashTime is what the end of a piece's verification takes.
const hashTime = 500 * time.Microsecond

func newWorld(t testing.TB, spec swarmSpec) *world {
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(spec.seed, 7)), spec: spec, audit: 101,
		p: New(spec.size, spec.piece), peers: make(map[int]*simPeer), swarmSide: newSwarmSide(spec),
	}
	for i := range spec.peers {
		w.at(spec.peers[i].join, func() { w.join(&spec.peers[i]) })
	}
	return w
}

type event struct {
	at  time.Duration
	seq int // events of one time happen in the order in which they were made
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

// at has something happen at a time, or now if that has passed.
func (w *world) at(t time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{max(t, w.now), w.seq, do})
}

func (w *world) after(d time.Duration, do func()) { w.at(w.now+d, do) }

// exp draws from an exponential distribution.
func exp(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.ExpFloat64() * float64(mean))
}

// run lets the world go on until done, or to the end of its time, which is a failure.
func (w *world) run(limit time.Duration, done func() bool) {
	w.t.Helper()
	for !done() {
		if w.wakeAt > 0 && (w.events.Len() == 0 || w.wakeAt < w.events[0].at) {
			w.pass(w.wakeAt)
			w.step()
			continue
		}
		if w.events.Len() == 0 || w.now > limit {
			w.t.Fatalf("at %v readers still wait: %s", w.now.Round(time.Millisecond), w.state())
		}
		for end := w.events[0].at + grain; w.events.Len() > 0 && w.events[0].at <= end; {
			e := heap.Pop(&w.events).(event)
			w.pass(e.at)
			e.do()
		}
		w.step()
	}
}

// pass lets time pass.
func (w *world) pass(t time.Duration) {
	w.could += min(w.serving, w.bound()) * (t - w.now).Seconds()
	w.now = t
}

// bound is what our line carries, in bytes a second.
func (w *world) bound() float64 {
	if w.spec.line > 0 {
		return w.spec.line
	}
	return math.Inf(1)
}

// step does what the event loop does after every event.
func (w *world) step() {
	w.activate()
	requests, cancels, wake := w.p.Step(w.now)
	w.steps++
	if w.probe != nil {
		w.probe()
	}
	for _, c := range cancels {
		if s := w.peers[c.Peer]; s != nil {
			s.cancel(c)
		}
	}
	for _, r := range requests {
		w.request(r)
	}
	if w.audit > 0 && w.steps%w.audit == 0 {
		w.p.verify(w.t)
	}
	if w.wakeAt = wake; wake > 0 {
		w.wakeAt = max(wake, w.now+time.Millisecond)
	}
}

// state says who waits for what, for the message of a failure.
func (w *world) state() string {
	s := ""
	for _, t := range w.targets {
		if len(t.waiters) > 0 {
			s += fmt.Sprintf("\n  piece %d, build %v", t.index, t.build != nil)
			if pc := w.p.pieces[t.index]; pc != nil {
				s += fmt.Sprintf(", %d blocks free, %d missing, jury %v", pc.free, pc.left, len(pc.jury))
			}
		}
	}
	for _, x := range w.p.peers {
		s += fmt.Sprintf("\n  peer %d: rate %.0f, rtt %v±%v, %d flights, choked %v, stalled %v",
			x.id, x.rate.value(), x.rtt, x.deviation, x.flights, x.choked, x.stalled)
	}
	return s
}

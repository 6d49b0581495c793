package picker

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	kB  = 1000
	mB  = 1000 * kB
	ms  = time.Millisecond

	reqq = 2000 // what libtorrent says
)

// A simCase is a row of docs/simulation.md.
type simCase struct {
	name  string
	about string
	spec  swarmSpec
	run   func(w *world) outcome
	limit limits
	large bool // not run by go test -short, nor under the race detector's patience
}

// limits are what an outcome must keep to; zero values bound nothing but the waste. All times are virtual.
type limits struct {
	first, seek50, seek95, jump95, start time.Duration
	share, least                         float64
	stalled                              time.Duration
	plays                                bool    // stalled bounds it, even if it is zero
	waste                                float64 // 0: the hedges' budget
}

func same(n int, p peerSpec) (all []peerSpec) {
	for range n {
		all = append(all, p)
	}
	return all
}

func swarmOf(piece int64, peers ...[]peerSpec) swarmSpec {
	s := swarmSpec{size: 4 * gib, piece: piece}
	for _, p := range peers {
		s.peers = append(s.peers, p...)
	}
	return s
}

// The swarms of the benchmark (cmd/torrentfs/bench), with the jitter of its links.
var (
	wan   = swarmOf(mib, same(4, peerSpec{rate: 8 * mB, rtt: 80 * ms, jitter: 2 * ms, reqq: reqq, buffer: 64 * kib}))
	far   = swarmOf(mib, same(1, peerSpec{rate: 40 * mB, rtt: 200 * ms, jitter: 2 * ms, reqq: reqq, buffer: 64 * kib}))
	big   = swarmOf(8*mib, same(8, peerSpec{rate: 2 * mB, rtt: 40 * ms, jitter: 2 * ms, reqq: reqq, buffer: 64 * kib}))
	fast  = swarmOf(4*mib, same(2, peerSpec{rate: 8 * mB, rtt: 20 * ms, jitter: 2 * ms, reqq: reqq, buffer: 64 * kib}))
	mixed = swarmOf(4*mib, fast.peers, same(30, peerSpec{rate: 50 * kB, rtt: 150 * ms, jitter: 2 * ms, reqq: reqq, buffer: 32 * kib}))
	slow3 = peerSpec{rate: 300 * kB, rtt: 120 * ms, jitter: 2 * ms, reqq: reqq, buffer: 64 * kib}
	ten   = swarmOf(2*mib, same(10, slow3))
)

// Peers that limit their own rate, as libtorrent does it.
var (
	doled     = swarmOf(256*kib, same(8, peerSpec{rate: 256 * kib, rtt: ms, doles: 500 * ms, reqq: reqq}))
	doledSome = fleeting()
)

// fleeting is the doled, with half of the pieces and for a while each, and one more that has all and stays.
func fleeting() swarmSpec {
	s := swarmOf(256*kib, doled.peers)
	r := rand.New(rand.NewPCG(8, 99))
	for i := range s.peers {
		p := &s.peers[i]
		p.have = make([]byte, s.size/s.piece/8)
		for j := range p.have {
			p.have[j] = byte(r.Uint32())
		}
		p.choked, p.serving, p.pausing = exp(r, 5*time.Second), 5*time.Second, 15*time.Second
	}
	s.peers = append(s.peers, doled.peers[0])
	return s
}

// apart is the ten, of which each is there some time after the one before it.
func apart(by func(i int) time.Duration) swarmSpec {
	all := same(10, slow3)
	for i := range all {
		all[i].join = by(i)
	}
	return swarmOf(2*mib, all)
}

// struck is the ten, to three of which something happens.
func struck(happens func(*peerSpec)) swarmSpec {
	three := same(3, slow3)
	for i := range three {
		happens(&three[i])
	}
	return swarmOf(2*mib, three, same(7, slow3))
}

func reading(n int64) func(*world) outcome { return func(w *world) outcome { return w.whole(n) } }
func seeking(n int) func(*world) outcome   { return func(w *world) outcome { return w.seeking(n) } }
func jumping(n int) func(*world) outcome   { return func(w *world) outcome { return w.jumping(n) } }
func playing(rate, n int64) func(*world) outcome {
	return func(w *world) outcome { return w.playing(rate, n) }
}

const (
	playRate = 1250 * kB
	playFor  = 32 * mib
)

// The cases of the benchmark, with its targets.
var targets = []simCase{
	{name: "wan", about: "4 seeders, 80 ms, 8 MB/s, 1 MiB pieces: in order", spec: wan,
		run: reading(320 * mib), limit: limits{first: 200 * ms, share: 0.95, waste: 0.02}},
	{name: "wan-seek", about: "the same: 64 KiB anywhere while a read-ahead runs", spec: wan,
		run: seeking(100), limit: limits{seek50: 200 * ms, seek95: 400 * ms}},
	{name: "wan-jump", about: "the same: a reader that goes elsewhere with its read-ahead", spec: wan,
		run: jumping(50), limit: limits{jump95: 400 * ms}},
	{name: "four", about: "the same: four readers at once", spec: wan,
		run: func(w *world) outcome { return w.several(4, 80*mib) }, limit: limits{share: 0.95, least: 0.5, waste: 0.02}},
	{name: "far", about: "1 seeder, 200 ms, 40 MB/s, 1 MiB pieces: in order", spec: far,
		run: reading(512 * mib), limit: limits{share: 0.9, waste: 0.02}},
	{name: "far-seek", about: "the same: 64 KiB anywhere", spec: far, run: seeking(50)},
	{name: "big", about: "8 seeders, 40 ms, 2 MB/s, 8 MiB pieces: in order", spec: big,
		run: reading(256 * mib), limit: limits{first: 800 * ms, share: 0.9, waste: 0.02}},
	{name: "big-seek", about: "the same: 64 KiB anywhere", spec: big,
		run: seeking(100), limit: limits{first: 800 * ms, seek50: 750 * ms, seek95: time.Second}},
	{name: "fast", about: "2 seeders, 20 ms, 8 MB/s, 4 MiB pieces: in order", spec: fast,
		run: reading(160 * mib), limit: limits{share: 0.95, waste: 0.02}},
	{name: "fast-seek", about: "the same: 64 KiB anywhere", spec: fast, run: seeking(100)},
	{name: "mixed", about: "the same 2 and 30 at 150 ms, 50 kB/s: in order", spec: mixed,
		run: reading(160 * mib), limit: limits{share: 0.95 * 16 / 17.5, waste: 0.03}},
	{name: "mixed-seek", about: "the same: 64 KiB anywhere", spec: mixed, run: seeking(100)},
	{name: "play", about: "10 peers, 120 ms, 0.3 MB/s, 2 MiB pieces: a player at 1.25 MB/s", spec: ten,
		run: playing(playRate, playFor), limit: limits{start: 1400 * ms, plays: true}},
	{name: "play-first", about: "the same; one is there 15 ms before the others", spec: apart(func(i int) time.Duration { return min(time.Duration(i), 1) * 15 * ms }),
		run: playing(playRate, playFor), limit: limits{start: 1400 * ms, plays: true}},
	{name: "play-apart", about: "the same; each is there 50 ms after the one before it", spec: apart(func(i int) time.Duration { return time.Duration(i) * 50 * ms }),
		run: playing(playRate, playFor), limit: limits{start: 1900 * ms, plays: true}},
	{name: "play-die", about: "the same; after 3 s three of the ten die", spec: struck(func(p *peerSpec) { p.dies = 3 * time.Second }),
		run: playing(playRate, playFor), limit: limits{start: 1400 * ms, plays: true}},
	{name: "play-silent", about: "the same; after 3 s three fall silent", spec: struck(func(p *peerSpec) { p.silent = 3 * time.Second }),
		run: playing(playRate, playFor), limit: limits{start: 1400 * ms, plays: true}},
	{name: "play-mute", about: "the same; three never answer at all", spec: struck(func(p *peerSpec) { p.silent = 1 }),
		run: playing(playRate, playFor), limit: limits{start: 1500 * ms, plays: true}},
	{name: "play-fade", about: "the same; after 3 s three fall to a tenth of their rate", spec: struck(func(p *peerSpec) { p.fades = 3 * time.Second }),
		run: playing(playRate, playFor), limit: limits{start: 1400 * ms, plays: true}},
	{name: "doled", about: "8 peers, 1 ms, that send 128 KiB all at once every half second, 256 KiB pieces: in order", spec: doled,
		run: reading(64 * mib), limit: limits{share: 0.95, waste: 0.02}},
	{name: "doled-some", about: "the same, but each has half of the pieces, and serves us for 5 s of 20; and one more",
		spec: doledSome, run: reading(64 * mib), limit: limits{share: 0.9}},
}

// stranger draws a peer as they are met in large swarms: most are slow, some are fast, few have everything; they choke,
// leave and fall silent.
func stranger(r *rand.Rand, pieces int, wild bool) peerSpec {
	p := peerSpec{
		rate:   min(max(200*kB*math.Exp(1.2*r.NormFloat64()), 5*kB), 20*mB),
		rtt:    time.Duration(min(max(80*math.Exp(0.7*r.NormFloat64()), 5), 600) * float64(time.Millisecond)),
		jitter: time.Duration(r.ExpFloat64() * 3 * float64(time.Millisecond)),
		reqq:   []int{0, 250, 500, 2000}[r.IntN(4)],
		slow:   r.IntN(4) == 0,
	}
	p.buffer = int64(min(p.rate/2, 256*kib))
	if !wild {
		return p
	}
	if r.IntN(3) > 0 {
		p.have = make([]byte, (pieces+7)/8)
		share := 0.1 + 0.85*r.Float64()
		for i := range pieces {
			if r.Float64() < share {
				p.have[i/8] |= 0x80 >> (i % 8)
			}
		}
	}
	p.choked = time.Duration(r.ExpFloat64() * float64(2*time.Second))
	if r.IntN(2) == 0 {
		p.serving, p.pausing = 40*time.Second, 20*time.Second
	}
	if r.IntN(5) == 0 {
		p.dies, p.returns = time.Duration(r.ExpFloat64()*float64(time.Minute)), 10*time.Second
	}
	switch r.IntN(12) {
	case 0:
		p.silent = time.Duration(r.ExpFloat64() * float64(time.Minute))
	case 1:
		p.hiccup = 10 * time.Second
	case 2:
		p.fades = time.Duration(r.ExpFloat64() * float64(time.Minute))
	}
	return p
}

func strangers(n int, spec swarmSpec, wild bool, change func(i int, p *peerSpec)) swarmSpec {
	r := rand.New(rand.NewPCG(uint64(n), 99))
	for i := range n {
		p := stranger(r, int((spec.size+spec.piece-1)/spec.piece), wild)
		if change != nil {
			change(i, &p)
		}
		spec.peers = append(spec.peers, p)
	}
	return spec
}

// Swarms beyond what a machine could show.
var (
	home   = strangers(80, swarmSpec{size: 8 * gib, piece: mib, line: 2.5 * mB}, true, nil)
	fibre  = strangers(80, swarmSpec{size: 8 * gib, piece: 2 * mib, line: 60 * mB}, true, nil)
	liars  = strangers(40, swarmSpec{size: 4 * gib, piece: mib}, false, func(i int, p *peerSpec) { p.rate = 500 * kB; p.lies = float64(i%8/7) / 2 })
	crowd  = strangers(1000, swarmSpec{size: 100_000 * 16 * mib, piece: 16 * mib, line: 125 * mB, inFlight: 256 * mib}, true, nil)
	grains = strangers(1000, swarmSpec{size: 100_000 * 16 * kib, piece: 16 * kib, line: 125 * mB}, true, nil)
)

var large = []simCase{
	{name: "home", about: "80 strangers behind a line of 2.5 MB/s, 1 MiB pieces: in order", spec: home, run: reading(64 * mib), limit: limits{}},
	{name: "home-seek", about: "the same: 64 KiB anywhere", spec: home, run: seeking(40)},
	{name: "home-jump", about: "the same: a reader that goes elsewhere", spec: home, run: jumping(40)},
	{name: "home-play", about: "the same: a player at 1.25 MB/s", spec: home, run: playing(playRate, 64*mib)},
	{name: "fibre", about: "80 strangers behind 60 MB/s, 2 MiB pieces: in order", spec: fibre, run: reading(512 * mib)},
	{name: "fibre-seek", about: "the same: 64 KiB anywhere", spec: fibre, run: seeking(40)},
	{name: "fibre-play", about: "the same: a player at 5 MB/s", spec: fibre, run: playing(5*mB, 256*mib)},
	{name: "liars", about: "40 peers at 0.5 MB/s of which 5 lie half of the time", spec: liars, run: reading(256 * mib)},
	{name: "crowd", about: "1,000 strangers behind 125 MB/s, 100,000 pieces of 16 MiB: in order", spec: crowd, run: reading(gib), large: true},
	{name: "crowd-seek", about: "the same: 64 KiB anywhere", spec: crowd, run: seeking(30), large: true},
	{name: "crowd-play", about: "the same: a player at 10 MB/s", spec: crowd, run: playing(10*mB, gib), large: true},
	{name: "grains", about: "1,000 strangers behind 125 MB/s, 100,000 pieces of 16 KiB: in order", spec: grains, run: reading(gib), large: true},
}

func TestSimulation(t *testing.T) {
	for _, c := range append(targets, large...) {
		t.Run(c.name, func(t *testing.T) {
			if c.large && testing.Short() {
				t.Skip("a large swarm")
			}
			began := time.Now()
			w := newWorld(t, c.spec)
			o := c.run(w)
			t.Logf("%-12s first %v share %.3f seek %v %v %v jump %v %v start %v stalled %v least %.2f waste %.4f took %v steps %d real %v",
				c.name, o.first.Round(ms), o.share, percentile(o.seeks, .5).Round(ms), percentile(o.seeks, .95).Round(ms), percentile(o.seeks, 1).Round(ms),
				percentile(o.jumps, .5).Round(ms), percentile(o.jumps, .95).Round(ms), o.start.Round(ms), o.stalled.Round(ms), o.least, o.waste, o.took.Round(ms), w.steps, time.Since(began).Round(ms))
			c.limit.check(t, w, o)
		})
	}
}

func (l *limits) check(t *testing.T, w *world, o outcome) {
	within := func(what string, got, most time.Duration) {
		if most > 0 && got > most {
			t.Errorf("%s %v, more than %v", what, got.Round(ms), most)
		}
	}
	within("first byte", o.first, l.first)
	within("median seek", percentile(o.seeks, 0.5), l.seek50)
	within("95th percentile of seeks", percentile(o.seeks, 0.95), l.seek95)
	within("95th percentile of jumps", percentile(o.jumps, 0.95), l.jump95)
	within("start of play", o.start, l.start)
	if l.plays && o.stalled > l.stalled {
		t.Errorf("stood still for %v", o.stalled.Round(ms))
	}
	if o.share < l.share {
		t.Errorf("%.1f%% of the swarm's rate, less than %.1f%%", 100*o.share, 100*l.share)
	}
	if o.least < l.least {
		t.Errorf("a reader had %.2f of its share", o.least)
	}
	waste := l.waste
	if waste == 0 {
		waste = hedgeShare + float64(hedgeBurst)/float64(w.stored)
	}
	if o.waste > waste {
		t.Errorf("%.1f%% wasted, more than %.1f%%", 100*o.waste, 100*waste)
	}
	if w.honest > 0 {
		t.Errorf("%d honest peers were banned", w.honest)
	}
}

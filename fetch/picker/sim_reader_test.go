package picker

import (
	"slices"
	"time"
)

// The readers do what the readers of the benchmark do (cmd/torrentfs/bench), with the windows that package fs gives them.

const (
	chunk      = 128 << 10
	seekSize   = 64 << 10
	maxWindow  = 64 << 20
	readerCopy = 40 * time.Microsecond // what a chunk that is here takes
)

// read calls done once the bytes [off, off+n) are here.
func (w *world) read(off, n int64, done func()) {
	missing := 1
	got := func() {
		if missing--; missing == 0 {
			w.after(readerCopy, done)
		}
	}
	for i := int(off / w.spec.piece); i <= int((off+n-1)/w.spec.piece); i++ {
		if !w.store[i] {
			missing++
			w.want(i, got)
		}
	}
	got()
}

// simReader reads in order, with a window ahead of it that grows with the run.
type simReader struct {
	w        *world
	id       int
	off, run int64
	from, to int64 // the window announced
	rate     int64 // said of the window
	stalled  time.Duration
}

func (w *world) reader(id int, off int64) *simReader { return &simReader{w: w, id: id, off: off} }

// announce keeps the window ahead.
func (r *simReader) announce() {
	size := max(2*r.w.spec.piece, 4<<20)
	for size < maxWindow && size <= r.run {
		size *= 2
	}
	size = min(size, maxWindow)
	to := min(r.off+size, r.w.spec.size)
	if step := min(size/8, max(r.w.spec.piece, 512<<10)); r.off-r.from < step && to-r.to < step && r.to > 0 {
		return
	}
	r.from, r.to = r.off, to
	r.w.ahead(r.id, r.off, to-r.off, r.rate)
}

// next reads one chunk.
func (r *simReader) next(n int64, then func()) {
	off := r.off
	n = min(n, r.w.spec.size-off)
	r.off += n
	r.run += n
	if r.run > n || off == 0 {
		r.announce()
	}
	r.w.read(off, n, then)
}

// forward reads to end, or until the time has come, and then goes on.
func (r *simReader) forward(end int64, until time.Duration, then func()) {
	if r.off >= end || until > 0 && r.w.now >= until {
		then()
		return
	}
	r.next(chunk, func() { r.forward(end, until, then) })
}

// jump goes elsewhere; the window is withdrawn.
func (r *simReader) jump(off int64) {
	r.w.ahead(r.id, r.off, 0, 0)
	*r = simReader{w: r.w, id: r.id, off: off}
}

// play reads at a player's pace until the end.
func (r *simReader) play(rate int64, end int64, started, ended func()) {
	const opening = 256 << 10
	r.next(opening, func() {
		started()
		tick := seconds(seekSize / float64(rate))
		begun, due := r.w.now, r.w.now+opening/seekSize*tick
		var step func()
		step = func() {
			if r.off >= end {
				ended()
				return
			}
			r.w.at(due-tick, func() {
				if r.w.now-begun > time.Second {
					r.rate = rate
				}
				r.next(seekSize, func() {
					if late := r.w.now - due; late > 20*time.Millisecond {
						r.stalled += late
						due += late
					}
					due += tick
					step()
				})
			})
		}
		step()
	})
}

// outcome is what a case gave.
type outcome struct {
	first   time.Duration   // until the first byte
	seeks   []time.Duration // each
	jumps   []time.Duration // seeks of the sequential reader itself, whose window goes with it
	share   float64         // of what the swarm can give, sequential
	start   time.Duration   // of a player
	stalled time.Duration
	least   float64 // the slowest reader's part of an equal share
	waste   float64 // bytes that came more than once, or for nothing, as a share of the bytes that served
	took    time.Duration
}

func (w *world) finish(o outcome) outcome {
	o.waste = float64(w.downloaded-w.stored) / float64(max(w.stored, 1))
	o.took = w.now
	slices.Sort(o.seeks)
	slices.Sort(o.jumps)
	return o
}

// percentile of sorted times.
func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return d[min(int(p*float64(len(d))), len(d)-1)]
}

// whole reads n bytes in order.
func (w *world) whole(n int64) (o outcome) {
	r, done := w.reader(0, 0), false
	r.next(chunk, func() {
		o.first = w.now
		r.forward(n, 0, func() { done = true })
	})
	w.run(time.Hour, func() bool { return done })
	o.share = float64(n) / w.could
	return w.finish(o)
}

// seeking reads 64 KiB at n random places of the second half, between them the first half in order.
func (w *world) seeking(n int) (o outcome) {
	r, done := w.reader(0, 0), false
	var seek func()
	seek = func() {
		if len(o.seeks) == n {
			done = true
			return
		}
		at := w.spec.size/2 + w.rnd.Int64N(w.spec.size/2-seekSize)
		for w.store[int(at/w.spec.piece)] {
			at = w.spec.size/2 + w.rnd.Int64N(w.spec.size/2-seekSize)
		}
		began := w.now
		w.read(at, seekSize, func() {
			o.seeks = append(o.seeks, w.now-began)
			r.forward(w.spec.size/2, w.now+300*time.Millisecond, seek)
		})
	}
	r.next(chunk, func() {
		o.first = w.now
		r.forward(w.spec.size/2, w.now+time.Second, seek)
	})
	w.run(time.Hour, func() bool { return done })
	return w.finish(o)
}

// jumping reads in order at n random places, for a second each: the window of read-ahead goes with the reader.
func (w *world) jumping(n int) (o outcome) {
	r, done := w.reader(0, 0), false
	var jump func()
	jump = func() {
		if len(o.jumps) == n {
			done = true
			return
		}
		r.jump(w.rnd.Int64N(w.spec.size - 256<<20))
		began := w.now
		r.next(chunk, func() {
			o.jumps = append(o.jumps, w.now-began)
			r.forward(w.spec.size, w.now+time.Second, jump)
		})
	}
	r.forward(w.spec.size, w.now+time.Second, jump)
	w.run(time.Hour, func() bool { return done })
	return w.finish(o)
}

// playing plays n bytes.
func (w *world) playing(rate, n int64) (o outcome) {
	r, done := w.reader(0, 0), false
	r.play(rate, n, func() { o.start = w.now }, func() { done = true })
	w.run(time.Hour, func() bool { return done })
	o.stalled = r.stalled
	return w.finish(o)
}

// several has k readers read n bytes each at once, until the first is through.
func (w *world) several(k int, n int64) (o outcome) {
	readers, done := make([]*simReader, k), false
	for i := range readers {
		begin := int64(i) * (w.spec.size / int64(k))
		r := w.reader(i, begin)
		readers[i] = r
		w.at(0, func() { r.forward(begin+n, 0, func() { done = true }) })
	}
	w.run(time.Hour, func() bool { return done })
	sum, least := int64(0), n
	for _, r := range readers {
		sum += r.run
		least = min(least, r.run)
	}
	o.share = float64(sum) / w.could
	o.least = float64(least) * float64(k) / float64(sum)
	return w.finish(o)
}

package swarm

import (
	"slices"
	"time"

	"torrentfs/fetch/picker"
)

// Stats is what a swarm can say of itself. Bytes are of blocks, without the protocol around them.
type Stats struct {
	Peers      int     // addresses known
	Connected  int     // peers
	Unchoked   int     // of these, how many serve us
	Downloaded int64   // bytes
	Uploaded   int64   // bytes
	Verified   int64   // bytes of pieces that passed their hash
	Left       int64   // bytes that the store doesn't hold, be it that they never came or that they are gone
	Wasted     int64   // bytes that came in vain: second copies, and pieces that failed their hash
	Failed     int     // pieces that failed their hash
	Banned     int     // peers
	DownRate   float64 // bytes a second
	UpRate     float64 // bytes a second
	Waiting    []int   // pieces that readers are blocked on, in order
	Wanted     int     // pieces wanted, those and read-ahead
}

// meters counts what happened.
type meters struct {
	downloaded, uploaded, verified, wasted int64
	failed, banned                         int
	down, up                               rate
}

// rate is a smoothed rate of a growing count of bytes.
type rate struct {
	perSecond float64
	last      int64
	at        time.Duration
}

// update takes the count's value at a time.
func (r *rate) update(count int64, now time.Duration) {
	if dt := (now - r.at).Seconds(); dt > 0 {
		r.perSecond += (float64(count-r.last)/dt - r.perSecond) / 2
		r.last, r.at = count, now
	}
}

// Stats returns the swarm's figures as they are now; of a closed swarm, nothing.
func (s *Swarm) Stats() (st Stats) {
	s.call(func(l *loop) {
		m := &l.meters
		st = Stats{
			Peers: len(l.pool.byAddr), Connected: len(l.members.all), Downloaded: m.downloaded, Uploaded: l.uploaded(),
			Verified: m.verified, Wasted: m.wasted, Failed: m.failed, Banned: m.banned,
			DownRate: m.down.perSecond, UpRate: m.up.perSecond, Wanted: len(l.demand.targets),
			Left: l.holdings.left,
		}
		for _, t := range l.demand.targets {
			if t.class == picker.Blocked {
				st.Waiting = append(st.Waiting, t.index)
			}
		}
		slices.Sort(st.Waiting)
		for _, m := range l.members.all {
			if !m.choking && !m.doubted {
				st.Unchoked++
			}
		}
	})
	return st
}

// uploaded is the number of bytes sent to peers, those that left included.
func (l *loop) uploaded() int64 {
	n := l.meters.uploaded
	for _, m := range l.members.all {
		n += m.conn.Uploaded()
	}
	return n
}

// measure brings the rates up to date, once a second.
func (l *loop) measure() {
	l.meters.down.update(l.meters.downloaded, l.now)
	l.meters.up.update(l.uploaded(), l.now)
	for _, m := range l.members.all {
		m.rate[0].update(m.downloaded, l.now)
		m.rate[1].update(m.conn.Uploaded(), l.now)
	}
}

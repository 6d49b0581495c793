package dht

import (
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

const (
	queryRate  = 50 // queries of others answered, a second
	queryBurst = 100
	gateSlots  = 1024
	// perOrigin is how many queries of one origin are answered in a period. More can't be meant honestly, and an
	// answer is larger than its query: a forged sender could have us flood somebody.
	perOrigin    = 20
	originPeriod = 2 * time.Second
)

// gate bounds the queries that are answered, in all and for each origin. Its memory is fixed: origins share slots by
// chance, with a seed that nobody knows. It is for one goroutine.
type gate struct {
	all   *rate.Limiter
	seed  maphash.Seed
	slots [gateSlots]slot
}

type slot struct {
	period int64
	used   int
}

func newGate() *gate {
	return &gate{all: rate.NewLimiter(queryRate, queryBurst), seed: maphash.MakeSeed()}
}

// admit says whether a query from an address is to be answered.
func (g *gate) admit(from netip.Addr, now time.Time) bool {
	s := &g.slots[maphash.Comparable(g.seed, origin(from))%gateSlots]
	if period := now.UnixNano() / int64(originPeriod); s.period != period {
		*s = slot{period: period}
	}
	if s.used == perOrigin && !local(from) {
		return false
	}
	s.used = min(s.used+1, perOrigin)
	return g.all.AllowN(now, 1)
}

package tracker

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"sync"
	"time"
)

// Server is a small HTTP tracker, for the demo and for tests. It keeps what it is told in memory, within bounds, and
// serves whatever torrent it is asked for. The zero value is ready for use; fields are set before it is.
type Server struct {
	Interval    time.Duration // told to clients; a minute when 0. Who is silent for two of them is forgotten.
	MinInterval time.Duration // told to clients unless 0

	mu     sync.Mutex
	swarms map[string]map[netip.AddrPort]*member // by info-hash
}

// member is one peer of a swarm.
type member struct {
	id   string
	seed bool
	seen time.Time
}

const (
	serverMaxSwarms  = 1000
	serverMaxMembers = 1000 // of one swarm
	serverNumWant    = 50
)

// ServeHTTP answers announces at any path ending in /announce, and nothing else.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if path.Base(req.URL.Path) != "announce" {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	reply, err := s.announce(req)
	if err != nil {
		reply = fmt.Appendf(nil, "d14:failure reason%d:%se", len(err.Error()), err)
	}
	_, _ = w.Write(reply) // a client that is gone has no use for it
}

// announce does what an announce asks for and returns the bencoded reply. An error is for the client to read.
func (s *Server) announce(req *http.Request) ([]byte, error) {
	q := req.URL.Query()
	hash, id := q.Get("info_hash"), q.Get("peer_id")
	if len(hash) != 20 {
		return nil, fmt.Errorf("info_hash is of %d bytes, not 20", len(hash))
	}
	if len(id) != 20 {
		return nil, fmt.Errorf("peer_id is of %d bytes, not 20", len(id))
	}
	port, err := strconv.ParseUint(q.Get("port"), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port is not a port")
	}
	from, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return nil, fmt.Errorf("no address to be reached at")
	}
	self := netip.AddrPortFrom(from.Addr().Unmap(), uint16(port))
	want := serverNumWant
	if n, err := strconv.Atoi(q.Get("numwant")); err == nil && n >= 0 {
		want = min(n, DefaultNumWant)
	}
	m := &member{id: id, seed: q.Get("left") == "0", seen: time.Now()}

	s.mu.Lock()
	defer s.mu.Unlock()
	swarm := s.swarm(hash)
	if swarm == nil {
		return nil, fmt.Errorf("too many torrents here")
	}
	if q.Get("event") == "stopped" {
		delete(swarm, self)
		want = 0
	} else if _, ok := swarm[self]; ok || len(swarm) < serverMaxMembers {
		swarm[self] = m
	}
	var peers []netip.AddrPort
	for addr, other := range swarm { // in random order, as Go has it
		if len(peers) == want {
			break
		}
		if addr != self && addr.Port() != 0 && !(m.seed && other.seed) {
			peers = append(peers, addr)
		}
	}
	return s.reply(swarm, peers, q.Get("compact") != "0", q.Get("no_peer_id") == "1"), nil
}

// swarm returns the swarm of a torrent, without those not heard of for long. It is nil if there is no room for it.
func (s *Server) swarm(hash string) map[netip.AddrPort]*member {
	if s.swarms == nil {
		s.swarms = make(map[string]map[netip.AddrPort]*member)
	}
	swarm := s.swarms[hash]
	if swarm != nil {
		s.forget(swarm)
		return swarm
	}
	if len(s.swarms) == serverMaxSwarms {
		maps.DeleteFunc(s.swarms, func(_ string, other map[netip.AddrPort]*member) bool {
			s.forget(other)
			return len(other) == 0
		})
	}
	if len(s.swarms) == serverMaxSwarms {
		return nil
	}
	swarm = make(map[netip.AddrPort]*member)
	s.swarms[hash] = swarm
	return swarm
}

// forget drops the peers that have been silent for too long.
func (s *Server) forget(swarm map[netip.AddrPort]*member) {
	oldest := time.Now().Add(-2 * s.interval())
	maps.DeleteFunc(swarm, func(_ netip.AddrPort, m *member) bool { return m.seen.Before(oldest) })
}

func (s *Server) interval() time.Duration {
	if s.Interval == 0 {
		return time.Minute
	}
	return s.Interval
}

// reply bencodes the reply to an announce: its keys in order, its peers compact or as dictionaries.
func (s *Server) reply(swarm map[netip.AddrPort]*member, peers []netip.AddrPort, compact, noID bool) []byte {
	seeds := 0
	for _, m := range swarm {
		if m.seed {
			seeds++
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "d8:completei%de10:incompletei%de8:intervali%de", seeds, len(swarm)-seeds, s.interval()/time.Second)
	if s.MinInterval > 0 {
		fmt.Fprintf(&b, "12:min intervali%de", s.MinInterval/time.Second)
	}
	b.WriteString("5:peers")
	if !compact {
		b.WriteByte('l')
		for _, p := range peers {
			ip := p.Addr().String()
			fmt.Fprintf(&b, "d2:ip%d:%s", len(ip), ip)
			if !noID {
				fmt.Fprintf(&b, "7:peer id20:%s", swarm[p].id)
			}
			fmt.Fprintf(&b, "4:porti%dee", p.Port())
		}
		b.WriteString("ee")
		return b.Bytes()
	}
	var list4, list6 []byte
	for _, p := range peers {
		if p.Addr().Is4() {
			list4 = appendCompact(list4, p)
		} else {
			list6 = appendCompact(list6, p)
		}
	}
	fmt.Fprintf(&b, "%d:%s", len(list4), list4)
	if len(list6) > 0 {
		fmt.Fprintf(&b, "6:peers6%d:%s", len(list6), list6)
	}
	b.WriteByte('e')
	return b.Bytes()
}

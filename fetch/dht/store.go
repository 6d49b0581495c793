package dht

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"net/netip"
	"time"
)

const (
	maxTorrents  = 2000 // that others announce to us
	maxAnnounced = 100  // peers of each
	maxReturned  = 40   // peers of one answer, so that it fits in a frame
	peerLife     = 45 * time.Minute
	tokenLife    = 5 * time.Minute // of a secret; a token is good for up to twice that
	tokenSize    = 8
)

// store keeps the peers that others announce to us, within bounds. It is for one goroutine.
type store struct {
	torrents map[[idSize]byte]map[netip.AddrPort]time.Time
	secrets  [2][16]byte // this period's and the one before
	period   int64
}

func newStore() *store { return &store{torrents: make(map[[idSize]byte]map[netip.AddrPort]time.Time)} }

// add keeps a peer. Where there is no room the oldest peer, or another torrent, has to go.
func (s *store) add(hash [idSize]byte, peer netip.AddrPort, now time.Time) {
	peers := s.torrents[hash]
	if peers == nil {
		s.makeRoom(now)
		peers = make(map[netip.AddrPort]time.Time)
		s.torrents[hash] = peers
	}
	if _, known := peers[peer]; !known && len(peers) == maxAnnounced {
		var oldest netip.AddrPort
		for p, at := range peers {
			if !oldest.IsValid() || at.Before(peers[oldest]) {
				oldest = p
			}
		}
		delete(peers, oldest)
	}
	peers[peer] = now
}

// makeRoom lets a torrent go, one that has no peers any more if there is one among a few.
func (s *store) makeRoom(now time.Time) {
	if len(s.torrents) < maxTorrents {
		return
	}
	tries := 0
	for hash := range s.torrents { // which begins anywhere
		if s.expire(hash, now); len(s.torrents) < maxTorrents {
			return
		}
		if tries++; tries == 8 {
			delete(s.torrents, hash)
			return
		}
	}
}

func (s *store) expire(hash [idSize]byte, now time.Time) {
	peers := s.torrents[hash]
	for p, at := range peers {
		if now.Sub(at) > peerLife {
			delete(peers, p)
		}
	}
	if len(peers) == 0 {
		delete(s.torrents, hash)
	}
}

// get returns some of the peers of a torrent, in compact form.
func (s *store) get(hash [idSize]byte, now time.Time) []string {
	s.expire(hash, now)
	var found []string
	for p := range s.torrents[hash] {
		if found = append(found, string(appendAddr(nil, p))); len(found) == maxReturned {
			break
		}
	}
	return found
}

// token is what an address has to show when it announces a peer: it proves that it gets our answers.
func (s *store) token(ip netip.Addr, now time.Time) string {
	s.turn(now)
	return s.sign(0, ip)
}

// valid says whether an address got the token from us lately.
func (s *store) valid(token string, ip netip.Addr, now time.Time) bool {
	s.turn(now)
	good := 0
	for i := range s.secrets {
		good |= subtle.ConstantTimeCompare([]byte(token), []byte(s.sign(i, ip)))
	}
	return good == 1
}

func (s *store) turn(now time.Time) {
	period := now.UnixNano() / int64(tokenLife)
	if period == s.period {
		return
	}
	s.secrets[1] = s.secrets[0]
	if period != s.period+1 {
		_, _ = rand.Read(s.secrets[1][:]) // never fails
	}
	_, _ = rand.Read(s.secrets[0][:])
	s.period = period
}

func (s *store) sign(secret int, ip netip.Addr) string {
	b := ip.As16()
	sum := sha1.Sum(append(s.secrets[secret][:len(s.secrets[secret]):len(s.secrets[secret])], b[:]...))
	return string(sum[:tokenSize])
}

// Package lsd finds peers of a torrent on the local network by multicast (BEP 14). It owns the sockets in the two
// multicast groups, and the times at which torrents are announced there. It never connects to a peer, and knows nothing
// of torrents but their info-hashes: that a private one isn't announced (BEP 27) is up to its caller.
package lsd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	randv2 "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	sockets "torrentfs/fetch/socket"
)

const (
	announceEvery = 5 * time.Minute // a torrent (BEP 14)
	// perMinute bounds the announces of a torrent, answers included. One alone would have peers that come up one after
	// another wait for a minute to hear of each other.
	perMinute   = 5
	answerDelay = time.Second // at most, so that not everybody answers at once
	// lookEvery is how often there is a look for new interfaces, and for those that could not be sent to.
	lookEvery = 5 * time.Second
	// repeatEvery is how long a peer that announces itself again and again is told of once.
	repeatEvery = 30 * time.Second
	// heardLife is how long a peer is remembered: past its next regular announce, which needs no answer.
	heardLife = announceEvery + time.Minute
	maxHeard  = 1024

	readRate  = 50 // messages looked at, a second and family
	readBurst = 200
)

// Config says what a Service is made of.
type Config struct {
	// Found is told of peers for the torrents that are announced; it is a stranger's claim. It may be called twice at
	// a time, and should not block. An IPv6 address that is link-local has a zone.
	Found func(infoHash [20]byte, peer netip.AddrPort)
	// Sockets opens what the service needs; nil: as the system does by default.
	Sockets *sockets.Opener
	Logger  *slog.Logger // nil: nowhere
}

// Service announces torrents on the local network, and hears of those that others announce. Its methods are safe for
// concurrent use.
type Service struct {
	cfg     Config
	cookie  string
	sockets []*socket
	wake    chan struct{}
	done    chan struct{}
	closing sync.Once
	wg      sync.WaitGroup

	mu       sync.Mutex
	torrents map[[20]byte]*torrent
	heard    map[claim]time.Time
}

// torrent is one that is announced.
type torrent struct {
	port uint16
	next time.Time
	last [perMinute]time.Time // it was announced, the latest first
}

// claim is what a peer says of itself.
type claim struct {
	hash [20]byte
	peer netip.AddrPort
}

// New starts a service. It fails where there is no multicast in either family.
func New(cfg Config) (*Service, error) {
	if cfg.Sockets == nil {
		cfg.Sockets = new(sockets.Opener)
	}
	var opened []*socket
	var errs []error
	for _, group := range []netip.Addr{group4, group6} {
		s, err := open(cfg.Sockets, group)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		opened = append(opened, s)
	}
	if len(opened) == 0 {
		return nil, errors.Join(errs...)
	}
	return start(cfg, opened), nil
}

func start(cfg Config, opened []*socket) *Service {
	if cfg.Sockets == nil {
		cfg.Sockets = new(sockets.Opener)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var cookie [8]byte
	_, _ = rand.Read(cookie[:]) // never fails
	s := &Service{
		cfg: cfg, cookie: hex.EncodeToString(cookie[:]), sockets: opened,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		torrents: make(map[[20]byte]*torrent), heard: make(map[claim]time.Time),
	}
	for _, sock := range opened {
		s.wg.Go(func() { s.listen(sock) })
	}
	s.wg.Go(s.run)
	return s
}

// Close ends the service.
func (s *Service) Close() error {
	s.closing.Do(func() {
		close(s.done)
		for _, sock := range s.sockets {
			sock.conn.Close()
		}
	})
	s.wg.Wait()
	return nil
}

// Announce has a torrent announced, now and every few minutes, as one that we take connections for at port, and has it
// looked for. With port 0 it is only looked for. Announced again, it has a new port.
func (s *Service) Announce(infoHash [20]byte, port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.torrents[infoHash]
	if t == nil {
		t = &torrent{}
		s.torrents[infoHash] = t
	}
	t.port, t.next = port, time.Now()
	s.nudge()
}

// Withdraw ends Announce.
func (s *Service) Withdraw(infoHash [20]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.torrents, infoHash)
}

func (s *Service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends announcements as they become due.
func (s *Service) run() {
	var looked time.Time
	for {
		if now := time.Now(); now.Sub(looked) >= lookEvery {
			s.update()
			looked = now
		}
		for _, a := range s.due(time.Now()) {
			for _, sock := range s.sockets {
				sock.send(a)
			}
		}
		timer := time.NewTimer(s.pause(time.Now()))
		select {
		case <-s.done:
			timer.Stop()
			return
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// update has new interfaces join, and every torrent announced on those that missed it.
func (s *Service) update() {
	interfaces, err := s.cfg.Sockets.Interfaces()
	if err != nil {
		s.cfg.Logger.Debug("lsd: cannot list the network interfaces", "error", err)
		return
	}
	var all []announcement
	s.mu.Lock()
	for hash, t := range s.torrents {
		if t.port != 0 && !t.last[0].IsZero() { // else it is due
			all = append(all, s.announcement(hash, t))
		}
	}
	s.mu.Unlock()
	for _, sock := range s.sockets {
		sock.update(interfaces)
		sock.catchUp(all)
	}
}

// announcement is for one torrent alone: some clients read the first info-hash of a message and no more.
func (s *Service) announcement(hash [20]byte, t *torrent) announcement {
	return announcement{port: t.port, hashes: [][20]byte{hash}, cookie: s.cookie}
}

// due returns the announcements to send now, and notes that they are sent.
func (s *Service) due(now time.Time) []announcement {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []announcement
	for hash, t := range s.torrents {
		if t.port != 0 && !t.next.After(now) {
			copy(t.last[1:], t.last[:])
			t.last[0], t.next = now, now.Add(announceEvery)
			due = append(due, s.announcement(hash, t))
		}
	}
	for c, at := range s.heard {
		if now.Sub(at) > heardLife {
			delete(s.heard, c)
		}
	}
	return due
}

// pause is how long nothing is due.
func (s *Service) pause(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := lookEvery
	for _, t := range s.torrents {
		if t.port != 0 {
			pause = min(pause, t.next.Sub(now))
		}
	}
	return pause
}

// listen reads what others announce.
func (s *Service) listen(sock *socket) {
	limit := rate.NewLimiter(readRate, readBurst)
	buf := make([]byte, maxMessage+1)
	for {
		n, from, err := sock.receive(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.cfg.Logger.Debug("lsd: cannot read from the socket, trying on", "error", err)
			select {
			case <-s.done:
				return
			case <-time.After(time.Second):
			}
		case limit.Allow():
			if a, err := parse(buf[:n]); err == nil && a.cookie != s.cookie {
				s.hear(a, from.Addr(), time.Now())
			}
		}
	}
}

// hear tells of a peer that announced itself, and has us announced to one that is new.
func (s *Service) hear(a announcement, from netip.Addr, now time.Time) {
	peer := netip.AddrPortFrom(from, a.port)
	for _, hash := range a.hashes {
		if s.note(claim{hash, peer}, now) {
			s.cfg.Found(hash, peer)
		}
	}
}

// note says whether a claim is of a torrent of ours, and was not made just before.
func (s *Service) note(c claim, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.torrents[c.hash]
	if t == nil {
		return false
	}
	at, again := s.heard[c]
	if again && now.Sub(at) < repeatEvery {
		return false
	}
	if !again {
		if len(s.heard) >= maxHeard {
			s.forget()
		}
		// The sender is new, and may have missed our last announce.
		soon := now.Add(randv2.N(answerDelay))
		if earliest := t.last[perMinute-1].Add(time.Minute); earliest.After(soon) {
			soon = earliest
		}
		if soon.Before(t.next) {
			t.next = soon
			s.nudge()
		}
	}
	s.heard[c] = now
	return true
}

// forget makes room for a peer.
func (s *Service) forget() {
	var oldest claim
	var at time.Time
	for c, t := range s.heard {
		if at.IsZero() || t.Before(at) {
			oldest, at = c, t
		}
	}
	delete(s.heard, oldest)
}

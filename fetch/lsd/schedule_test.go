package lsd

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// lan is a network segment made up: what is sent to it can be read, what is put in arrives.
type lan struct {
	net.PacketConn // nil: nothing else is called
	sent           chan announcement
	in             chan packet
	closed         chan struct{}
}

type packet struct {
	b    []byte
	from net.Addr
	to   netip.Addr
}

func (l *lan) join(*net.Interface, net.Addr) error  { return nil }
func (l *lan) leave(*net.Interface, net.Addr) error { return nil }
func (l *lan) Close() error                         { close(l.closed); return nil }

func (l *lan) write(b []byte, _ int, _ net.Addr) error {
	a, err := parse(b)
	if err == nil {
		l.sent <- a
	}
	return err
}

func (l *lan) read(b []byte) (int, net.Addr, net.IP, int, error) {
	select {
	case p := <-l.in:
		return copy(b, p.b), p.from, p.to.AsSlice(), 1, nil
	case <-l.closed:
		return 0, nil, nil, 0, net.ErrClosed
	}
}

// hears has a peer announce a torrent.
func (l *lan) hears(from string, a announcement) {
	l.in <- packet{a.encode("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)), group4}
	synctest.Wait()
}

func (l *lan) count() int {
	synctest.Wait()
	n := 0
	for {
		select {
		case <-l.sent:
			n++
		default:
			return n
		}
	}
}

// onLAN runs a test with a service on a segment of one interface, in virtual time.
func onLAN(t *testing.T, f func(t *testing.T, s *Service, l *lan, found chan claim)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lan{sent: make(chan announcement, 100), in: make(chan packet), closed: make(chan struct{})}
		found := make(chan claim, 100)
		sock := &socket{group: group4, conn: l, ops: l}
		s := start(Config{Found: func(h [20]byte, p netip.AddrPort) { found <- claim{h, p} }}, []*socket{sock})
		synctest.Wait()
		f(t, s, l, found)
		s.Close()
	})
}

func TestSchedule(t *testing.T) {
	onLAN(t, func(t *testing.T, s *Service, l *lan, found chan claim) {
		s.Announce(hash, 7)
		synctest.Wait()
		interfaces := l.count()
		if interfaces == 0 {
			t.Fatal("nothing announced at the start")
		}
		steps := []struct {
			wait time.Duration
			hear string
			want int // announces since
		}{
			{announceEvery - time.Second, "", 0},
			{time.Second, "", 1},
			{2 * time.Minute, "10.0.0.2:6771", 0},
			{answerDelay, "", 1}, // to one that is new
			{0, "10.0.0.3:6771", 0},
			{answerDelay, "", 1},
			{0, "10.0.0.4:6771", 0},
			{answerDelay, "", 1},
			{0, "10.0.0.5:6771", 0},
			{answerDelay, "", 1},
			{0, "10.0.0.6:6771", 0},
			{answerDelay, "", 1},
			{0, "10.0.0.7:6771", 0},
			{answerDelay, "", 0}, // no more than perMinute in a minute
			{time.Minute, "10.0.0.2:6771", 1},
			{time.Minute, "", 0}, // one that is known needs no answer
			{announceEvery, "", 1},
		}
		for i, c := range steps {
			time.Sleep(c.wait)
			if got := l.count(); got != c.want*interfaces {
				t.Errorf("step %d: %d announces on %d interfaces, want %d on each", i, got, interfaces, c.want)
			}
			if c.hear != "" {
				l.hears(c.hear, announcement{port: 9, hashes: [][20]byte{hash}})
				if len(found) != 1 {
					t.Errorf("step %d: told of %d peers", i, len(found))
					continue
				}
				if got := <-found; got.hash != hash || got.peer.Port() != 9 {
					t.Errorf("step %d: found %v", i, got)
				}
			}
		}
		s.Announce(hash, 0)
		l.hears("10.0.0.99:6771", announcement{port: 9, hashes: [][20]byte{hash}})
		if len(found) != 1 {
			t.Error("not looked for without a port")
		}
		time.Sleep(announceEvery)
		if n := l.count(); n != 0 {
			t.Errorf("%d announces without a port", n)
		}
		s.Announce(hash, 8)
		if n := l.count(); n != interfaces {
			t.Errorf("%d announces with another port", n)
		}
		s.Withdraw(hash)
		time.Sleep(announceEvery)
		if n := l.count(); n != 0 {
			t.Errorf("%d announces after Withdraw", n)
		}
	})
}

func TestPassedOver(t *testing.T) {
	onLAN(t, func(t *testing.T, s *Service, l *lan, found chan claim) {
		s.Announce(hash, 7)
		other := announcement{port: 9, hashes: [][20]byte{hash}, cookie: "other"}
		own := announcement{port: 9, hashes: [][20]byte{hash}, cookie: s.cookie}
		l.hears("10.0.0.1:6771", own)
		l.hears("10.0.0.1:6771", announcement{port: 9, hashes: [][20]byte{{1}}})
		l.in <- packet{other.encode("x"), &net.UDPAddr{IP: net.IPv4(8, 8, 8, 8), Port: 6771}, netip.MustParseAddr("10.0.0.9")}
		l.in <- packet{[]byte("junk"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 6771}, group4}
		synctest.Wait()
		if len(found) != 0 {
			t.Errorf("told of %v", <-found)
		}
		l.hears("10.0.0.1:6771", other)
		l.hears("10.0.0.1:6771", other)
		if len(found) != 1 {
			t.Errorf("told %d times of a peer that repeats itself", len(found))
		}
		time.Sleep(repeatEvery)
		l.hears("10.0.0.1:6771", other)
		if len(found) != 2 {
			t.Errorf("told %d times of a peer that is still there", len(found))
		}
	})
}

// TestFlood has a machine announce ever more peers: what is remembered and told stays bounded.
func TestFlood(t *testing.T) {
	onLAN(t, func(t *testing.T, s *Service, l *lan, found chan claim) {
		s.Announce(hash, 7)
		told := 0
		for port := range uint16(1000) {
			l.hears("10.0.0.1:6771", announcement{port: port + 1, hashes: [][20]byte{hash}})
			for len(found) > 0 {
				<-found
				told++
			}
		}
		if told > readBurst {
			t.Errorf("told of %d peers at once", told)
		}
		for range 100 {
			time.Sleep(time.Second)
			for port := range uint16(100) {
				s.note(claim{hash, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), port+uint16(time.Now().Unix())*100)}, time.Now())
			}
			l.count()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.heard) > maxHeard {
			t.Errorf("%d peers remembered", len(s.heard))
		}
	})
}

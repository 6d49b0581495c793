package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lostAfter is how long a peer may leave what we sent unacknowledged on a socket that is bound to a device.
	lostAfter = time.Minute
	// lookEvery is how often there is a look at whether the device is another one by now.
	lookEvery = 2 * time.Second
)

// lasting is a socket that is to outlive the device that it is bound to.
type lasting interface {
	// settled says whether it is bound to the device that has the name now.
	settled() bool
	// reopen moves it to the device that has the name now.
	reopen(ctx context.Context) error
}

// Listen listens for TCP connections. A listener that is bound to a device which goes for good moves to the next one of
// that name (see Watch).
func (o *Opener) Listen(ctx context.Context, address string) (net.Listener, error) {
	if o.proxy != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, ErrProxied)
	}
	network, at, err := o.place("tcp", address)
	if err != nil {
		return nil, err
	}
	l, err := o.config().Listen(ctx, network, at)
	if err != nil || o.cfg.Device == "" {
		return l, err
	}
	m := &listener{moving: moving[net.Listener]{now: l}, opener: o, network: network}
	o.keep(m)
	return m, nil
}

// config makes sockets that hear from others. Not over several paths at once (MPTCP): the kernel would choose their
// devices.
func (o *Opener) config() *net.ListenConfig {
	c := &net.ListenConfig{Control: o.bind}
	c.SetMultipathTCP(false)
	return c
}

// ListenPacket opens a socket for datagrams. One that is bound to a device which goes for good moves to the next one of
// that name (see Watch), except in a multicast group: those are package net's own *net.UDPConn.
func (o *Opener) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if o.proxy != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, ErrProxied)
	}
	network, address, err := o.place(network, address)
	if err != nil {
		return nil, err
	}
	c, err := o.config().ListenPacket(ctx, network, address)
	if err != nil || o.cfg.Device == "" {
		return c, err
	}
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().IsMulticast() {
		return c, nil
	}
	m := &packetConn{moving: moving[net.PacketConn]{now: c}, opener: o, network: network}
	o.keep(m)
	return m, nil
}

// place is where to listen. The address that all is sent from comes in the place of one that means any, and such a one,
// where it is written out, picks the family: package net would take 0.0.0.0 for both.
func (o *Opener) place(network, address string) (string, string, error) {
	network, err := o.narrow(network)
	if err != nil {
		return "", "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", err
	}
	ip, _ := netip.ParseAddr(host) // of a name there is none
	if ip = ip.Unmap(); host != "" && !ip.IsUnspecified() {
		return network, address, nil
	}
	if o.cfg.Local.IsValid() {
		return network, net.JoinHostPort(o.cfg.Local.String(), port), nil
	}
	if network == "tcp" || network == "udp" {
		network += familyOf(ip)
	}
	return network, net.JoinHostPort("", port), nil
}

// keep has a socket moved to the next device, and drop lets go of it.
func (o *Opener) keep(s lasting) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lasting == nil {
		o.lasting = make(map[lasting]struct{})
	}
	o.lasting[s] = struct{}{}
}

func (o *Opener) drop(s lasting) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.lasting, s)
}

// Watch looks after the device until ctx ends: when another one takes its name, as a tunnel does that is set up anew,
// the sockets that listen move to it. back is called, on the same goroutine, when that has happened and when a device
// that was down is up again.
func (o *Opener) Watch(ctx context.Context, back func()) {
	if o.cfg.Device == "" {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	up := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ifi, err := net.InterfaceByName(o.cfg.Device)
		ready := err == nil && ifi.Flags&net.FlagUp != 0 && ifi.Flags&net.FlagRunning != 0
		if up && !ready {
			o.cfg.Logger.Warn("the network interface is down: nothing is sent until it is back", "interface", o.cfg.Device)
		}
		if ready && o.move(ctx, ifi.Index) || ready && !up {
			o.cfg.Logger.Info("the network interface is back", "interface", o.cfg.Device)
			back()
		}
		up = ready
	}
}

// move takes the lasting sockets to the device with an index, and says whether that is another one than before and all are
// there now. One that can't be moved is tried again with the next look; it keeps none of the others.
func (o *Opener) move(ctx context.Context, index int) bool {
	o.mu.Lock()
	all := slices.Collect(maps.Keys(o.lasting))
	o.mu.Unlock()
	complete := true
	for _, s := range all {
		if s.settled() {
			continue
		}
		if err := s.reopen(ctx); err != nil {
			o.cfg.Logger.Debug("cannot listen at the new network interface yet", "interface", o.cfg.Device, "err", err)
			complete = false
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !complete || index == o.index {
		return false
	}
	o.index = index
	return true
}

// settled asks the kernel, which knows a device by its index, what the one is called that a socket is bound to. One that is
// gone has no name.
func (o *Opener) settled(socket any) bool {
	sc, ok := socket.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var name string
	failed := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	})
	return failed == nil && err == nil && name == o.cfg.Device
}

// moving is a socket in use, in whose place another may come.
type moving[T io.Closer] struct {
	mu     sync.Mutex
	now    T
	closed bool
}

func (m *moving[T]) current() T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// replace puts next in the place of what is in use, to which nothing comes any more.
func (m *moving[T]) replace(next T) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return next.Close()
	}
	old := m.now
	m.now = next
	_ = old.Close()
	return nil
}

func (m *moving[T]) end() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return m.now.Close()
}

// listener is a net.Listener that moves from device to device.
type listener struct {
	moving[net.Listener]

	opener  *Opener
	network string
}

// Accept implements net.Listener.
func (m *listener) Accept() (net.Conn, error) {
	for {
		l := m.current()
		c, err := l.Accept()
		if err != nil && l != m.current() {
			continue
		}
		return c, err
	}
}

// Addr implements net.Listener.
func (m *listener) Addr() net.Addr { return m.current().Addr() }

// Close implements net.Listener.
func (m *listener) Close() error {
	m.opener.drop(m)
	return m.end()
}

func (m *listener) settled() bool { return m.opener.settled(m.current()) }

func (m *listener) reopen(ctx context.Context) error {
	next, err := m.opener.config().Listen(ctx, m.network, m.Addr().String())
	if err != nil {
		return err
	}
	return m.replace(next)
}

// packetConn is a net.PacketConn that moves from device to device.
type packetConn struct {
	moving[net.PacketConn]

	opener  *Opener
	network string
}

// ReadFrom implements net.PacketConn.
func (m *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		c := m.current()
		n, from, err := c.ReadFrom(p)
		if err != nil && c != m.current() {
			continue
		}
		return n, from, err
	}
}

// WriteTo implements net.PacketConn.
func (m *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	c := m.current()
	n, err := c.WriteTo(p, to)
	if errors.Is(err, net.ErrClosed) && c != m.current() {
		return m.current().WriteTo(p, to)
	}
	return n, err
}

// LocalAddr implements net.PacketConn.
func (m *packetConn) LocalAddr() net.Addr { return m.current().LocalAddr() }

// SetDeadline implements net.PacketConn. It doesn't outlast a move.
func (m *packetConn) SetDeadline(t time.Time) error { return m.current().SetDeadline(t) }

// SetReadDeadline implements net.PacketConn. It doesn't outlast a move.
func (m *packetConn) SetReadDeadline(t time.Time) error { return m.current().SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn. It doesn't outlast a move.
func (m *packetConn) SetWriteDeadline(t time.Time) error { return m.current().SetWriteDeadline(t) }

// Close implements net.PacketConn.
func (m *packetConn) Close() error {
	m.opener.drop(m)
	return m.end()
}

func (m *packetConn) settled() bool { return m.opener.settled(m.current()) }

func (m *packetConn) reopen(ctx context.Context) error {
	next, err := m.opener.config().ListenPacket(ctx, m.network, m.LocalAddr().String())
	if err != nil {
		return err
	}
	return m.replace(next)
}

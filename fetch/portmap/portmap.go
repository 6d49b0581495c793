// Package portmap has the router of a home network let peers in: it asks for our ports to be mapped by NAT-PMP (RFC 6886)
// or UPnP (Internet Gateway Device), keeps the mappings alive, and takes them back in the end. It owns no port itself. A
// router is a stranger like any other: it leads nowhere but to itself, and what it says is bounded.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"torrentfs/fetch/reach"
	"torrentfs/fetch/socket"
)

const (
	lease        = time.Hour        // asked for, and renewed when half of it has passed
	shortest     = time.Minute      // between renewals, whatever lease a router gives
	roundLimit   = 20 * time.Second // for finding a router and asking for everything
	firstPause   = time.Minute      // before a router is looked for again; doubles each time
	longestPause = time.Hour
	withdrawing  = time.Second // that Close may take for the router
)

// Protocol is what is mapped.
type Protocol string

// The protocols.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// Config says what a Mapper is made of.
type Config struct {
	Sockets *socket.Opener // required
	Logger  *slog.Logger   // nil: nowhere
	// Open, if any, is told that the router maps a port, at an address of the Internet or one that the router does not know:
	// when it begins to, and every half an hour at least as long as it does. It should not block.
	Open func(Protocol)
}

// gateway is a router that maps ports.
type gateway interface {
	// mapPort has a port of the router's lead to the same of ours, for a lease that it returns, 0 being for ever.
	mapPort(ctx context.Context, m mapping, lease time.Duration) (time.Duration, error)
	// unmap takes that back.
	unmap(ctx context.Context, m mapping) error
	// external is the router's address in the Internet; invalid if it doesn't know.
	external(ctx context.Context) netip.Addr
	// String is the protocol that it speaks.
	String() string
}

// mapping is a port to be reached at.
type mapping struct {
	protocol Protocol
	port     uint16
}

// Mapper has ports mapped. Its methods are safe for concurrent use.
type Mapper struct {
	cfg    Config
	find   func(ctx context.Context) (gateway, error)
	wake   chan struct{} // capacity 1
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	wanted map[mapping]bool // whether it is to be asked for now

	// Of the goroutine that runs, and of Close when that has ended.
	router gateway           // nil: none is known
	mapped map[mapping]error // what was asked for, and what came of it
}

// New starts a mapper. It waits for nothing.
func New(cfg Config) *Mapper {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := newMapper(cfg, nil)
	m.find = m.findGateway
	m.start()
	return m
}

func newMapper(cfg Config, find func(ctx context.Context) (gateway, error)) *Mapper {
	return &Mapper{
		cfg: cfg, find: find, wake: make(chan struct{}, 1), wanted: make(map[mapping]bool), mapped: make(map[mapping]error),
	}
}

func (m *Mapper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.wg.Go(func() { m.run(ctx) })
}

// Map has a port of ours mapped from now on. It doesn't wait for that.
func (m *Mapper) Map(protocol Protocol, port uint16) {
	m.mu.Lock()
	m.wanted[mapping{protocol, port}] = true
	m.mu.Unlock()
	m.soon()
}

// Again has everything mapped anew: we may be in another network.
func (m *Mapper) Again() {
	m.wantAll()
	m.soon()
}

func (m *Mapper) wantAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.wanted {
		m.wanted[p] = true
	}
}

func (m *Mapper) soon() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be asked for now.
func (m *Mapper) take() []mapping {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ask []mapping
	for p, now := range m.wanted {
		if now {
			ask = append(ask, p)
			m.wanted[p] = false
		}
	}
	return ask
}

// Close takes the mappings back, for which it waits a second at most, and ends the mapper.
func (m *Mapper) Close() {
	m.cancel()
	m.wg.Wait()
	if m.router == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), withdrawing)
	defer cancel()
	var wg sync.WaitGroup
	for p, err := range m.mapped {
		if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			wg.Go(func() {
				if err := m.router.unmap(ctx, p); err != nil {
					m.cfg.Logger.Debug("the router keeps a port mapped for a while", "port", p.port, "protocol", p.protocol, "err", err)
				}
			})
		}
	}
	wg.Wait()
}

func (m *Mapper) run(ctx context.Context) {
	pause := firstPause
	due := time.Now() // for all that is wanted
	for {
		if now := time.Now(); !now.Before(due) {
			m.wantAll()
			due = now.Add(longestPause)
		}
		// A new port is asked for alone: some routers shut a port for a moment when it is asked for again.
		if ask := m.take(); len(ask) > 0 {
			next, err := m.round(ctx, ask)
			if ctx.Err() != nil {
				return
			}
			if err != nil { // most often there is no such router
				m.cfg.Logger.Debug("no router maps our ports", "err", err)
				next, pause = pause, min(2*pause, longestPause)
			} else {
				pause = firstPause
			}
			if again := time.Now().Add(next); again.Before(due) {
				due = again
			}
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// round asks for ports, and returns when to ask again.
func (m *Mapper) round(ctx context.Context, ask []mapping) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	known := m.router
	if known == nil {
		if m.router, err = m.find(ctx); err != nil {
			m.router = nil
			return 0, err
		}
		clear(m.mapped)
	}
	next = lease / 2
	var failed error
	at := sync.OnceValue(func() netip.Addr { return m.router.external(ctx) })
	for _, p := range ask {
		granted, err := m.router.mapPort(ctx, p, lease)
		if ctx.Err() != nil && err != nil {
			err = ctx.Err() // the port may be mapped, and may not
		}
		m.tell(ctx, p, at, err)
		m.mapped[p] = err
		// A router that is behind another one itself, as a provider's may be, does not help.
		if err == nil && m.cfg.Open != nil && (!at().IsValid() || reach.Of(at()) == reach.Public) {
			m.cfg.Open(p.protocol)
		}
		failed = errors.Join(failed, err)
		if err == nil && granted > 0 {
			next = min(next, max(granted/2, shortest))
		}
	}
	if failed != nil {
		if known != nil { // it may be another one by now
			m.router = nil
		}
		return 0, failed
	}
	return next, nil
}

// tell logs what came of asking, when that is news.
func (m *Mapper) tell(ctx context.Context, p mapping, at func() netip.Addr, err error) {
	old, asked := m.mapped[p]
	switch {
	case err == nil && (!asked || old != nil):
		m.cfg.Logger.Info("the router lets peers in", "port", p.port, "protocol", p.protocol, "by", m.router.String(),
			"address", at())
	case err != nil && ctx.Err() == nil && (!asked || old == nil):
		m.cfg.Logger.Info("the router doesn't let peers in", "port", p.port, "protocol", p.protocol, "by", m.router.String(), "err", err)
	}
}

// errNoGateway is a network that has no router, or none that maps ports.
var errNoGateway = errors.New("there is none")

// findGateway finds a router that maps ports, if we are in a network that needs one.
func (m *Mapper) findGateway(ctx context.Context) (gateway, error) {
	routers, err := routers(routeTable, m.cfg.Sockets)
	if err != nil {
		return nil, err
	}
	errs := []error{errNoGateway}
	for _, router := range routers {
		us, err := m.source(ctx, router)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if reach.Of(us) != reach.Local || us.IsLoopback() {
			errs = append(errs, fmt.Errorf("%s needs no mapping", us))
			continue
		}
		pmp := &natPMP{sockets: m.cfg.Sockets, router: netip.AddrPortFrom(router, pmpPort)}
		if err := pmp.probe(ctx); err == nil {
			return pmp, nil
		}
		found, err := m.search(ctx, router, us)
		if err == nil {
			return found, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// source is the address that we send to a router from.
func (m *Mapper) source(ctx context.Context, router netip.Addr) (netip.Addr, error) {
	c, err := m.cfg.Sockets.DialContext(ctx, "udp4", netip.AddrPortFrom(router, pmpPort).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	udp, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, errNoGateway
	}
	return udp.AddrPort().Addr().Unmap(), nil
}

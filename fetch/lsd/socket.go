package lsd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	sockets "torrentfs/fetch/socket"
)

const (
	port = 6771
	hops = 1 // local means this network segment
)

var (
	group4 = netip.MustParseAddr("239.192.152.143")
	group6 = netip.MustParseAddr("ff15::efc0:988f")
)

// socket is in the multicast group of one family, on as many interfaces as there are.
type socket struct {
	group  netip.Addr
	conn   net.PacketConn
	ops    multicast
	joined map[int]bool // interfaces, by index; false: it missed an announcement, or has had none
}

// multicast is what differs between the families.
type multicast interface {
	join(ifi *net.Interface, group net.Addr) error
	leave(ifi *net.Interface, group net.Addr) error
	write(b []byte, ifi int, to net.Addr) error
	// read returns who sent a packet, where to, and through which interface.
	read(b []byte) (n int, from net.Addr, to net.IP, ifi int, err error)
}

// open opens the socket of a family. The kernel lets several programs have the port, and gives each every packet.
func open(opener *sockets.Opener, group netip.Addr) (*socket, error) {
	network := "udp4"
	if group.Is6() {
		network = "udp6"
	}
	// Given a multicast address, package net sets SO_REUSEADDR and binds to all addresses.
	conn, err := opener.ListenPacket(context.Background(), network, netip.AddrPortFrom(group, port).String())
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the local network: %w", err)
	}
	s := &socket{group: group, conn: conn, joined: make(map[int]bool)}
	if group.Is6() {
		p := ipv6.NewPacketConn(conn)
		s.ops = six{p, opener.Local().AsSlice()}
		err = first(p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true), p.SetMulticastHopLimit(hops),
			p.SetMulticastLoopback(true))
	} else {
		p := ipv4.NewPacketConn(conn)
		s.ops = four{p, opener.Local().AsSlice()}
		err = first(p.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true), p.SetMulticastTTL(hops),
			p.SetMulticastLoopback(true))
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot use multicast: %w", err)
	}
	return s, nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// update joins the group on interfaces that came up.
func (s *socket) update(interfaces []net.Interface) {
	up := make(map[int]bool)
	for _, ifi := range interfaces {
		if ifi.Flags&net.FlagUp == 0 || ifi.Flags&net.FlagMulticast == 0 && ifi.Flags&net.FlagLoopback == 0 {
			continue
		}
		ok, in := s.joined[ifi.Index]
		if !in && s.ops.join(&ifi, s.addr()) != nil {
			continue // it lacks the family; the next look tries again
		}
		up[ifi.Index] = ok
	}
	for index := range s.joined {
		if _, still := up[index]; !still { // what is gone by now has left the group
			_ = s.ops.leave(&net.Interface{Index: index}, s.addr())
		}
	}
	s.joined = up
}

// send sends to the group on every interface that has joined it.
func (s *socket) send(a announcement) {
	b := a.encode(s.addr().String())
	for index := range s.joined {
		if s.ops.write(b, index, s.addr()) != nil {
			s.joined[index] = false
		}
	}
}

// catchUp sends announcements on the interfaces that missed one: they may have had no address yet, or are new.
func (s *socket) catchUp(all []announcement) {
	for index, ok := range s.joined {
		if ok {
			continue
		}
		ok = true
		for i := 0; i < len(all) && ok; i++ {
			ok = s.ops.write(all[i].encode(s.addr().String()), index, s.addr()) == nil
		}
		s.joined[index] = ok
	}
}

// receive reads a packet that was sent to the group; whatever else arrives at the port is passed over.
func (s *socket) receive(b []byte) (int, netip.AddrPort, error) {
	for {
		n, from, to, index, err := s.ops.read(b)
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		dst, _ := netip.AddrFromSlice(to)
		udp, ok := from.(*net.UDPAddr)
		if !ok || dst.Unmap() != s.group {
			continue
		}
		a := udp.AddrPort()
		ip := a.Addr().Unmap()
		if ip.Is6() && ip.IsLinkLocalUnicast() && ip.Zone() == "" {
			ip = ip.WithZone(strconv.Itoa(index))
		}
		return n, netip.AddrPortFrom(ip, a.Port()), nil
	}
}

func (s *socket) addr() net.Addr { return net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.group, port)) }

type four struct {
	*ipv4.PacketConn
	src net.IP // that it sends from; nil: any
}

func (p four) join(ifi *net.Interface, group net.Addr) error  { return p.JoinGroup(ifi, group) }
func (p four) leave(ifi *net.Interface, group net.Addr) error { return p.LeaveGroup(ifi, group) }

func (p four) write(b []byte, ifi int, to net.Addr) error {
	_, err := p.WriteTo(b, &ipv4.ControlMessage{IfIndex: ifi, Src: p.src}, to)
	return err
}

func (p four) read(b []byte) (int, net.Addr, net.IP, int, error) {
	n, cm, from, err := p.ReadFrom(b)
	if err != nil || cm == nil {
		return n, from, nil, 0, err
	}
	return n, from, cm.Dst, cm.IfIndex, nil
}

type six struct {
	*ipv6.PacketConn
	src net.IP // that it sends from; nil: any
}

func (p six) join(ifi *net.Interface, group net.Addr) error  { return p.JoinGroup(ifi, group) }
func (p six) leave(ifi *net.Interface, group net.Addr) error { return p.LeaveGroup(ifi, group) }

func (p six) write(b []byte, ifi int, to net.Addr) error {
	_, err := p.WriteTo(b, &ipv6.ControlMessage{IfIndex: ifi, Src: p.src}, to)
	return err
}

func (p six) read(b []byte) (int, net.Addr, net.IP, int, error) {
	n, cm, from, err := p.ReadFrom(b)
	if err != nil || cm == nil {
		return n, from, nil, 0, err
	}
	return n, from, cm.Dst, cm.IfIndex, nil
}

package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The ports to choose from. Linux hands out those below to programs that don't care, so that one of these is likely to
// be free the next time, too.
const (
	firstPort = 61000
	lastPort  = 65535
	portTries = 50
)

// listenHost is the address of a host:port to listen at; invalid: every one.
func listenHost(listen string) (netip.Addr, error) {
	if listen == "" {
		return netip.Addr{}, nil
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(host)
}

// listen listens for peers. Port 0 is the one that is kept from run to run, or another while somebody has that.
func (c *Client) listen() (net.Listener, error) {
	host, port, err := net.SplitHostPort(c.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for peers: %w", err)
	}
	l, err := c.listenFor(host, port)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for peers at %s: %w", c.cfg.Listen, refused(err, port))
	}
	return l, nil
}

// refused words why a port can't be had: what package net says may name one that nobody asked for.
func refused(err error, port string) error {
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		err = failed.Err
	}
	switch {
	case port == "0":
		return err
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.New("another program has that port; choose another one, or port 0 for one that is free")
	case errors.Is(err, syscall.EACCES):
		return errors.New("that port is for root alone; choose another one, or port 0 for one that is free")
	}
	return err
}

// listenFor is listen at a host and port.
func (c *Client) listenFor(host, port string) (net.Listener, error) {
	if port != "0" {
		return c.sockets.Listen(c.ctx, c.cfg.Listen)
	}
	kept := c.keptPort()
	if kept != 0 {
		l, err := c.listenAt(host, kept)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
		c.log.Warn("the port that is kept for peers is taken: they will find us at another one this time", "port", kept)
	}
	for range portTries {
		p := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := c.listenAt(host, p)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err == nil && kept == 0 {
			c.keepPort(p)
		}
		return l, err
	}
	return c.listenAt(host, 0)
}

// listenAt listens for peers at a port that is free for datagrams too: our DHT node is to be found at the same.
func (c *Client) listenAt(host string, port int) (net.Listener, error) {
	at := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := c.sockets.Listen(c.ctx, at)
	if err != nil || port == 0 {
		return l, err
	}
	datagrams, err := c.sockets.ListenPacket(c.ctx, "udp", at)
	if err != nil {
		_ = l.Close() // the error tells more
		return nil, err
	}
	return l, datagrams.Close()
}

// portFile is where the port is kept; "" for nowhere.
func (c *Client) portFile() string {
	if c.cfg.StateDir == "" {
		return ""
	}
	return filepath.Join(c.cfg.StateDir, "port")
}

// keptPort is the port that an earlier run has chosen; 0: none.
func (c *Client) keptPort() int {
	if c.portFile() == "" {
		return 0
	}
	b, err := os.ReadFile(c.portFile())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // keepPort says if it can't be made
		return 0
	}
	port, ok := 0, false
	if err == nil {
		if port, err = strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			ok = 0 < port && port <= lastPort
		}
	}
	if !ok {
		c.log.Warn("the port that was kept for peers can't be read: another one is chosen", "file", c.portFile(), "err", err)
		_ = os.Remove(c.portFile()) // or else keepPort says why not
		return 0
	}
	return port
}

// keepPort keeps a port for the runs to come, unless another process has kept one meanwhile.
func (c *Client) keepPort(port int) {
	path := c.portFile()
	if path == "" {
		return
	}
	if err := writeOnce(path, fmt.Sprintln(port)); err != nil && !errors.Is(err, fs.ErrExist) {
		c.log.Info("peers will find us at another port the next time: it can't be kept", "err", err)
	}
}

// writeOnce writes a file that others see whole or not at all. It fails with fs.ErrExist where there is one.
func writeOnce(path, content string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	err = os.Link(f.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) { // a file system without links
		return os.Rename(f.Name(), path)
	}
	return err
}

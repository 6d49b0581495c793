package lsd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	maxMessage = 1500 // bytes; BEP 14 has 1400
	maxHashes  = 32   // torrents of one message
	maxCookie  = 64   // bytes
	maxHeaders = 64

	firstLine = "BT-SEARCH * HTTP/1.1"
)

// announcement says that a peer takes connections for torrents at a port of the address that it is sent from (BEP 14).
type announcement struct {
	port   uint16
	hashes [][20]byte
	cookie string // lets a sender tell its own from those of others
}

// encode is the announcement as it goes out to a group. That of one torrent takes less than 200 bytes, which is all that
// transmission reads, and it ends the way transmission insists on.
func (a announcement) encode(group string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\r\nHost: %s\r\nPort: %d\r\n", firstLine, group, a.port)
	for _, h := range a.hashes {
		fmt.Fprintf(&b, "Infohash: %x\r\n", h)
	}
	if a.cookie != "" {
		fmt.Fprintf(&b, "cookie: %s\r\n", a.cookie)
	}
	b.WriteString("\r\n\r\n")
	return b.Bytes()
}

// parse reads a stranger's announcement. Headers that it doesn't know are passed over.
func parse(b []byte) (announcement, error) {
	var a announcement
	if len(b) > maxMessage {
		return a, fmt.Errorf("message is longer than %d bytes", maxMessage)
	}
	head, _, ok := strings.Cut(string(b), "\r\n\r\n")
	if !ok {
		return a, errors.New("message has no end")
	}
	first, rest, _ := strings.Cut(head, "\r\n")
	if first != firstLine {
		return a, errors.New("message is not BT-SEARCH")
	}
	lines := strings.Split(rest, "\r\n")
	if len(lines) > maxHeaders {
		return announcement{}, fmt.Errorf("message has more than %d headers", maxHeaders)
	}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return announcement{}, fmt.Errorf("header %.40q has no colon", line)
		}
		if err := a.header(strings.ToLower(name), strings.Trim(value, " \t")); err != nil {
			return announcement{}, err
		}
	}
	if a.port == 0 || len(a.hashes) == 0 {
		return announcement{}, errors.New("message lacks a port or an info-hash")
	}
	return a, nil
}

func (a *announcement) header(name, value string) error {
	switch name {
	case "port":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 || a.port != 0 {
			return fmt.Errorf("port %.40q is not one port", value)
		}
		a.port = uint16(n)
	case "infohash":
		var h [20]byte
		if len(value) != 2*len(h) {
			return fmt.Errorf("info-hash has %d digits, not 40", len(value))
		}
		if _, err := hex.Decode(h[:], []byte(value)); err != nil {
			return fmt.Errorf("info-hash is not hexadecimal: %w", err)
		}
		if len(a.hashes) == maxHashes {
			return fmt.Errorf("message has more than %d info-hashes", maxHashes)
		}
		a.hashes = append(a.hashes, h)
	case "cookie":
		if len(value) > maxCookie {
			return fmt.Errorf("cookie is longer than %d bytes", maxCookie)
		}
		a.cookie = value
	}
	return nil
}

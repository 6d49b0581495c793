package dht

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

const (
	maxTable    = 1 << 20 // bytes of the file
	maxRestored = 1000    // nodes of each family
)

// saved is what a node keeps from one run to the next.
type saved struct {
	id    [2]string // of IPv4's family and IPv6's; empty if there was none
	nodes [2][]contact
}

// lockTable takes the lock on a saved table, which a process holds until it ends or closes the file; nil: another one holds
// it. It is a file of its own, since each save puts another in the table's place. A file system without locks grants every
// one.
func lockTable(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, f.Close()
		}
		return f, nil
	}
}

// load reads a saved table. A file that isn't there is an empty table.
func load(path string) (saved, error) {
	var s saved
	if path == "" {
		return s, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil && info.Size() > maxTable {
		err = fmt.Errorf("%s has %d bytes, which no routing table has", path, info.Size())
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return s, err
	}
	return parseTable(b)
}

func parseTable(b []byte) (s saved, err error) {
	var t struct {
		ID     string `bencode:"id"`
		ID6    string `bencode:"id6"`
		Nodes  string `bencode:"nodes"`
		Nodes6 string `bencode:"nodes6"`
	}
	if err := metainfo.Decode(b, &t); err != nil {
		return s, err
	}
	for i, id := range []string{t.ID, t.ID6} {
		if len(id) == idSize {
			s.id[i] = id
		}
	}
	for i, nodes := range []string{t.Nodes, t.Nodes6} {
		for _, c := range parseNodes(nodes, i == 1, maxRestored) {
			if sendable(c.addr) && c.addr.Addr().Is6() == (i == 1) && c.id != [idSize]byte{} {
				s.nodes[i] = append(s.nodes[i], c)
			}
		}
	}
	return s, nil
}

func (s *saved) encode() []byte {
	var nodes [2][]byte
	for i, list := range s.nodes {
		for _, c := range list {
			nodes[i] = c.append(nodes[i])
		}
	}
	return dict(nil).open().str("id", s.id[0]).str("id6", s.id[1]).
		str("nodes", string(nodes[0])).str("nodes6", string(nodes[1])).close()
}

// save writes a table in one step: whoever reads the file finds the old one or the new one.
func (s *saved) save(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(s.encode())
	if serr := tmp.Sync(); err == nil {
		err = serr
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// fileName is the one file of every torrent here.
const fileName = "data.bin"

// word is the content's i-th run of eight bytes (SplitMix64): any part can be checked without the rest.
func word(i uint64) uint64 {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// writeContent makes the file of size bytes (a multiple of eight) at path.
func writeContent(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	var b [8]byte
	for i := range uint64(size / 8) {
		binary.LittleEndian.PutUint64(b[:], word(i))
		_, _ = w.Write(b[:]) // an error stays until Flush
	}
	if err := w.Flush(); err != nil {
		return err
	}
	// On the disk now rather than in the middle of what is measured; it stays in the page cache.
	return f.Sync()
}

// check looks at some of the bytes read at off and says whether they are the content's. A look at every
// byte would cost the machine what is to be measured; comparing them all is the tests' work.
func check(p []byte, off int64) error {
	const stride = 4096
	for at := (off + 7) &^ 7; at+8 <= off+int64(len(p)); at += stride {
		if got, want := binary.LittleEndian.Uint64(p[at-off:]), word(uint64(at/8)); got != want {
			return fmt.Errorf("wrong bytes at %d: %016x, not %016x", at, got, want)
		}
	}
	return nil
}

// A torrent is a file of known content with its .torrent.
type torrent struct {
	dir   string // holds fileName
	size  int64
	piece int64
	info  []byte // the bencoded info dictionary
	hash  [20]byte
}

// shelf makes torrents once and keeps them.
type shelf struct {
	dir string

	mu       sync.Mutex
	torrents map[string]*torrent
}

// torrent gives the torrent of that size and piece length, both in bytes.
func (s *shelf) torrent(size, piece int64) (*torrent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprintf("%d-%d", size, piece)
	if t := s.torrents[key]; t != nil {
		return t, nil
	}
	t := &torrent{dir: filepath.Join(s.dir, strconv.FormatInt(size, 10)), size: size, piece: piece}
	path := filepath.Join(t.dir, fileName)
	if _, err := os.Stat(path); err != nil {
		if err := os.MkdirAll(t.dir, 0o755); err != nil {
			return nil, err
		}
		if err := writeContent(path, size); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var hashes []byte
	buf := make([]byte, piece)
	for off := int64(0); off < size; off += piece {
		p := buf[:min(piece, size-off)]
		if _, err := f.ReadAt(p, off); err != nil {
			return nil, err
		}
		h := sha1.Sum(p)
		hashes = append(hashes, h[:]...)
	}
	// Private, so that no client looks for peers elsewhere than at the tracker, nor tells others of them.
	t.info = fmt.Appendf(nil, "d6:lengthi%de4:name%d:%s12:piece lengthi%de6:pieces%d:%s7:privatei1ee",
		size, len(fileName), fileName, piece, len(hashes), hashes)
	t.hash = sha1.Sum(t.info)
	if s.torrents == nil {
		s.torrents = make(map[string]*torrent)
	}
	s.torrents[key] = t
	return t, nil
}

// write writes the .torrent with that tracker ("" for none) to path.
func (t *torrent) write(path, tracker string) error {
	b := []byte("d")
	if tracker != "" {
		b = fmt.Appendf(b, "8:announce%d:%s", len(tracker), tracker)
	}
	b = append(append(append(b, "4:info"...), t.info...), 'e')
	return os.WriteFile(path, b, 0o644)
}

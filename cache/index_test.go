package cache

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestHeader(t *testing.T) {
	for _, h := range []header{
		{infoHash: [20]byte{1, 2, 3}, name: "film", pieceLength: 1 << 20, length: 1<<40 + 1},
		{name: "", pieceLength: 1, length: 0, keep: true},
		{name: strings.Repeat("ö", maxName/2), pieceLength: maxPieceLength, length: 1},
	} {
		got, err := decodeHeader(h.encode())
		if err != nil || got != h {
			t.Errorf("%+v came back as %+v, %v", h, got, err)
		}
	}
	s := Spec{Name: strings.Repeat("x", 5000), PieceLength: 1, Length: 1}
	if h := s.header(); len(h.name) != maxName {
		t.Errorf("a name of %d bytes", len(h.name))
	}
}

func TestForeignHeader(t *testing.T) {
	good := header{name: "film", pieceLength: 1 << 20, length: 1 << 30}
	for i := range headerSize {
		b := good.encode()
		b[i] ^= 0x10
		got, err := decodeHeader(b)
		if flags := i >= 20 && i < 24; flags != (err == nil) {
			t.Errorf("byte %d changed: %+v, %v", i, got, err)
		}
	}
	for _, h := range []header{
		{pieceLength: 0, length: 1}, {pieceLength: -1, length: 1}, {pieceLength: 1, length: -1},
		{pieceLength: 1, length: maxPieces}, {pieceLength: 1 << 62, length: 1 << 62},
	} {
		if _, err := decodeHeader(h.encode()); err == nil {
			t.Errorf("accepted %+v", h)
		}
	}
}

// FuzzHeader has what is taken for the head of an index be within bounds, and be printed as it was.
func FuzzHeader(f *testing.F) {
	for _, h := range []header{
		{name: "film", pieceLength: 1 << 20, length: 1<<40 + 1, keep: true}, {pieceLength: 1, length: maxPieces - 1},
		{pieceLength: 0, length: 1}, {pieceLength: maxPieceLength + 1, length: 1}, {pieceLength: 1, length: -1},
		{pieceLength: 1, length: maxPieces},
	} {
		f.Add(h.encode())
	}
	f.Add([]byte(indexMagic))
	f.Add(bytes.Repeat([]byte{0xff}, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerSize { // else hardly any input gets past the checksum
			b = sealed(b[:headerSize])
		}
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		n := h.pieces()
		if n < 0 || n > maxPieces || n > 0 && (h.size(n-1) < 1 || h.size(n-1) > h.pieceLength || int64(n-1)*h.pieceLength+h.size(n-1) != h.length) {
			t.Errorf("%+v has %d pieces", h, n)
		}
		if again, err := decodeHeader(h.encode()); err != nil || again != h {
			t.Errorf("%+v became %+v, %v", h, again, err)
		}
	})
}

// sealed is a header with the right magic, version and checksum.
func sealed(head []byte) []byte {
	head = bytes.Clone(head)
	copy(head, indexMagic)
	binary.LittleEndian.PutUint32(head[16:], indexVersion)
	binary.LittleEndian.PutUint32(head[1020:], checksum(head))
	return head
}

// FuzzIndex opens whatever bytes as an index, in each of the ways there are.
func FuzzIndex(f *testing.F) {
	spec := blankSpec(1, 100, 10)
	h := spec.header()
	f.Add(h.encode(), []byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte(indexMagic), []byte{})
	f.Add(h.encode(), []byte{})
	f.Add(h.encode(), bytes.Repeat([]byte{1, 0, 0, 0}, 100)) // too many
	other := header{name: "another", pieceLength: 20, length: 100}
	f.Add(other.encode(), []byte{1, 0, 0, 0})
	dir := Dir(inMemory(f))
	f.Fuzz(func(t *testing.T, head, stamps []byte) {
		if len(head) == headerSize {
			head = sealed(head)
		}
		if err := os.WriteFile(dir.path(spec.InfoHash, ".index"), append(head, stamps...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir.path(spec.InfoHash, ".data"), stamps, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.List(); err != nil {
			t.Fatal(err)
		}
		if v, err := dir.openExisting(spec.InfoHash); err == nil {
			d := &disk{dir: dir}
			d.look(spec.InfoHash, new(resident))
			if n, _, ok := v.victims.peek(v.stamps); ok {
				v.stamps[n].Store(absent)
				v.erase([]int{n})
			}
			v.close()
		}
		v, err := dir.openVolume(h)
		if err != nil {
			t.Fatal(err)
		}
		v.close()
	})
}

// inMemory makes a directory whose files are never written to a disk, where the system has such.
func inMemory(f *testing.F) string {
	dir, err := os.MkdirTemp("/dev/shm", "torrentfs-fuzz-")
	if err != nil {
		return f.TempDir()
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestVictims checks the choice against sorting, while pieces are used, go and come.
func TestVictims(t *testing.T) {
	const pieces = 20_000
	rng := rand.New(rand.NewPCG(1, 2))
	stamps := make([]atomic.Uint32, pieces)
	clock := uint32(pieces + 2)
	for n := range stamps {
		if rng.IntN(3) > 0 {
			stamps[n].Store(rng.Uint32N(pieces) + unfinished)
		}
	}
	oldest := func() uint64 {
		best := ^uint64(0)
		for n := range stamps {
			if s := stamps[n].Load(); s != absent {
				best = min(best, uint64(s)<<32|uint64(n))
			}
		}
		return best
	}
	var v victims
	var order []uint64
	for i := 0; ; i++ {
		n, stamp, ok := v.peek(stamps)
		if !ok {
			break
		}
		if i%97 == 0 && uint64(stamp)<<32|uint64(n) != oldest() {
			t.Fatalf("victim %d: piece %d of %d, oldest is %x", i, n, stamp, oldest())
		}
		v.pop()
		stamps[n].Store(absent)
		order = append(order, uint64(stamp)<<32|uint64(n))
		if i < pieces {
			stamps[rng.IntN(pieces)].Store(clock)
			clock++
		}
	}
	if !slices.IsSorted(order) || len(order) < pieces {
		t.Errorf("%d victims, sorted %v", len(order), slices.IsSorted(order))
	}
	for n := range stamps {
		if stamps[n].Load() != absent {
			t.Fatalf("piece %d was never a victim", n)
		}
	}
}

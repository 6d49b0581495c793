package cache

import (
	"crypto/sha1"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// counts are the numbers of pieces between which the cost of an operation should not differ.
var counts = []int{10_000, 2_000_000}

func BenchmarkHas(b *testing.B) {
	for _, pieces := range counts {
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			c := newCache(b, Config{Memory: 16 << 20, Dir: b.TempDir(), DiskSize: 1 << 40})
			v := open(b, c, blankSpec(1, 16<<10, pieces))
			for n := 0; n < pieces; n += 2 {
				v.s.vol.Load().stamps[n].Store(uint32(n + 2))
			}
			for n := 0; b.Loop(); n += 7 {
				v.Has(n % pieces)
			}
		})
	}
}

// BenchmarkVictim is the choice alone, with all pieces present and used in random order.
func BenchmarkVictim(b *testing.B) {
	for _, pieces := range counts {
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			stamps := make([]atomic.Uint32, pieces)
			for n := range stamps {
				stamps[n].Store(rand.Uint32N(1e6) + 2)
			}
			var v victims
			stamp := uint32(1e6 + 2)
			for b.Loop() {
				n, _, _ := v.peek(stamps)
				v.pop()
				stamps[n].Store(stamp) // evicted, and another one came
				stamp++
			}
		})
	}
}

// BenchmarkEvict writes to a full store, so that every piece written evicts another.
func BenchmarkEvict(b *testing.B) {
	const size = 16 << 10
	for _, pieces := range counts {
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			const limit = 64 << 20
			c := newCache(b, Config{Memory: 16 << 20, Dir: b.TempDir(), DiskSize: limit})
			v := open(b, c, blankSpec(1, size, pieces))
			buf := make([]byte, size)
			vol := v.s.vol.Load()
			n := 0
			write := func() {
				if err := c.disk.store(vol, n*7%pieces, [][]byte{buf}); err != nil {
					b.Fatal(err)
				}
				n++
			}
			c.disk.do(func() {
				for range limit / size {
					write()
				}
				b.SetBytes(size)
				b.ResetTimer()
				for b.Loop() {
					write()
				}
			})
		})
	}
}

// BenchmarkOpen opens the files of a torrent half of which is there.
func BenchmarkOpen(b *testing.B) {
	for _, pieces := range counts {
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			dir := Dir(b.TempDir())
			spec := blankSpec(1, 16<<10, pieces)
			v, err := dir.openVolume(spec.header())
			if err != nil {
				b.Fatal(err)
			}
			for n := 0; n < pieces; n += 1000 {
				writeStamps(v.index, n, 500, now())
			}
			v.close()
			for b.Loop() {
				v, err := dir.openVolume(spec.header())
				if err != nil {
					b.Fatal(err)
				}
				v.close()
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		sha1.Sum(buf)
	}
}

// BenchmarkLoad reads a torrent from the store, hashing it, against reading a plain file; from the disk itself in so
// far as dropping the page cache works.
func BenchmarkLoad(b *testing.B) {
	for _, pieceLength := range []int64{64 << 10, 1 << 20, 8 << 20} {
		const length = 512 << 20
		dir := b.TempDir()
		spec := Spec{InfoHash: [20]byte{1}, PieceLength: pieceLength, Length: length}
		buf := make([]byte, pieceLength)
		rand.NewChaCha8([32]byte{}).Read(buf)
		plain := filepath.Join(dir, "plain")
		f, err := os.Create(plain)
		if err != nil {
			b.Fatal(err)
		}
		for range length / pieceLength {
			spec.Hashes = append(spec.Hashes, sha1.Sum(buf))
			f.Write(buf)
		}
		f.Sync()
		c := newCache(b, Config{Memory: 64 << 20, Dir: dir, DiskSize: 1 << 40})
		v := open(b, c, spec)
		for n := range spec.Hashes {
			to := v.Alloc(n)
			copy(to, buf)
			v.Add(n, to)()
			settle(c)
		}
		v.s.vol.Load().data.Sync()
		forget := func(b *testing.B, f *os.File, cold bool) {
			b.StopTimer()
			if cold {
				dropCache(f)
			}
			b.StartTimer()
		}
		for _, cold := range []bool{true, false} {
			name := fmt.Sprintf("%dKiB/", pieceLength>>10)
			if cold {
				name += "cold"
			} else {
				name += "warm"
			}
			b.Run(name+"/plain", func(b *testing.B) {
				b.SetBytes(length)
				to := make([]byte, 128<<10)
				for b.Loop() {
					forget(b, f, cold)
					for at := int64(0); at < length; at += int64(len(to)) {
						f.ReadAt(to, at)
					}
				}
			})
			b.Run(name+"/cache", func(b *testing.B) {
				b.SetBytes(length)
				to := make([]byte, 128<<10)
				for b.Loop() {
					forget(b, v.s.vol.Load().data, cold)
					for n := range spec.Hashes {
						data, release, ok := v.Load(n)
						if !ok {
							b.Fatal("lost a piece")
						}
						for at := 0; at < len(data); at += len(to) {
							copy(to, data[at:])
						}
						release()
					}
				}
			})
		}
		c.Close()
		f.Close()
		os.Remove(plain)
	}
}

// BenchmarkWriteBehind adds pieces as fast as they come, with and without a store.
func BenchmarkWriteBehind(b *testing.B) {
	for _, size := range []int64{16 << 10, 256 << 10, 4 << 20} {
		for _, disk := range []int64{0, 256 << 20} {
			b.Run(fmt.Sprintf("%dKiB/disk=%v", size>>10, disk > 0), func(b *testing.B) {
				c := newCache(b, Config{Memory: 64 << 20, Dir: b.TempDir(), DiskSize: disk})
				pieces := int(4 << 30 / size)
				v := open(b, c, blankSpec(1, size, pieces))
				b.SetBytes(size)
				for n := 0; b.Loop(); n++ {
					buf := v.Alloc(n % pieces)
					clear(buf)
					v.Add(n%pieces, buf)()
				}
				b.StopTimer()
				s := c.Stats()
				b.ReportMetric(float64(s.Written)/float64(b.N)/float64(size)*100, "%written")
			})
		}
	}
}

func dropCache(f *os.File) {
	f.Sync()
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

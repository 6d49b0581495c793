package fs

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/metainfo"
)

// BenchmarkRead reads a file whose content is at hand through the kernel: what the mount itself costs, at most.
// The processor's time is that of the server and of the reader together. Without a heap of the size that a cache
// has, the collector of garbage would take a third of it.
func BenchmarkRead(b *testing.B) {
	const size = 512 << 20
	for name, flags := range map[string]int{"cold": 0, "direct": unix.O_DIRECT} {
		b.Run(name, func(b *testing.B) {
			s, r := tryServer(b, serverConfig{
				Dir:      b.TempDir(),
				Options:  serverOptions{ReadAhead: 64 << 20},
				Torrents: []metainfo.Torrent{single(1, "file", size)},
				Heap:     256 << 20,
			})
			if r.Error != "" {
				b.Fatal(r.Error)
			}
			fd, err := unix.Open(s.path("file"), unix.O_RDONLY|flags, 0)
			if err != nil {
				b.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), "file")
			defer f.Close()
			b.SetBytes(size)
			used := cpuTime() + s.ask("stats").CPU
			p := make([]byte, 256<<10)
			for b.Loop() {
				if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
					b.Fatal(err)
				}
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				n := int64(0)
				for {
					m, err := unix.Read(fd, p)
					if err != nil {
						b.Fatal(err)
					}
					if n += int64(m); m == 0 {
						break
					}
				}
				if n != size {
					b.Fatalf("read %d bytes", n)
				}
			}
			used = cpuTime() + s.ask("stats").CPU - used
			b.ReportMetric(used.Seconds()/(float64(b.N)*size/(1<<30)), "cpu-s/GiB")
		})
	}
}

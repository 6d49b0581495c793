package metainfo_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/metainfo"
)

// BenchmarkCreate makes torrents of a gibibyte in pieces of several sizes and of 20,000 small files, from the page cache and
// from the disk. Beside it stand what bounds that: SHA-1 on all cores, and reading the same file.
func BenchmarkCreate(b *testing.B) {
	const size = 1 << 30
	large := filepath.Join(b.TempDir(), "large")
	fill(b, large, size)
	small := b.TempDir()
	const files, length = 20_000, 20_000
	for i := range files {
		fill(b, filepath.Join(small, fmt.Sprint(i%100), fmt.Sprint(i)), length)
	}
	hash := func(b *testing.B) {
		b.SetBytes(size)
		for range b.N {
			fetchtest.Hash(size)
		}
	}
	b.Run("sha1", hash)
	for _, cold := range []bool{false, true} {
		from := map[bool]string{false: "memory", true: "disk"}[cold]
		b.Run("from="+from+"/read", func(b *testing.B) {
			b.SetBytes(size)
			each(b, large, cold, func() { read(b, large) })
		})
		b.Run("from="+from+"/read files=20000", func(b *testing.B) {
			b.SetBytes(files * length)
			each(b, small, cold, func() { read(b, small) })
		})
		for _, piece := range []int64{64 << 10, 1 << 20, 16 << 20} {
			b.Run(fmt.Sprintf("from=%s/piece=%d", from, piece), func(b *testing.B) {
				b.SetBytes(size)
				create(b, large, piece, cold)
			})
		}
		b.Run("from="+from+"/files=20000", func(b *testing.B) {
			b.SetBytes(files * length)
			create(b, small, 256<<10, cold)
		})
	}
	b.Run("sha1 again", hash)
}

// each does something b.N times, with cold each time after what the kernel has cached of the files at path was dropped.
func each(b *testing.B, path string, cold bool, do func()) {
	b.Helper()
	for range b.N {
		if cold {
			b.StopTimer()
			forget(b, path)
			b.StartTimer()
		}
		do()
	}
}

func create(b *testing.B, path string, piece int64, cold bool) {
	b.Helper()
	each(b, path, cold, func() {
		if _, err := metainfo.Create(b.Context(), path, metainfo.CreateOptions{PieceLength: piece}, func(_, _ int64) {}); err != nil {
			b.Fatal(err)
		}
	})
}

// fill makes a file of some bytes.
func fill(b *testing.B, path string, size int64) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; off += int64(len(buf)) {
		buf[0] = byte(off >> 20)
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// read reads the files at path one after the other, as cat does.
func read(b *testing.B, path string) {
	b.Helper()
	buf := make([]byte, 128<<10)
	open(b, path, func(f *os.File) (err error) {
		for err == nil {
			_, err = f.Read(buf)
		}
		return nil
	})
}

// forget has the kernel drop what it has cached of the files at path.
func forget(b *testing.B, path string) {
	b.Helper()
	open(b, path, func(f *os.File) error {
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
}

// open opens the files at path, one after the other.
func open(b *testing.B, path string, do func(*os.File) error) {
	b.Helper()
	err := filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		return do(f)
	})
	if err != nil {
		b.Fatal(err)
	}
}

package seed

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"torrentfs/fetch/fetchtest"
	"torrentfs/fetch/metainfo"
)

// BenchmarkVerify hashes a gibibyte that is in the page cache, beside SHA-1 on all cores.
func BenchmarkVerify(b *testing.B) {
	const size = 1 << 30
	path := filepath.Join(b.TempDir(), "content")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for i := range size / len(buf) {
		buf[0] = byte(i)
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("sha1", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			fetchtest.Hash(size)
		}
	})
	for _, piece := range []int64{64 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("piece=%d", piece), func(b *testing.B) {
			made, err := metainfo.Create(b.Context(), path, metainfo.CreateOptions{PieceLength: piece}, nil)
			if err != nil {
				b.Fatal(err)
			}
			t, err := metainfo.Parse(made)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			for b.Loop() {
				s, err := Open(t, path)
				if err != nil {
					b.Fatal(err)
				}
				if good, err := s.Verify(b.Context(), nil); err != nil || good != t.NumPieces() {
					b.Fatal(good, err)
				}
			}
		})
	}
}

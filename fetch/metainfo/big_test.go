package metainfo

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// manyFiles is a .torrent of n small files in nested folders, with the keys that common clients write.
func manyFiles(n int) []byte {
	var b bytes.Buffer
	b.WriteString("d4:infod5:filesl")
	for i := range n {
		fmt.Fprintf(&b, "d6:lengthi1000e4:pathl%s%s%see", bstr(fmt.Sprintf("dir%d", i%97)), bstr(fmt.Sprintf("sub%d", i%1009)), bstr(fmt.Sprintf("file-%d.dat", i)))
	}
	pieces := (n*1000 + 1<<18 - 1) >> 18
	fmt.Fprintf(&b, "e4:name4:many12:piece lengthi262144e6:pieces%see", bstr(strings.Repeat("x", 20*pieces)))
	return b.Bytes()
}

// manyPieces is a .torrent of a single file of n pieces.
func manyPieces(n int) []byte {
	return fmt.Appendf(nil, "d4:infod6:lengthi%de4:name1:x12:piece lengthi16384e6:pieces%see", n*16384, bstr(strings.Repeat("x", 20*n)))
}

func BenchmarkParseFiles(b *testing.B) {
	data := manyFiles(200_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePieces(b *testing.B) {
	data := manyPieces(2_000_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

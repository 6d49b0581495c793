package metainfo

import (
	"crypto/sha1"
	"strings"
	"testing"
)

func TestParseSingleFile(t *testing.T) {
	info := "d6:lengthi40000e4:name5:a.mkv12:piece lengthi16384e6:pieces60:" + strings.Repeat("h", 60) + "7:unknownd1:xi1eee"
	tor, err := Parse([]byte("d8:announce19:http://t.example/an4:info" + info + "e"))
	if err != nil {
		t.Fatal(err)
	}
	if tor.InfoHash != sha1.Sum([]byte(info)) || string(tor.Info) != info {
		t.Error("the info-hash is not that of the raw info dictionary")
	}
	if got := files(tor); got != "a.mkv:0+40000" || tor.MultiFile || tor.NumPieces() != 3 || tor.PieceSize(2) != 40000-2*16384 {
		t.Errorf("%s %+v", got, tor)
	}
	bare, err := ParseInfo([]byte(info))
	if err != nil || bare.InfoHash != tor.InfoHash || len(bare.Trackers) != 0 {
		t.Error(bare, err)
	}
}

func TestSpans(t *testing.T) {
	tor := &Torrent{PieceLength: 10, Length: 25, Pieces: make([][20]byte, 3)}
	for _, c := range []struct {
		off, n int64
		want   []Span
	}{
		{0, 25, []Span{{0, 0, 10}, {1, 0, 10}, {2, 0, 5}}},
		{9, 2, []Span{{0, 9, 1}, {1, 0, 1}}},
		{24, 100, []Span{{2, 4, 1}}},
		{-3, 5, []Span{{0, 0, 2}}},
		{25, 1, nil}, {0, 0, nil}, {5, -1, nil}, {-5, 5, nil}, {1 << 62, 1 << 62, nil},
		{-1 << 63, 1<<63 - 1, nil}, {0, 1<<63 - 1, []Span{{0, 0, 10}, {1, 0, 10}, {2, 0, 5}}},
	} {
		var got []Span
		for s := range tor.Spans(c.off, c.n) {
			got = append(got, s)
		}
		if len(got) != len(c.want) {
			t.Errorf("Spans(%d, %d) = %v, want %v", c.off, c.n, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("Spans(%d, %d) = %v, want %v", c.off, c.n, got, c.want)
			}
		}
	}
}

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"torrentfs/fetch/metainfo"
)

func TestContentIsCheckedAnywhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileName)
	if err := writeContent(path, 64<<10); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || len(content) != 64<<10 {
		t.Fatal(len(content), err)
	}
	for _, off := range []int64{0, 1, 7, 8, 4095, 40_000} {
		if err := check(content[off:], off); err != nil {
			t.Errorf("right bytes at %d: %v", off, err)
		}
		if err := check(content[off:], off+8); err == nil {
			t.Errorf("bytes of %d passed for those of %d", off, off+8)
		}
	}
	if err := check(content[:5], 3); err != nil {
		t.Errorf("too few bytes to check: %v", err)
	}
}

func TestTorrentIsOne(t *testing.T) {
	s := shelf{dir: t.TempDir()}
	torrent, err := s.torrent(100<<10, 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.torrent")
	if err := torrent.write(path, "http://127.0.0.1:1/announce"); err != nil {
		t.Fatal(err)
	}
	got, err := metainfo.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.InfoHash != torrent.hash || got.Length != 100<<10 || got.NumPieces() != 4 || !got.Private {
		t.Errorf("parsed as %v, %d bytes, %d pieces, private %v", got.InfoHash, got.Length, got.NumPieces(), got.Private)
	}
}

func TestAnnouncer(t *testing.T) {
	stop, url, err := announcer([]netip.AddrPort{netip.MustParseAddrPort("127.0.1.2:258")})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	request, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, url+"?compact=1", nil)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if b, _ := io.ReadAll(answer.Body); !bytes.HasSuffix(b, []byte("5:peers6:\x7f\x00\x01\x02\x01\x02e")) {
		t.Errorf("%q", b)
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		q    float64
		want float64
	}{
		{[]float64{3}, 0.95, 3},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{1, 2, 3, 4, 5}, 1, 5},
	} {
		if got, ok := quantile(c.v, c.q); !ok || got != c.want {
			t.Errorf("quantile(%v, %v) = %v, %v", c.v, c.q, got, ok)
		}
	}
	if _, ok := quantile(nil, 0.5); ok {
		t.Error("nothing has a median")
	}
}

func TestRatioGoesRoundByRound(t *testing.T) {
	a := &Row{Runs: []Sample{{Rate: 10}, {Rate: 30}, {Rate: 8}, {Rate: 1, Error: "failed"}}}
	b := &Row{Runs: []Sample{{Rate: 5}, {Rate: 10}, {Rate: 8}, {Rate: 100}}}
	if got, ok := ratio(a, b, rate); !ok || got != 2 {
		t.Errorf("ratio = %v, %v", got, ok)
	}
}

func TestTargetsJudgeWhatWasMeasured(t *testing.T) {
	r := &Report{Results: []*Result{{
		Case: Case{Name: "lan"},
		Rows: []*Row{
			{Reader: "torrentfs", Runs: []Sample{{Rate: 300, CPU: 2, First: 0.05, Peak: 400 * mib}}},
			{Reader: "libtorrent", Runs: []Sample{{Rate: 200, CPU: 1}}},
		},
	}}}
	r.judge()
	met := map[string]bool{}
	for _, v := range r.Targets {
		met[strings.Fields(v.Target)[0]] = v.Met
	}
	want := map[string]bool{"rate,": true, "CPU": false, "first": true, "peak": false}
	for name, m := range want {
		if got, ok := met[name]; !ok || got != m {
			t.Errorf("%s: met %v, judged %v", name, got, ok)
		}
	}
	if len(met) != len(want) {
		t.Errorf("judged what was not measured: %v", met)
	}
	for _, target := range targets {
		if chosen, err := choose([]string{target.cse}); err != nil || len(chosen) != 1 {
			t.Errorf("target of no case: %s", target.cse)
		}
	}
}

func TestTableIsMarkdown(t *testing.T) {
	res := &Result{Case: Case{Name: "x", About: "y"}, Rows: []*Row{
		{Reader: "torrentfs", Runs: []Sample{{Rate: 300 * mB}}},
		{Reader: "other", Runs: []Sample{{Error: "broken"}}},
	}}
	var b strings.Builder
	res.table(&b)
	const want = "\n### x\ny.\n\n" +
		"| reader    | MB/s  | failed |\n" +
		"| ---       | ---   | ---    |\n" +
		"| torrentfs | 300.0 | -      |\n" +
		"| other     | -     | 1 of 1 |\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

package main

import (
	"testing"
	"time"

	"torrentfs/fetch/metadata"
)

func TestRenderBar(t *testing.T) {
	for _, test := range []struct {
		done, total int64
		took        time.Duration
		width       int
		want        string
	}{
		{0, 100 << 20, 0, 100, "[........................]   0.0%  0 B of 100 MiB"},
		{50 << 20, 100 << 20, 500 * time.Millisecond, 100, "[############............]  50.0%  50 MiB of 100 MiB"},
		{50 << 20, 100 << 20, 10 * time.Second, 100, "[############............]  50.0%  50 MiB of 100 MiB  5.2 MB/s  10s left"},
		{50 << 20, 100 << 20, 10 * time.Second, 50, " 50.0%  50 MiB of 100 MiB  5.2 MB/s  10s left"},
		{50 << 20, 100 << 20, 10 * time.Second, 6, " 50.0%"},
		{100<<20 - 1, 100 << 20, 0, 100, "[#######################.]  99.9%  100 MiB of 100 MiB"},
		{7, 7, 0, 100, "[########################]   100%  7 B of 7 B"},
		{0, 0, 0, 100, "[########################]   100%  0 B of 0 B"},
	} {
		if got := renderBar(test.done, test.total, test.took, test.width); got != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		line    string
		columns int
		want    string
	}{
		{"plain", 9, "plain"}, {"plain", 5, "plain"}, {"plain", 2, "pl"}, {"plain", 0, ""}, {"plain", -1, ""},
		{"naïve", 3, "naï"}, {"映画", 4, "映画"}, {"映画", 3, "映"}, {"映画", 1, ""},
	} {
		if got := cut(test.line, test.columns); got != test.want {
			t.Errorf("%q in %d columns: %q", test.line, test.columns, got)
		}
	}
}

func TestDescribeProgress(t *testing.T) {
	for want, p := range map[string]metadata.Progress{
		"no peer is known yet":         {},
		"no answer yet from 1 peer":    {Known: 1},
		"asking 2 peers":               {Known: 9, Connected: 2},
		"16 KiB of 40 KiB from 1 peer": {Known: 9, Connected: 1, Size: 40 << 10, Have: 16 << 10},
	} {
		if got := describeProgress(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

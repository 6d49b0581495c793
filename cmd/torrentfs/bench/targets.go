package main

// Verdict is one target with what was measured.
type Verdict struct {
	Case   string  `json:"case"`
	Target string  `json:"target"`
	Value  float64 `json:"value"`
	Met    bool    `json:"met"`
}

// A target is what torrentfs has to reach in a case: a value at least or at most some bound.
type target struct {
	cse   string
	text  string
	least bool // the bound is a lower one
	bound float64
	value func(r *Report, res *Result, own *Row) (float64, bool)
}

func atLeast(cse, text string, bound float64, value func(*Report, *Result, *Row) (float64, bool)) target {
	return target{cse, text, true, bound, value}
}

func atMost(cse, text string, bound float64, value func(*Report, *Result, *Row) (float64, bool)) target {
	return target{cse, text, false, bound, value}
}

// own is the median of torrentfs's f; zeros count where counted.
func own(f func(Sample) float64, zeros bool) func(*Report, *Result, *Row) (float64, bool) {
	return func(_ *Report, _ *Result, row *Row) (float64, bool) { return row.median(f, zeros) }
}

func ownSeek(q float64) func(*Report, *Result, *Row) (float64, bool) {
	return func(_ *Report, _ *Result, row *Row) (float64, bool) { return row.seek(q) }
}

// against is torrentfs's f over another reader's, round by round.
func against(reader string, f func(Sample) float64) func(*Report, *Result, *Row) (float64, bool) {
	return func(_ *Report, res *Result, row *Row) (float64, bool) { return ratio(row, res.row(reader), f) }
}

// share is the rate over what the links carry.
func share(_ *Report, res *Result, row *Row) (float64, bool) {
	v, ok := row.median(rate, false)
	return v / float64(res.Case.Ideal), ok
}

// overPlain is the rate over that of a plain file.
func overPlain(_ *Report, _ *Result, row *Row) (float64, bool) {
	return row.median(func(s Sample) float64 { return s.Rate / max(s.Plain, 1) }, false)
}

var targets = []target{
	atLeast("lan", "rate, x libtorrent's own download: 1.0 (aim 1.3)", 1.0, against("libtorrent", rate)),
	atMost("lan", "CPU per GiB, x libtorrent's: 1.0", 1.0, against("libtorrent", cpu)),
	atMost("lan", "first byte after mounting: 0.06 s", 0.06, own(first, false)),
	atMost("lan", "downloaded over delivered: 1.02", 1.02, own(overhead, false)),
	atLeast("lan", "read again, x a local file: 0.9", 0.9, func(_ *Report, _ *Result, row *Row) (float64, bool) {
		return row.median(func(s Sample) float64 { return s.Again / max(s.Local, 1) }, false)
	}),
	atLeast("keeping", "rate, x that without a disk: 0.9", 0.9, against("memory only", rate)),
	atLeast("cached", "rate, x a plain file's: 0.6", 0.6, overPlain),
	atLeast("cached-large", "rate, x a plain file's: 0.6", 0.6, overPlain),
	atLeast("cached-small", "rate, x a plain file's: 0.6", 0.6, overPlain),
	atLeast("four", "sum of four readers, x one reader: 0.95", 0.95, func(_ *Report, _ *Result, row *Row) (float64, bool) {
		return row.median(func(s Sample) float64 { return s.Rate / max(s.One, 1) }, false)
	}),
	atLeast("four", "the least reader's part of its share: 0.5", 0.5, own(least, false)),
	atLeast("wan", "rate, x the links: 0.95", 0.95, share),
	atMost("wan", "first byte: 0.5 s", 0.5, own(first, false)),
	atMost("wan", "downloaded over delivered: 1.02", 1.02, own(overhead, false)),
	atMost("wan-seek", "seek p50: 0.2 s", 0.2, ownSeek(0.5)),
	atMost("wan-seek", "seek p95: 0.4 s", 0.4, ownSeek(0.95)),
	atLeast("far", "rate, x the link: 0.9", 0.9, share),
	atMost("far", "downloaded over delivered: 1.02", 1.02, own(overhead, false)),
	atMost("upload-seek", "seek p95, x that without upload: 1.5", 1.5, func(_ *Report, _ *Result, row *Row) (float64, bool) { return row.slowdown(0.95) }),
	atMost("big-seek", "first byte: 0.8 s", 0.8, own(first, false)),
	atMost("big-seek", "seek p50: 0.75 s", 0.75, ownSeek(0.5)),
	atMost("big-seek", "seek p95: 1.0 s", 1.0, ownSeek(0.95)),
	atLeast("mixed", "rate, x the fast two: 0.95", 0.95, share),
	atMost("mixed", "downloaded over delivered: 1.02", 1.02, own(overhead, false)),
	atMost("mixed-seek", "seek p95, x that without the slow ones: 1.3", 1.3, func(r *Report, _ *Result, row *Row) (float64, bool) {
		fast := r.result("fast-seek")
		if fast == nil || fast.row("torrentfs") == nil {
			return 0, false
		}
		a, ok := row.seek(0.95)
		b, ok2 := fast.row("torrentfs").seek(0.95)
		return a / max(b, 1e-9), ok && ok2
	}),
	atMost("play", "starts within 1.4 s", 1.4, own(start, false)),
	atMost("play", "stands still: 0 s", 0, own(stalled, true)),
	atMost("play-die", "stands still: 0 s", 0, own(stalled, true)),
	atMost("play-silent", "stands still: 0 s", 0, own(stalled, true)),
}

// judge sets the report's targets from its results. What was not measured is left out.
func (r *Report) judge() {
	add := func(name, text string, v, bound float64, least bool) {
		r.Targets = append(r.Targets, Verdict{name, text, v, v == bound || (v > bound) == least})
	}
	for _, t := range targets {
		res := r.result(t.cse)
		if res == nil || res.row("torrentfs") == nil {
			continue
		}
		if v, ok := t.value(r, res, res.row("torrentfs")); ok {
			add(t.cse, t.text, v, t.bound, t.least)
		}
	}
	most := 0.0
	for _, res := range r.Results {
		if row := res.row("torrentfs"); row != nil {
			for _, s := range row.Runs {
				most = max(most, float64(s.Peak))
			}
		}
	}
	if most > 0 {
		add("all", "peak resident memory: --memory + 64 MiB = 320 MiB", most/mib, float64(memory)/mib+64, false)
	}
}

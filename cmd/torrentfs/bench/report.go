package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Row is one reader's part of a case: its runs, in order, and what they come to.
type Row struct {
	Reader string   `json:"reader"`
	Runs   []Sample `json:"runs"`
}

// Result is a case with all of its rows.
type Result struct {
	Case Case   `json:"case"`
	Rows []*Row `json:"rows"`
}

// Report is a whole run of the benchmark.
type Report struct {
	Date    string            `json:"date"`
	Machine Machine           `json:"machine"`
	Readers map[string]string `json:"readers"` // what each is
	Rounds  int               `json:"rounds"`
	Results []*Result         `json:"results"`
	Targets []Verdict         `json:"targets"`
	Took    float64           `json:"took_s"`
}

// row is the reader's row, or nil.
func (res *Result) row(reader string) *Row {
	for _, row := range res.Rows {
		if row.Reader == reader {
			return row
		}
	}
	return nil
}

// result is the case's, or nil.
func (r *Report) result(name string) *Result {
	for _, res := range r.Results {
		if res.Case.Name == name {
			return res
		}
	}
	return nil
}

// median is that of what f gives for each run that went well and has it (not zero, unless zeros count).
func (r *Row) median(f func(Sample) float64, zeros bool) (float64, bool) {
	var v []float64
	for _, s := range r.Runs {
		if x := f(s); s.Error == "" && (x != 0 || zeros) {
			v = append(v, x)
		}
	}
	return quantile(v, 0.5)
}

// seek is a quantile over the seeks of all runs.
func (r *Row) seek(q float64) (float64, bool) {
	var v []float64
	for _, s := range r.Runs {
		v = append(v, s.Seeks...)
	}
	return quantile(v, q)
}

// slowdown is a quantile over the seeks while the mount uploads, over that of those while it does not.
func (r *Row) slowdown(q float64) (float64, bool) {
	var alone []float64
	for _, s := range r.Runs {
		alone = append(alone, s.Alone...)
	}
	without, ok := quantile(alone, q)
	with, _ := r.seek(q)
	return with / max(without, 1e-9), ok
}

// ratio is the median over the rounds of f of a over f of b.
func ratio(a, b *Row, f func(Sample) float64) (float64, bool) {
	if a == nil || b == nil {
		return 0, false
	}
	var v []float64
	for i := range min(len(a.Runs), len(b.Runs)) {
		if x, y := f(a.Runs[i]), f(b.Runs[i]); a.Runs[i].Error == "" && b.Runs[i].Error == "" && y != 0 {
			v = append(v, x/y)
		}
	}
	return quantile(v, 0.5)
}

// quantile is the q-quantile, between the two nearest values where it falls between.
func quantile(v []float64, q float64) (float64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	v = slices.Sorted(slices.Values(v))
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 == len(v) {
		return v[i], true
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i]), true
}

func rate(s Sample) float64     { return s.Rate }
func steady(s Sample) float64   { return s.Steady }
func first(s Sample) float64    { return s.First }
func up(s Sample) float64       { return s.Up }
func start(s Sample) float64    { return s.Start }
func stalled(s Sample) float64  { return s.Stalled }
func cpu(s Sample) float64      { return s.CPU }
func caller(s Sample) float64   { return s.Caller }
func peak(s Sample) float64     { return float64(s.Peak) }
func overhead(s Sample) float64 { return s.Overhead }
func least(s Sample) float64    { return s.Least }

// A column is one figure of a row, where the row has it.
type column struct {
	head string
	cell func(res *Result, row *Row) (string, bool)
}

func figure(head, format string, unit float64, f func(Sample) float64) column {
	return column{head, func(_ *Result, row *Row) (string, bool) {
		v, ok := row.median(f, false)
		return fmt.Sprintf(format, v/unit), ok
	}}
}

func seekFigure(head string, q float64) column {
	return column{head, func(_ *Result, row *Row) (string, bool) {
		v, ok := row.seek(q)
		return fmt.Sprintf("%.2f", v), ok
	}}
}

var columns = []column{
	figure("MB/s", "%.1f", mB, rate),
	{"of the links", func(res *Result, row *Row) (string, bool) {
		v, ok := row.median(rate, false)
		if !ok || res.Case.Ideal == 0 {
			return "", false
		}
		return fmt.Sprintf("%.0f%%", 100*v/float64(res.Case.Ideal)), true
	}},
	{"x libtorrent", func(res *Result, row *Row) (string, bool) {
		v, ok := ratio(row, res.row("libtorrent"), rate)
		return fmt.Sprintf("%.2f", v), ok
	}},
	figure("after 1st byte", "%.1f", mB, steady),
	figure("mounted, s", "%.2f", 1, up),
	figure("1st byte, s", "%.3f", 1, first),
	seekFigure("seek p50, s", 0.5),
	seekFigure("p95", 0.95),
	{"p95, x without upload", func(_ *Result, row *Row) (string, bool) {
		v, ok := row.slowdown(0.95)
		return fmt.Sprintf("%.2f", v), ok
	}},
	figure("upload, MB/s", "%.1f", mB, func(s Sample) float64 { return s.Upload }),
	{"seeks", func(_ *Result, row *Row) (string, bool) {
		n := 0
		for _, s := range row.Runs {
			n += len(s.Seeks)
		}
		return fmt.Sprint(n), n > 0
	}},
	figure("starts, s", "%.2f", 1, start),
	{"stalled, s", func(_ *Result, row *Row) (string, bool) {
		_, plays := row.median(start, false)
		v, ok := row.median(stalled, true)
		return fmt.Sprintf("%.2f", v), ok && plays
	}},
	figure("one reader, MB/s", "%.1f", mB, func(s Sample) float64 { return s.One }),
	figure("least share", "%.2f", 1, least),
	figure("again, GB/s", "%.2f", 1000*mB, func(s Sample) float64 { return s.Again }),
	figure("local file", "%.2f", 1000*mB, func(s Sample) float64 { return s.Local }),
	figure("plain file, MB/s", "%.1f", mB, func(s Sample) float64 { return s.Plain }),
	{"x memory only", func(res *Result, row *Row) (string, bool) {
		v, ok := ratio(row, res.row("memory only"), rate)
		return fmt.Sprintf("%.2f", v), ok
	}},
	figure("tmpfs file", "%.2f", 1000*mB, func(s Sample) float64 { return s.Tmpfs }),
	figure("CPU s/GiB", "%.2f", 1, cpu),
	figure("+caller", "%.2f", 1, caller),
	figure("peak MiB", "%.0f", mib, peak),
	figure("down/read", "%.3f", 1, overhead),
	{"failed", func(_ *Result, row *Row) (string, bool) {
		n := 0
		for _, s := range row.Runs {
			if s.Error != "" {
				n++
			}
		}
		return fmt.Sprintf("%d of %d", n, len(row.Runs)), n > 0
	}},
}

// table writes one case as a Markdown table, with the columns that any of its rows has.
func (res *Result) table(w io.Writer) {
	fmt.Fprintf(w, "\n### %s\n%s.\n\n", res.Case.Name, res.Case.About)
	lines := [][]string{{"reader"}}
	for _, row := range res.Rows {
		lines = append(lines, []string{row.Reader})
	}
	for _, c := range columns {
		cells, any := []string{c.head}, false
		for _, row := range res.Rows {
			cell, ok := c.cell(res, row)
			if !ok {
				cell = "-"
			}
			cells, any = append(cells, cell), any || ok
		}
		for i := range lines {
			if any {
				lines[i] = append(lines[i], cells[i])
			}
		}
	}
	markdown(w, lines)
}

// markdown writes a table whose first line is its head, aligned for reading as it stands.
func markdown(w io.Writer, lines [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	for i, line := range lines {
		fmt.Fprintf(tw, "| %s\t|\n", strings.Join(line, "\t| "))
		if i == 0 {
			fmt.Fprintf(tw, "|%s\n", strings.Repeat(" ---\t|", len(line)))
		}
	}
	tw.Flush()
}

// print writes the whole report for people; it is Markdown too.
func (r *Report) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%s, %d cores (%s), %d GiB, Linux %s, %s. Medians of %d rounds, %.0f minutes in all.\n",
		r.Date, m.Cores, cmp.Or(m.Model, "unknown"), (m.Memory+gib/2)/gib, m.Kernel, m.Go, r.Rounds, r.Took/60)
	for _, res := range r.Results {
		res.table(w)
	}
	if len(r.Targets) == 0 {
		return
	}
	fmt.Fprintf(w, "\n### targets\n\n")
	lines := [][]string{{"case", "target", "measured", "met"}}
	for _, v := range r.Targets {
		met := "yes"
		if !v.Met {
			met = "**no**"
		}
		lines = append(lines, []string{v.Case, v.Target, fmt.Sprintf("%.3g", v.Value), met})
	}
	markdown(w, lines)
}

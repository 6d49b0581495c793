package main

import (
	"bytes"
	"testing"
	"time"
)

func TestRender(t *testing.T) {
	busy := snapshot{
		torrents: 1, connected: 12, known: 40, down: 34.2e6, up: 1.2e6, downloaded: 734 << 20, waiting: []int{17, 18, 19},
		cached: 256 << 20,
	}
	searching := snapshot{searches: 2, disk: 5 << 30}
	idle := snapshot{torrents: 1, connected: 1}
	tests := []struct {
		name  string
		snap  snapshot
		width int
		want  string
	}{
		{"all", busy, 200,
			"12 peers  down 34 MB/s  up 1.2 MB/s  reads wait for piece 17 and 2 more  cache 256 MiB  total 734 MiB"},
		{"80", busy, 80, "12 peers  down 34 MB/s  reads wait for piece 17 and 2 more  total 734 MiB"},
		{"60", busy, 60, "12 peers  down 34 MB/s  reads wait for piece 17 and 2 more"},
		{"30", busy, 30, "12 peers  down 34 MB/s"},
		{"10", busy, 10, "12 peers"},
		{"5", busy, 5, "12 pe"},
		{"none", busy, 0, ""},
		{"searching", searching, 200, "0 peers  down 0 B/s  looking for 2 torrents  cache 0 B  disk 5.0 GiB  total 0 B"},
		{"idle", idle, 200, "1 peer  down 0 B/s  no read waits  cache 0 B  total 0 B"},
		{"alone", snapshot{torrents: 1, waiting: []int{3}}, 45, "0 peers  down 0 B/s  reads wait for a peer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.snap.render(test.width); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
	for width := -1; width < 150; width++ {
		if got := busy.render(width); len(got) > max(width, 0) {
			t.Errorf("%d columns in %d: %q", len(got), width, got)
		}
	}
}

func TestWaitingFor(t *testing.T) {
	tests := []struct {
		snap snapshot
		want string
	}{
		{snapshot{torrents: 1, connected: 1}, "no read waits"},
		{snapshot{torrents: 1, connected: 1, waiting: []int{7}}, "reads wait for piece 7"},
		{snapshot{torrents: 1, connected: 1, waiting: []int{7, 9}}, "reads wait for pieces 7 and 9"},
		{snapshot{torrents: 1, connected: 1, waiting: []int{7, 9, 10}}, "reads wait for piece 7 and 2 more"},
		{snapshot{torrents: 2, connected: 1, waiting: []int{7}}, "reads wait for 1 piece"},
		{snapshot{torrents: 2, connected: 1, waiting: []int{7, 7}}, "reads wait for 2 pieces"},
		{snapshot{torrents: 2, waiting: []int{7, 7}}, "reads wait for a peer"},
	}
	for _, test := range tests {
		if got := test.snap.waitingFor(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestStall(t *testing.T) {
	const patience = 10 * time.Second
	start := time.Unix(1000, 0)
	blocked := snapshot{waiting: []int{1}, downloaded: 5}
	steps := []struct {
		after time.Duration
		snap  snapshot
		want  bool
	}{
		{0, snapshot{}, false},
		{1 * time.Second, blocked, false},
		{9 * time.Second, blocked, false},
		{11 * time.Second, blocked, true},
		{12 * time.Second, blocked, false}, // told already
		{90 * time.Second, blocked, false},
		{91 * time.Second, snapshot{waiting: []int{1}, downloaded: 6}, false}, // progress
		{100 * time.Second, snapshot{waiting: []int{1}, downloaded: 6}, false},
		{101 * time.Second, snapshot{waiting: []int{1}, downloaded: 6}, true},
		{102 * time.Second, snapshot{downloaded: 6}, false}, // nobody waits
		{200 * time.Second, snapshot{downloaded: 6}, false},
	}
	var s stall
	for _, step := range steps {
		if got := s.observe(start.Add(step.after), step.snap, patience); got != step.want {
			t.Errorf("after %v: %v", step.after, got)
		}
	}
}

func TestScreenKeepsLinesApart(t *testing.T) {
	var out bytes.Buffer
	s := &screen{w: &out}
	write := func(p string) {
		t.Helper()
		if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("one\n")
	s.line = "status"
	write("two\n")
	s.setLine(func(int) string { return "never shown: no terminal" })
	if got, want := out.String(), "one\n"+clearLine+"two\nstatus"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

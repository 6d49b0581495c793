package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"

	"github.com/spf13/cobra"
)

func testLogger(t *testing.T, person bool, args ...string) (*bytes.Buffer, func(msg string, args ...any), func(msg string, args ...any)) {
	t.Helper()
	var f logFlags
	cmd := &cobra.Command{}
	f.register(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l := f.logger(&out, person)
	return &out, l.Info, l.With("a", 1).WithGroup("g").Warn
}

func TestLogForPerson(t *testing.T) {
	out, info, warn := testLogger(t, true)
	info("mounted", "mountpoint", "/mnt/a b")
	info("plain")
	warn("tracker failed", "msg", "an\x1b[31m escape")
	want := regexp.MustCompile(`^\d\d:\d\d:\d\d mounted mountpoint="/mnt/a b"
\d\d:\d\d:\d\d plain
\d\d:\d\d:\d\d WARN tracker failed a=1 g.msg="an\\x1b\[31m escape"
$`)
	if !want.MatchString(out.String()) {
		t.Errorf("got %s", out)
	}
}

func TestLogElsewhere(t *testing.T) {
	out, info, _ := testLogger(t, false)
	info("mounted", "mountpoint", "/mnt")
	if !regexp.MustCompile(`^time=\S+ level=INFO msg=mounted mountpoint=/mnt\n$`).MatchString(out.String()) {
		t.Errorf("got %s", out)
	}
}

func TestLogJSON(t *testing.T) {
	out, info, _ := testLogger(t, true, "--log-format=json")
	info("mounted", "mountpoint", "/mnt")
	var line struct{ Level, Msg, Mountpoint string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != "mounted" || line.Mountpoint != "/mnt" {
		t.Errorf("%v in %s", err, out)
	}
}

func TestLogLevel(t *testing.T) {
	for _, person := range []bool{true, false} {
		out, info, warn := testLogger(t, person, "--log-level=warn")
		info("no")
		warn("yes")
		if bytes.Contains(out.Bytes(), []byte("no")) || !bytes.Contains(out.Bytes(), []byte("yes")) {
			t.Errorf("got %s", out)
		}
	}
}

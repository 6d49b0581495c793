package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestFaultManyFiles lists a torrent of 100,000 files in 1,000 folders. Nobody has it: names and lengths need no peer.
func TestFaultManyFiles(t *testing.T) {
	t.Parallel()
	const folders, each, length = 1000, 100, 1000
	const piece = 1 << 20
	var b bytes.Buffer
	fmt.Fprint(&b, "d4:infod5:filesl")
	for i := range folders {
		for j := range each {
			fmt.Fprintf(&b, "d6:lengthi%de4:pathl4:d%03d7:file %02dee", length, i, j)
		}
	}
	pieces := noise(97, (folders*each*length+piece-1)/piece*20)
	fmt.Fprintf(&b, "e4:name7:hundred12:piece lengthi%de6:pieces%d:%see", piece, len(pieces), pieces)
	m := startMount(t, fast(t), t.TempDir(), write(t, filepath.Join(t.TempDir(), "many.torrent"), b.Bytes()))
	for _, c := range []struct {
		args []string
		want int // lines
	}{
		{[]string{"find", m.dir, "-type", "f"}, folders * each},
		{[]string{"find", m.dir, "-size", fmt.Sprintf("%dc", length)}, folders * each},
		{[]string{"ls", "-lR", m.dir}, 0},
		{[]string{"du", "-a", "--apparent-size", m.dir}, folders*each + folders + 2},
	} {
		begun := time.Now()
		n := bytes.Count([]byte(outputOf(t, exec.Command(c.args[0], c.args[1:]...))), []byte("\n"))
		t.Logf("%q took %v", c.args, time.Since(begun).Round(time.Millisecond))
		if c.want > 0 && n != c.want {
			t.Errorf("%q gives %d lines, want %d", c.args, n, c.want)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", regexp.MustCompile(`VmHWM:.*`).Find(status))
	m.interrupt()
}

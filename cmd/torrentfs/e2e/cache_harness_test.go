package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// fast has a mount run by a torrentfs without the race detector, which takes several times the memory and time.
func fast(t testing.TB) func(*exec.Cmd) *exec.Cmd {
	t.Helper()
	binary(t) // makes the directory's name known
	if err := buildFast(); err != nil {
		t.Fatal(err)
	}
	return func(cmd *exec.Cmd) *exec.Cmd {
		cmd.Path = built + "-fast"
		return cmd
	}
}

var buildFast = sync.OnceValue(func() error {
	return exec.Command("go", "build", "-race=false", "-o", built+"-fast", "torrentfs/cmd/torrentfs").Run()
})

// cached is a torrent as `cache ls --json` shows it.
type cached struct {
	Name     string
	InfoHash string `json:"info_hash"`
	Size     int64
	Present  int64
	Disk     int64
	Kept     bool
	InUse    bool `json:"in_use"`
}

// inCache gives what a cache directory has of a torrent.
func inCache(t testing.TB, dir string, tt torrent) (c cached) {
	t.Helper()
	var all []cached
	if err := json.Unmarshal([]byte(output(t, binary(t), "cache", "ls", "--json", "--cache-dir", dir)), &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.InfoHash == tt.hash {
			return c
		}
	}
	return cached{}
}

// blocks gives the bytes that all files below a directory take on disk.
func blocks(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // it is gone again
		}
		if info, err := d.Info(); err == nil {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return n
}

// cold opens a file and has the kernel forget what it knows of it.
func cold(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	dropCache(t, f)
	return f
}

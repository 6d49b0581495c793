package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// built is where the torrentfs under test lies once binary has built it; ordinary users can reach it.
var built string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "torrentfs-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	built = filepath.Join(dir, "torrentfs")
	// What Go has built before is below the same directory, unless told otherwise.
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err == nil {
		err = os.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "go env GOCACHE:", err)
		return 1
	}
	// For what a test runs without saying where to keep things.
	if err := os.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// binary gives the path of the torrentfs under test, built on first use.
func binary(t testing.TB) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return built
}

var build = sync.OnceValue(func() error {
	args := []string{"build", "-o", built}
	if underRace() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "torrentfs/cmd/torrentfs")...).CombinedOutput(); err != nil {
		return fmt.Errorf("building torrentfs: %w\n%s", err, out)
	}
	return nil
})

// underRace says whether this test runs under the race detector; the binary is then built with it too.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// checkOutside refuses to write below the mountpoint, where the mount hides what was there and answers with EROFS: a
// process that waits for its own mount may wait for ever. path is what flag names; the empty one is nowhere.
func checkOutside(cmd *cobra.Command, flag, path, mountpoint string) error {
	if path == "" || !below(path, mountpoint) {
		return nil
	}
	return usagef(cmd, "%s: %s is below the mountpoint, which would hide it; name a place elsewhere", flag, shellQuote(path))
}

// below says whether path is dir or lies in it, whether they are there yet or not.
func below(path, dir string) bool {
	rel, err := filepath.Rel(actual(dir), actual(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// actual is path, absolute and without symbolic links as far as it exists.
func actual(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil || path == "/" {
		return real
	}
	return filepath.Join(actual(filepath.Dir(path)), filepath.Base(path))
}

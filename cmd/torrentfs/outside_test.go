package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBelow(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"mnt/sub", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"link": "mnt", "other/in": "../mnt/sub", "mnt/out": "../other"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"mnt", "mnt", true},
		{"mnt/sub", "mnt", true},
		{"mnt/not/there", "mnt", true},
		{filepath.Join(dir, "mnt/x"), "mnt", true},
		{"mnt/x", dir + "/mnt", true},
		{"link/x", "mnt", true},
		{"mnt/x", "link", true},
		{"other/in/x", "mnt", true},
		{"../" + filepath.Base(dir) + "/mnt", "mnt", true},
		{"x", "/", true},
		{"not/there", "not", true},
		{"other", "mnt", false},
		{"mnt/out/x", "mnt", false},
		{".", "mnt", false},
		{"mnt2", "mnt", false},
		{"..mnt", "mnt", false},
	} {
		if got := below(c.path, c.dir); got != c.want {
			t.Errorf("below(%q, %q) = %v", c.path, c.dir, got)
		}
	}
}

package main_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows are the packages and, for each, the packages of this module that it may import: docs/architecture.md draws
// them. Tests, and packages made for tests, may reach further.
var arrows = map[string][]string{
	"cmd/torrentfs": {"fs", "cache", "fetch", "fetch/metainfo", "fetch/tracker", "fetch/seed", "fetch/metadata"},
	"fs":            {"fetch/metainfo"},
	"cache":         {"cache/proof"},
	"cache/proof":   {},
	"fetch": {
		"fetch/metainfo", "fetch/swarm", "fetch/peer", "fetch/tracker", "fetch/dht", "fetch/lsd", "fetch/metadata", "fetch/web", "fetch/mse",
		"fetch/socket", "fetch/reach", "fetch/portmap",
	},
	"fetch/lsd":      {"fetch/metainfo", "fetch/socket"},
	"fetch/metadata": {"fetch/wire", "fetch/reach"},
	"fetch/reach":    {},
	"fetch/web":      {"fetch/reach", "fetch/socket"},
	"fetch/metainfo": {},
	"fetch/mse":      {},
	"fetch/wire":     {"fetch/metainfo"},
	"fetch/tracker":  {"fetch/metainfo", "fetch/reach", "fetch/socket"},
	"fetch/dht":      {"fetch/metainfo", "fetch/reach", "fetch/socket"},
	"fetch/peer":     {"fetch/wire", "fetch/metainfo"},
	"fetch/picker":   {},
	"fetch/socket":   {},
	"fetch/portmap":  {"fetch/socket", "fetch/reach"},
	"fetch/seed":     {"fetch/metainfo", "cache/proof"},
	"fetch/swarm":    {"fetch/peer", "fetch/picker", "fetch/metainfo", "fetch/wire", "fetch/reach"},
}

// forTests are the packages that nothing shipped may import.
var forTests = []string{"fetch/fetchtest", "fetch/fetchtest/heap", "cmd/torrentfs/bench", "cmd/torrentfs/e2e"}

// soleImporters are the modules that one package alone wraps.
var soleImporters = map[string]string{
	"bazil.org/fuse":                     "fs",
	"github.com/hashicorp/golang-lru/v2": "cache",
	"github.com/jackpal/bencode-go":      "fetch/metainfo",
	"github.com/huin/goupnp":             "fetch/portmap",
}

func TestImportsGoOneWay(t *testing.T) {
	const module = "torrentfs/"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		if slices.Contains(forTests, pkg) {
			continue
		}
		allowed, known := arrows[pkg]
		if !known {
			t.Errorf("package %s has no place in the drawing", pkg)
		}
		for _, imported := range fields[1:] {
			for dependency, sole := range soleImporters {
				if strings.HasPrefix(imported, dependency) && pkg != sole {
					t.Errorf("%s imports %s, which is for %s alone", pkg, imported, sole)
				}
			}
			if ours, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, against the arrows", pkg, ours)
			}
		}
	}
}

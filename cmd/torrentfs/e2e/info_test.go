package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInfo compares `torrentfs info --json` with what transmission-show and the shared files say, for torrents of
// different makers and for one whose info dictionary has keys that nobody knows.
func TestInfo(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "file.bin"), noise(7, 1<<20+1))
	plain, tree := sampleTree(t, true), sampleTree(t, false)
	unknown := map[string]any{"x-unknown": "value", "aa": []any{1, "two"}, "zz": map[string]any{"k": -3}}
	for name, tt := range map[string]torrent{
		"a file, by transmission":    byTransmission(t, file, making{trackers: []string{"http://tracker.example/announce"}}),
		"a tree, by transmission":    byTransmission(t, plain, making{piece: 32 << 10}),
		"a file, by libtorrent":      byLibtorrent(t, file, making{trackers: []string{"http://tracker.example/announce"}}),
		"a tree, by libtorrent":      byLibtorrent(t, tree, making{piece: 16 << 10}),
		"a tree, hybrid":             byLibtorrent(t, tree, making{hybrid: true}),
		"a file, with unknown keys":  byLibtorrent(t, file, making{info: unknown}),
		"a tree, with unknown keys":  byLibtorrent(t, tree, making{info: unknown}),
		"hybrid, with unknown keys":  byLibtorrent(t, tree, making{info: unknown, hybrid: true}),
		"a tree with a large piece":  byLibtorrent(t, tree, making{piece: 8 << 20}),
		"a file with one-piece size": byLibtorrent(t, file, making{piece: 2 << 20}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got struct {
				Name     string
				InfoHash string `json:"info_hash"`
				Files    []struct {
					Path   string
					Length int64
				}
				TotalSize int64 `json:"total_size"`
			}
			decode(t, output(t, binary(t), "info", "--json", tt.file), &got)
			if got.InfoHash != tt.hash {
				t.Errorf("info-hash %s, want %s", got.InfoHash, tt.hash)
			}
			if !strings.Contains(name, "hybrid") { // which transmission 3 can't read
				if want := shownHash(t, tt.file); got.InfoHash != want {
					t.Errorf("info-hash %s, transmission-show gives %s", got.InfoHash, want)
				}
			}
			if got.Name != tt.name {
				t.Errorf("name %q, want %q", got.Name, tt.name)
			}
			var files []string
			for _, f := range got.Files {
				files = append(files, fmt.Sprintf("f %d %s", f.Length, f.Path))
			}
			slices.Sort(files)
			var want []string
			for _, line := range listing(t, tt.folder) {
				if line[0] == 'f' {
					want = append(want, line)
				}
			}
			if !slices.Equal(files, want) {
				a, _ := json.MarshalIndent(files, "", " ")
				b, _ := json.MarshalIndent(want, "", " ")
				t.Errorf("files %s\nwant %s", a, b)
			}
		})
	}
}

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// console finds the examples of README.md; their commands begin with a dollar sign.
var console = regexp.MustCompile("(?s)```console\n(.*?)```")

// TestReadme runs the usage examples of README.md in their order, with a torrent of a film at hand.
func TestReadme(t *testing.T) {
	t.Parallel()
	needMount(t)
	need(t, "mpv")
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Rename(film(t, "film.mkv"), filepath.Join(folder, "film.mkv")); err != nil {
		t.Fatal(err)
	}
	tr := newTracker(t)
	tt := byTransmission(t, filepath.Join(folder, "film.mkv"), making{trackers: []string{tr.url()}})
	tr.serve(tt)
	seedByLibtorrent(t, tt, seeding{})
	tr.awaitSeeders(tt, 1)

	dir := t.TempDir()
	output(t, "cp", tt.file, filepath.Join(dir, "film.torrent"))
	t.Cleanup(func() {
		if mounted(t, filepath.Join(dir, "mnt")) {
			_ = exec.Command("fusermount3", "-u", "-z", filepath.Join(dir, "mnt")).Run() // the test has failed already
		}
	})
	ran := 0
	for _, block := range console.FindAllStringSubmatch(string(readme), -1) {
		for line := range strings.Lines(block[1]) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if !ok || strings.HasPrefix(command, "make ") { // which is how this test was started
				continue
			}
			// As a person would, but with nothing to see or hear, and not for a whole film.
			command = strings.Replace(command, "mpv ", "mpv --no-config --vo=null --ao=null --length=2 ", 1)
			command = strings.Replace(command, "torrentfs mount ", "torrentfs mount --listen 127.0.0.1:0 --no-dht --no-lsd ", 1)
			cmd := in(dir, "bash", "-euo", "pipefail", "-c", command)
			cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"))
			t.Log(command)
			outputOf(t, cmd)
			ran++
		}
	}
	if ran < 5 {
		t.Errorf("README.md has %d commands to run", ran)
	}
	output(t, "cmp", tt.original("film.mkv"), filepath.Join(dir, "copy.mkv"))
}

// TestReadmeFlags compares the flags that README.md lists with those that `torrentfs mount` has.
func TestReadmeFlags(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	help := output(t, binary(t), "mount", "--help")
	for flag := range flagsIn(help) {
		if flag != "--help" && !flagsIn(string(readme))[flag] {
			t.Errorf("README.md doesn't mention %s", flag)
		}
	}
	_, table, _ := strings.Cut(string(readme), "Flags of `mount`")
	table, _, _ = strings.Cut(table, "\n## ")
	for flag := range flagsIn(table) {
		if !flagsIn(help)[flag] {
			t.Errorf("README.md lists %s, which mount doesn't have", flag)
		}
	}
}

var flagName = regexp.MustCompile(`--[a-z][a-z-]+`)

func flagsIn(text string) map[string]bool {
	found := map[string]bool{}
	for _, flag := range flagName.FindAllString(text, -1) {
		found[flag] = true
	}
	return found
}

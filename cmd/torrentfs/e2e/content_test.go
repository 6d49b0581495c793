package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// ways are the pairs of torrent maker and seeder that the content tests go through, and how the mount finds the seeder.
var ways = []struct {
	name  string
	make  func(testing.TB, string, making) torrent
	seed  func(testing.TB, torrent, seeding) seeder
	m     making
	plain bool // neither hidden nor empty files, and no names that the maker changes
	found bool // through the tracker, else by --peer
}{
	{
		name:  "transmission, found through opentracker",
		make:  byTransmission,
		seed:  seedByTransmission,
		plain: true,
		found: true,
	},
	{
		name: "libtorrent v1, given as a peer",
		make: byLibtorrent,
		seed: seedByLibtorrent,
		m:    making{piece: 32 << 10},
	},
	{
		name:  "libtorrent hybrid with padding, found through opentracker",
		make:  byLibtorrent,
		seed:  seedByLibtorrent,
		m:     making{piece: 256 << 10, hybrid: true},
		found: true,
	},
}

// mountShared makes a torrent of what share gives, seeds it and mounts it, in each of the ways.
func mountShared(t *testing.T, share func(t testing.TB, plain bool) string, check func(*testing.T, torrent, *mount)) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			needMount(t)
			path, made := share(t, way.plain), way.m
			if !way.found {
				tt := way.make(t, path, made)
				check(t, tt, mountTorrent(t, tt, "--peer", way.seed(t, tt, seeding{}).addr()))
				return
			}
			tr := newTracker(t)
			made.trackers = []string{tr.url()}
			tt := way.make(t, path, made)
			tr.serve(tt)
			way.seed(t, tt, seeding{})
			tr.awaitSeeders(tt, 1)
			check(t, tt, mountTorrent(t, tt))
		})
	}
}

func TestSingleFile(t *testing.T) {
	t.Parallel()
	share := func(t testing.TB, _ bool) string {
		return write(t, filepath.Join(t.TempDir(), "a single file.bin"), noise(2, 24<<20+4321))
	}
	mountShared(t, share, func(t *testing.T, tt torrent, m *mount) {
		if got := listing(t, m.dir); !slices.Equal(got, []string{"f 25170145 " + tt.name}) {
			t.Errorf("the mount shows %q", got)
		}
		output(t, "cmp", tt.original(tt.name), m.path(tt.name))
	})
}

// sampleTree makes a folder with the kinds of files and names that make trouble; a plain one without those that
// transmission leaves out of a torrent, and without the names that it changes.
func sampleTree(t testing.TB, plain bool) string {
	root := filepath.Join(t.TempDir(), "a tree")
	files := []struct {
		path string
		size int
	}{
		{"README", 17},
		{"a/first", 100_000},
		{"a/second", 1},
		{"a/b/c/d/e/deep", 300_001},
		{"b/with spaces inside", 70_000},
		{"b/naïve — 映画 \U0001F3AC.txt", 65_536},
		{"b/" + strings.Repeat("long", 50), 16_384},
		{"c/large", 7<<20 + 11},
		{"z/last", 5},
		{"a/empty", 0},
		{"a/.hidden", 4096},
		{"b/ with spaces around ", 123},
		{"b/'quote' \"quotes\" \u00b1 %41 *?", 33},
		{"z/nothing at the end", 0},
	}
	if plain {
		files = files[:9]
	}
	for i, f := range files {
		write(t, filepath.Join(root, f.path), noise(byte(i), f.size))
	}
	return root
}

func TestManyKindsOfFiles(t *testing.T) {
	t.Parallel()
	mountShared(t, sampleTree, func(t *testing.T, tt torrent, m *mount) {
		root, shown := tt.original(tt.name), m.path(tt.name)
		if got, want := listing(t, shown), listing(t, root); !slices.Equal(got, want) {
			t.Fatalf("the mount shows\n%s\nshared was\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		output(t, "diff", "--recursive", root, shown)

		copied := filepath.Join(t.TempDir(), "copy")
		output(t, "cp", "-r", "--no-preserve=mode", shown, copied)
		output(t, "diff", "--recursive", root, copied)

		outputOf(t, in(root, "sh", "-c", `find . -type f -exec sha256sum {} + > "$0"`, copied+".sums"))
		outputOf(t, in(shown, "sha256sum", "--check", "--quiet", copied+".sums"))
	})
}

// in is a command that runs in a directory.
func in(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return cmd
}

// listing gives the files and folders below a directory, sorted, with the lengths of the files.
func listing(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			all = append(all, "d "+rel)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all = append(all, fmt.Sprintf("f %d %s", info.Size(), rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// TestReadOnly shows that whatever would change the mount gives EROFS, and that metadata doesn't need a peer.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	tt := byTransmission(t, sampleTree(t, true), making{})
	m := mountTorrent(t, tt)
	root := m.path(tt.name)
	listing(t, root)
	for what, err := range map[string]error{
		"create": os.WriteFile(filepath.Join(root, "new"), nil, 0o644),
		"write":  os.WriteFile(filepath.Join(root, "README"), nil, 0o644),
		"mkdir":  os.Mkdir(filepath.Join(root, "dir"), 0o755),
		"remove": os.Remove(filepath.Join(root, "README")),
		"rmdir":  os.Remove(filepath.Join(root, "a")),
		"rename": os.Rename(filepath.Join(root, "README"), filepath.Join(root, "README2")),
		"link":   os.Link(filepath.Join(root, "README"), filepath.Join(root, "README2")),
		"chmod":  os.Chmod(filepath.Join(root, "README"), 0o600),
		"trunc":  os.Truncate(filepath.Join(root, "README"), 1),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

package metainfo

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeTree makes a folder with these files, of these sizes in bytes, and returns its path.
func writeTree(t *testing.T, name string, files map[string]int) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), name)
	for rel, size := range files {
		p := filepath.Join(root, rel)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, p, size)
	}
	return root
}

func writeFile(t *testing.T, path string, size int) {
	t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// need skips the test where a third-party program is missing, which on CI is a failure.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, program+" is not installed")
	}
	return path
}

func missing(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func TestCreateParsesBack(t *testing.T) {
	root := writeTree(t, "album", map[string]int{"b.bin": 100_000, "A.bin": 1, "empty": 0, "sub/.hidden": 70_000, "sub/z": 5})
	var last int64
	b, err := Create(t.Context(), root, CreateOptions{
		PieceLength: 16 << 10,
		Trackers:    [][]string{{"http://a.example/announce", "udp://b.example:6969"}, {"http://c.example/announce"}},
		WebSeeds:    []string{"http://seed.example/"},
		Private:     true,
		Comment:     "made by a test",
		Created:     time.Unix(1_700_000_000, 0),
	}, func(done, total int64) {
		if done <= last || done > total {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	tor, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if last != tor.Length {
		t.Errorf("progress ended at %d of %d", last, tor.Length)
	}
	want := "album/A.bin:0+1 album/b.bin:1+100000 album/empty:100001+0 album/sub/.hidden:100001+70000 album/sub/z:170001+5"
	if got := files(tor); got != want {
		t.Errorf("files\n got %s\nwant %s", got, want)
	}
	if got := fmt.Sprintln(tor.Trackers, tor.WebSeeds, tor.Private, tor.Comment, tor.CreatedBy, tor.Created.Unix()); got !=
		"[[http://a.example/announce udp://b.example:6969] [http://c.example/announce]] [http://seed.example/] true made by a test torrentfs 1700000000\n" {
		t.Error(got)
	}
	var stream []byte
	for _, f := range tor.Files {
		content, err := os.ReadFile(filepath.Join(filepath.Dir(root), f.Path))
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, content...)
	}
	for i, want := range tor.Pieces {
		begin := int64(i) * tor.PieceLength
		if got := sha1.Sum(stream[begin : begin+tor.PieceSize(i)]); got != want {
			t.Errorf("hash of piece %d is wrong", i)
		}
	}
}

// files writes the layout of a torrent as path:offset+length, with P for padding and X for executable.
func files(t *Torrent) string {
	var list []string
	for _, f := range t.Files {
		s := fmt.Sprintf("%s:%d+%d", f.Path, f.Offset, f.Length)
		if f.Padding {
			s += "P"
		}
		if f.Executable {
			s += "X"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func TestCreateErrors(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), 1<<20)
	writeFile(t, filepath.Join(dir, "huge"), 0)
	if err := os.Truncate(filepath.Join(dir, "huge"), 1<<40); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		what string
		ctx  context.Context
		path string
		opt  CreateOptions
		want string
	}{
		{"missing", t.Context(), filepath.Join(dir, "nothing"), CreateOptions{}, "no such file"},
		{"empty folder", t.Context(), t.TempDir(), CreateOptions{}, "no content"},
		{"unsafe name", t.Context(), filepath.Join(dir, "f"), CreateOptions{Name: "a/b"}, "can't be the name"},
		{"negative piece length", t.Context(), filepath.Join(dir, "f"), CreateOptions{PieceLength: -1}, "piece length is -1"},
		{"huge piece length", t.Context(), filepath.Join(dir, "f"), CreateOptions{PieceLength: MaxPieceLength + 1}, "piece length"},
		{"too many pieces", t.Context(), filepath.Join(dir, "huge"), CreateOptions{PieceLength: 1}, "choose larger pieces"},
		{"cancelled", cancelled, filepath.Join(dir, "f"), CreateOptions{}, context.Canceled.Error()},
	} {
		if _, err := Create(c.ctx, c.path, c.opt, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.what, err, c.want)
		}
	}
	if _, err := Create(cancelled, filepath.Join(dir, "f"), CreateOptions{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCreateFollowsLinksToFiles(t *testing.T) {
	root := writeTree(t, "r", map[string]int{"a": 10, "d/b": 20})
	for link, target := range map[string]string{"file": "a", "folder": "d", "dangling": "nothing", "loop": ".", "itself": "itself", "below a file": "a/b"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	itself := filepath.Join(t.TempDir(), "link to the folder")
	if err := os.Symlink(root, itself); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{root, itself} {
		var got Notes
		b, err := Create(t.Context(), path, CreateOptions{Noted: func(n Notes) { got = n }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Notes{FolderLinks: 2, DeadLinks: 3, Specials: 1}); !reflect.DeepEqual(got, want) {
			t.Errorf("notes %+v, want %+v", got, want)
		}
		if tor, err := Parse(b); err != nil || files(tor) != "r/a:0+10 r/d/b:10+20 r/file:30+10" {
			t.Error(files(tor), err)
		}
	}
}

func TestCreateOfAFileThatShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, 100_000)
	for _, length := range []int64{100_001, 1 << 20, 1 << 40} {
		_, err := hashPieces(t.Context(), []source{{path: path, length: length}}, length, 1<<30, nil)
		if err == nil || !strings.Contains(err.Error(), "became shorter") {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}

func TestChoosePieceLength(t *testing.T) {
	for _, c := range []struct{ total, want int64 }{
		{1, 16 << 10}, {32 << 20, 16 << 10}, {32<<20 + 1, 32 << 10}, {700 << 20, 512 << 10}, {1 << 30, 512 << 10}, {8 << 30, 4 << 20},
		{128 << 30, 4 << 20}, {128<<30 + 1, 8 << 20}, {1 << 50, 16 << 20},
	} {
		if got := choosePieceLength(c.total); got != c.want {
			t.Errorf("choosePieceLength(%d) = %d, want %d", c.total, got, c.want)
		}
	}
}

func TestCreateAsTransmissionDoes(t *testing.T) {
	program := need(t, "transmission-create")
	version, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	// From 4.0 on it does not write that a torrent is not private, as we do with 3.00.
	writesPublic := strings.Contains(string(version), " 3.")
	single := filepath.Join(t.TempDir(), "one file.bin")
	writeFile(t, single, 300_001)
	exact := filepath.Join(t.TempDir(), "two pieces")
	writeFile(t, exact, 64<<10)
	for _, path := range []string{single, exact, writeTree(t, "mixed", map[string]int{
		"b": 10, "A": 20_000, "a-b/x": 33_000, "a/x": 77_777, "a/Y/z": 1, "uml/Ünïcode/é": 5, "Z.txt": 40_000, "z/0": 2,
	}), writeTree(t, "borders", map[string]int{
		"1": 32 << 10, "2": 32<<10 - 1, "3": 1, "4/exact": 64 << 10, "5/one more": 32<<10 + 1, "6": 32<<10 - 1,
	}), writeTree(t, "punctuation !", map[string]int{
		"a b": 1, "a!b": 2, "a.b/c": 3, "d/c": 4, "a_b": 5, "A~": 6, "[x]": 7, "^y": 8, "映画/\U0001F3AC": 9, "a": 13, "aé": 14, "aÉ": 15, "'": 10, "%20": 11, "ab/c/d/e/f": 12,
	}), writeTree(t, "of one", map[string]int{"below/and below/it": 100_000})} {
		for _, private := range []bool{false, true} {
			if !private && !writesPublic {
				continue
			}
			out := filepath.Join(t.TempDir(), "out.torrent")
			args := []string{"-s", "32", "-o", out, "-t", "http://tracker.example/announce", path}
			if private {
				args = append([]string{"-p"}, args...)
			}
			if b, err := exec.Command(program, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			want, err := Load(out)
			if err != nil {
				t.Fatal(err)
			}
			b, err := Create(t.Context(), path, CreateOptions{PieceLength: 32 << 10, Private: private}, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if got.InfoHash != want.InfoHash {
				t.Errorf("private %v: info-hash is %v, transmission-create gives %v\n got %.400q\nwant %.400q", private, got.InfoHash, want.InfoHash, got.Info, want.Info)
			}
		}
	}
}

func TestRawPaths(t *testing.T) {
	long := strings.Repeat("x", 256)
	var list strings.Builder
	for _, path := range [][]string{
		{"plain"}, {"a\nb"}, {"a\tb"}, {"a_b"}, {"\xff"}, {"..", "c/d"}, {"e/f"}, {"\x00"}, {""}, {long}, {"..", "\x01", "a/b"},
		{"twice\t"}, {"twice\t"}, {"d", "same"}, {"d", "same"},
	} {
		list.WriteString("d6:lengthi1e4:pathl")
		for _, c := range path {
			fmt.Fprintf(&list, "%d:%s", len(c), c)
		}
		list.WriteString("ee")
	}
	tor, err := ParseInfo([]byte("d5:filesl" + list.String() + "e4:name1:r12:piece lengthi16384e6:pieces20:01234567890123456789e"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"", "r/a\nb", "r/a\tb", "r/a_b", "r/\xff", "", "", "", "", "", "r/__/\x01/a_b",
		"r/twice\t", "", "", "",
	}
	for i, f := range tor.Files {
		if f.RawPath != want[i] {
			t.Errorf("the raw path of %q is %q, want %q", f.Path, f.RawPath, want[i])
		}
	}
}

func TestCreateNotesOddNames(t *testing.T) {
	root := writeTree(t, "r", map[string]int{"plain é": 1, "a\nb": 2, "d\x01/x": 3, "\xff": 4})
	var got Notes
	if _, err := Create(t.Context(), root, CreateOptions{Noted: func(n Notes) { got = n }}, nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"\xff", "a\nb", "d\x01/x"}; !slices.Equal(got.OddNames, want) {
		t.Errorf("odd names are %q, want %q", got.OddNames, want)
	}
}

func TestCreateOfAFileThatChanges(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"grows":        func(path string) error { return os.Truncate(path, 100_001) },
		"shrinks":      func(path string) error { return os.Truncate(path, 99_999) },
		"is written":   func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
		"is taken off": os.Remove,
	} {
		root := writeTree(t, "r", map[string]int{"a": 100_000, "b": 5})
		path := filepath.Join(root, "a")
		_, err := Create(t.Context(), root, CreateOptions{Noted: func(Notes) {
			if err := change(path); err != nil {
				t.Error(err)
			}
		}}, nil)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a file that %s: %v", what, err)
		}
	}
}

func TestCreateShowsProgressWithinPieces(t *testing.T) {
	root := writeTree(t, "r", map[string]int{"a": 3 << 20})
	calls := 0
	if _, err := Create(t.Context(), root, CreateOptions{PieceLength: 4 << 20}, func(_, _ int64) { calls++ }); err != nil {
		t.Fatal(err)
	}
	if calls < 3 {
		t.Errorf("progress of one long piece was told %d times", calls)
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// asProgram makes the test binary behave as torrentfs, so that tests can run it in a subprocess.
const asProgram = "TORRENTFS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	switch os.Getenv(asProgram) {
	case "":
		os.Exit(m.Run())
	case "foreground":
		fmt.Println(foreground(os.Stdout))
	default:
		main()
	}
}

// command returns torrentfs, to be run with args.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0") // it would sleep a second
	return cmd
}

// result is how a run of torrentfs ended.
type result struct {
	code           int
	stdout, stderr string
}

func runProgram(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	notTorrent := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(notTorrent, []byte("buy milk\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const magnet = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=x"
	tests := []struct {
		args   string
		code   int
		stderr string // a regular expression of all of it
	}{
		{"version", 0, ``},
		{"--version", 0, ``},
		{"--help", 0, ``},
		{"info --help", 0, ``},
		{"help info", 0, ``},
		{"completion bash", 0, ``},
		{"help help", 0, ``},
		{"help", 0, ``},
		{"help moutn", 2, `torrentfs: there is no verb "moutn"; did you mean mount\?\nTry .*`},
		{"completion", 2, `torrentfs completion: SHELL is missing\nTry .*`},
		{"completion csh", 2, `torrentfs completion: there is no completion for the shell "csh"\nTry .*`},

		{"", 2, `(?s)torrentfs mounts torrents.*Usage:.*`},
		{"moutn", 2, `torrentfs: there is no verb "moutn"; did you mean mount\?\nTry 'torrentfs --help'\.\n`},
		{"moutn --daemon x y", 2, `torrentfs: there is no verb "moutn"; did you mean mount\?\nTry .*`},
		{"--log-level debug moutn", 2, `torrentfs: there is no verb "moutn".*\n.*`},
		{"frobnicate", 2, `torrentfs: there is no verb "frobnicate"\nTry .*`},
		{"list x.torrent", 2, `torrentfs: there is no verb "list"; did you mean info\?\nTry .*`},
		{"x.torrent /mnt", 2, `torrentfs: "x.torrent" is not a verb; to mount it: torrentfs mount x.torrent MOUNTPOINT\nTry .*`},
		{"--frob", 2, `torrentfs: there is no flag --frob\nTry .*`},
		{"--log-level loud version", 2, `torrentfs version: --log-level: "loud" is none of debug, info, warn and error\nTry .*`},
		{"version x", 2, `torrentfs version: it takes no arguments, but there is x\nTry 'torrentfs version --help'\.\n`},

		{"info", 2, `torrentfs info: SOURCE is missing\nTry 'torrentfs info --help'\.\n`},
		{"info a b", 2, `torrentfs info: only SOURCE is wanted, but there is also b\nTry .*`},
		{"info --jsno x", 2, `torrentfs info: there is no flag --jsno; did you mean --json\?\nTry .*`},
		{"info -j x", 2, `torrentfs info: there is no flag -j\nTry .*`},
		{"info -json x", 2, `torrentfs info: there is no flag -json; did you mean --json\?\nTry .*`},
		{"info --json=maybe x", 2, `torrentfs info: --json: "maybe" is neither true nor false\nTry .*`},

		{"mount", 2, `torrentfs mount: SOURCE and MOUNTPOINT are missing\nTry 'torrentfs mount --help'\.\n`},
		{"mount x.torrent", 2, `torrentfs mount: MOUNTPOINT is missing: where is x\.torrent to be mounted\?\nTry .*`},
		{"mount " + dir, 2, `torrentfs mount: SOURCE is missing: what is to be mounted on \S+\?\nTry .*`},
		{"mount " + dir + " x.torrent", 2, `torrentfs mount: MOUNTPOINT comes last; did you mean: torrentfs mount x\.torrent \S+\?\nTry .*`},
		{"mount x.torrent y.torrent", 2, `torrentfs mount: MOUNTPOINT is missing: where are x\.torrent and y\.torrent to be mounted\?\nTry .*`},
		{"mount --memry 1GB x y", 2, `torrentfs mount: there is no flag --memry; did you mean --memory\?\nTry .*`},
		{"mount --memory", 2, `torrentfs mount: --memory needs a value: --memory SIZE\nTry .*`},
		{"mount --memory lots x y", 2, `torrentfs mount: --memory: "lots" is not a size; write 64MiB, 10GB or a number of bytes\nTry .*`},
		{"mount --memory 1 x y", 2, `torrentfs mount: --memory: 1 byte is too little; give at least 16MiB\nTry .*`},
		{"mount --read-timeout 5 x y", 2, `torrentfs mount: --read-timeout: "5" is not a duration; write 30s, 2m or 1h30m\nTry .*`},
		{"mount --max-peers 0 x y", 2, `torrentfs mount: --max-peers: "0" is not a whole number from 1 up\nTry .*`},
		{"mount --peer nowhere x y", 2, `torrentfs mount: --peer: "nowhere" is not an address; write .*\nTry .*`},
		{"mount --listen 1:2:3 x y", 2, `torrentfs mount: --listen: "1:2:3" is not an address; write .*\nTry .*`},
		{"mount --log-file log x y", 2, `torrentfs mount: --log-file is for --daemon; in the foreground, redirect stderr: 2>log\nTry .*`},
		{"mount nowhere.torrent " + dir, 1, `torrentfs: nowhere\.torrent: no such file.*\n`},
		{"mount --daemon nowhere.torrent " + dir, 1, `torrentfs: nowhere\.torrent: no such file.*\n`},
		{"mount --daemon " + magnet + " " + dir, 1, `torrentfs: magnet:\S+: magnet links are not supported yet; .*\n`},
		{"unmount", 2, `torrentfs unmount: MOUNTPOINT is missing\nTry .*`},
		{"unmount " + dir, 1, `torrentfs: nothing is mounted at \S+\n`},
		{"unmount " + dir + " " + dir, 1, `(torrentfs: nothing is mounted at \S+\n){2}`},
		{"demo a b", 2, `torrentfs demo: only a MOUNTPOINT is wanted, but there is also b\nTry .*`},
		{"info " + dir + "/nowhere.torrent", 1, `torrentfs: \S+/nowhere\.torrent: no such file.*\n`},
		{"info " + dir, 1, `torrentfs: \S+ is a directory; name a \.torrent file in it\n`},
		{"info " + notTorrent, 1, `torrentfs: \S+notes\.txt.*\n`},
		{"info " + magnet, 1, `torrentfs: magnet:\S+: magnet links are not supported yet; .*\n`},
		{"info 0123456789abcdef0123456789abcdef01234567", 1, `torrentfs: \S+: bare info-hashes are not supported yet; .*\n`},
		{"info HTTPS://host.example/x.torrent", 1, `torrentfs: \S+: http\(s\) URLs are not supported yet; .*\n`},
		{"info ftp://host.example/x.torrent", 1, `torrentfs: \S+: of URLs, only http and https can name a torrent\n`},
		{"info file:///tmp/a%20b.torrent", 1, `torrentfs: \S+: name the file itself: '/tmp/a b\.torrent'\n`},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			got := runProgram(t, strings.Fields(test.args)...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			if !regexp.MustCompile(`^(?:` + test.stderr + `)\n?$`).MatchString(got.stderr) {
				t.Errorf("stderr is %q\nwant it to match %s", got.stderr, test.stderr)
			}
			if failed := test.code != 0; failed == (got.stdout != "") {
				t.Errorf("stdout is %q", got.stdout)
			}
		})
	}
}

func TestEmptyArguments(t *testing.T) {
	for _, args := range [][]string{{"info", ""}, {"mount", "", "x"}, {"mount", "x", ""}, {"unmount", ""}, {"demo", ""}} {
		if code := run(t.Context(), args, io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%q: exit code %d", args, code)
		}
	}
}

// TestHelp compares what the verbs say of themselves with golden files; -update rewrites them.
func TestHelp(t *testing.T) {
	root := newRoot()
	for _, cmd := range append(root.Commands(), root) {
		if cmd.Name() == "completion" {
			continue
		}
		t.Run(cmd.Name(), func(t *testing.T) {
			golden(t, filepath.Join("testdata", "help", cmd.Name()+".txt"), help(t, cmd))
		})
	}
}

func help(t *testing.T, cmd *cobra.Command) []byte {
	t.Helper()
	args := []string{"--help"}
	if cmd.HasParent() {
		args = []string{cmd.Name(), "--help"}
	}
	var out bytes.Buffer
	if code := run(t.Context(), args, &out, io.Discard); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 105 {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	return out.Bytes()
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, got)
	}
}

func TestReport(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	for _, test := range []struct {
		err  error
		code int
		want string
	}{
		{nil, exitOK, ""},
		{one, exitFailure, "torrentfs: one\n"},
		{errors.Join(one, two), exitFailure, "torrentfs: one\ntorrentfs: two\n"},
		{fmt.Errorf("make a torrent: %w", context.Canceled), exitFailure, "torrentfs: interrupted\n"},
		{codeError(7), 7, ""},
		{usagef(newRoot(), "no %s", "such"), exitUsage, "torrentfs: no such\nTry 'torrentfs --help'.\n"},
	} {
		var said bytes.Buffer
		if code := report(&said, test.err); code != test.code || said.String() != test.want {
			t.Errorf("%v: exit code %d, %q", test.err, code, said.String())
		}
	}
}

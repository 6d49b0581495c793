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
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// asProgram makes the test binary behave as torrentfs, so that tests can run it in a subprocess.
const asProgram = "TORRENTFS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	switch os.Getenv(asProgram) {
	case "":
		os.Exit(runTests(m))
	case "foreground":
		fmt.Println(foreground(os.Stdout))
	default:
		main()
	}
}

// runTests runs the tests with a cache directory of their own.
func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "torrentfs-test-cache-")
	if err == nil {
		err = os.Setenv("XDG_CACHE_HOME", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
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
	dir, empty := t.TempDir(), t.TempDir()
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
		{"mount --bind-device= x y", 2, `torrentfs mount: --bind-device: "" is not the name of a network interface; write .*\nTry .*`},
		{"info --bind-device= x", 2, `torrentfs info: --bind-device: "" is not the name of a network interface; write .*\nTry .*`},
		{"seed --bind-device= x y", 2, `torrentfs seed: --bind-device: "" is not the name of a network interface; write .*\nTry .*`},
		{"mount --listen eth0:1 x y", 2, `torrentfs mount: --listen: "eth0:1" is not an address; write .*\nTry .*`},
		{"mount --proxy http://h:1 x y", 2, `torrentfs mount: --proxy: "http" is not a kind of proxy that is known; write socks5://.*\nTry .*`},
		{"seed --proxy socks5://h:0 x y", 2, `torrentfs seed: --proxy: "0" is not a port; write socks5://.*\nTry .*`},
		{"info --proxy socks5://u@h:1 x", 2, `torrentfs info: --proxy: a user and a password are .*; write socks5://.*\nTry .*`},
		{"info --no-dht --no-lsd --bind-device none0 " + magnet, 1, `torrentfs: cannot bind to the interface "none0": there is none of that name; there are .*\n`},
		{"mount --log-file log x y", 2, `torrentfs mount: --log-file is for --daemon; in the foreground, redirect stderr: 2>log\nTry .*`},
		{"mount nowhere.torrent " + dir, 1, `torrentfs: nowhere\.torrent: no such file.*\n`},
		{"mount --daemon nowhere.torrent " + dir, 1, `torrentfs: nowhere\.torrent: no such file.*\n`},
		{"mount --daemon magnet:?dn=x " + dir, 1, `torrentfs: magnet link has no info-hash .*\n`},
		{"mount --log-level error --no-dht --no-lsd " + magnet + " " + empty, 1, `torrentfs: magnet:\S+: there is nobody to ask what it is: .*\n`},
		{"mount " + magnet + " magnet:?dn=x " + dir, 1, `torrentfs: magnet:\?dn=x: magnet link has no info-hash .*\n`},
		{"info --log-level error --proxy socks5://127.0.0.1:1 " + magnet + "&tr=udp://t.example:1", 1,
			`torrentfs: magnet:\S+: there is nobody to ask what it is: its trackers are asked by UDP, .*; a --peer, or .*\n`},
		{"info --log-level error --proxy socks5://127.0.0.1:1 " + magnet, 1,
			`torrentfs: magnet:\S+: there is nobody to ask what it is: it names no tracker .*; a --peer would be a way\n`},
		{"mount --keep --cache-size 0 x y", 2, `torrentfs mount: --keep needs a place on disk, but --cache-size is 0\nTry .*`},
		{"mount --upload-limit 40Mbit x y", 2, `torrentfs mount: --upload-limit: "40Mbit" is in bits, but rates are in bytes; .*\nTry .*`},
		{"mount --resolve-timeout 0s x y", 2, `torrentfs mount: --resolve-timeout: 0s is not longer than zero\nTry .*`},
		{"mount --dht-bootstrap x x y", 2, `torrentfs mount: --dht-bootstrap: "x" is not an address; .*\nTry .*`},
		{"unmount", 2, `torrentfs unmount: MOUNTPOINT is missing\nTry .*`},
		{"unmount " + dir, 1, `torrentfs: nothing is mounted at \S+\n`},
		{"unmount " + dir + " " + dir, 1, `(torrentfs: nothing is mounted at \S+\n){2}`},
		{"demo a b", 2, `torrentfs demo: only a MOUNTPOINT is wanted, but there is also b\nTry .*`},
		{"info " + dir + "/nowhere.torrent", 1, `torrentfs: \S+/nowhere\.torrent: no such file.*\n`},
		{"info " + dir, 1, `torrentfs: \S+ is a directory; name a \.torrent file in it\n`},
		{"info " + notTorrent, 1, `torrentfs: \S+notes\.txt.*\n`},
		{"info magnet:?dn=x", 1, `torrentfs: magnet link has no info-hash .*\n`},
		{"info --no-dht --no-lsd --no-trackers " + magnet, 1, `torrentfs: magnet:\S+: there is nobody to ask what it is: .*\n`},
		{"info --no-dht --no-lsd " + magnet[len("magnet:?xt=urn:btih:"):][:40], 1, `torrentfs: \S+: there is nobody to ask what it is: .*\n`},
		{"info --no-dht --no-lsd --resolve-timeout 100ms --peer 127.0.0.1:1 " + magnet, 1,
			`torrentfs: magnet:\S+: not found in 100ms: .*; a longer --resolve-timeout or a --peer may help\n`},
		{"info --no-dht --no-lsd HTTP://127.0.0.1:1/x.torrent", 1, `torrentfs: HTTP://127.0.0.1:1/x.torrent: .*refused\n`},
		{"create", 2, `torrentfs create: PATH is missing\nTry .*`},
		{"create --piece-size 16KB x", 2, `torrentfs create: --piece-size: 16,000 bytes are not a power of two, as 16KiB or 1MiB is\nTry .*`},
		{"create --piece-size 8KiB x", 2, `torrentfs create: --piece-size: 8KiB is less than 16KiB, .*\nTry .*`},
		{"create --piece-size 512MiB x", 2, `torrentfs create: --piece-size: 512MiB is more than 256MiB, .*\nTry .*`},
		{"create --private x", 2, `torrentfs create: --private needs a --tracker: .*\nTry .*`},
		{"create --tracker host.example x", 2, `torrentfs create: --tracker: "host.example" is not a URL that begins with http:// or https:// or udp://\nTry .*`},
		{"create --web-seed udp://host.example x", 2, `torrentfs create: --web-seed: .* is not a URL .*\nTry .*`},
		{"create nowhere", 1, `torrentfs: .*nowhere: no such file or directory\n`},

		{"seed", 2, `torrentfs seed: SOURCE and PATH are missing\nTry .*`},
		{"seed x.torrent", 2, `torrentfs seed: PATH is missing\nTry .*`},
		{"seed nowhere.torrent " + dir, 1, `torrentfs: nowhere\.torrent: no such file.*\n`},

		{"cache", 2, `torrentfs cache: VERB is missing\nTry 'torrentfs cache --help'\.\n`},
		{"cache lss", 2, `torrentfs cache: there is no verb "lss"; did you mean ls\?\nTry .*`},
		{"cache ls x", 2, `torrentfs cache ls: it takes no arguments, but there is x\nTry 'torrentfs cache ls --help'\.\n`},
		{"cache rm", 2, `torrentfs cache rm: SOURCE is missing; --all removes everything\nTry .*`},
		{"cache rm --all x", 2, `torrentfs cache rm: either --all or x, not both\nTry .*`},
		{"cache rm nowhere.torrent", 1, `torrentfs: nowhere\.torrent: no such file.*\n`},
		{"cache rm " + magnet, 1, `torrentfs: x: nothing of it is in the cache\n`},
		{"cache verify " + magnet, 1, `torrentfs: x: nothing of it is in the cache\n`},
		{"cache export " + magnet, 2, `torrentfs cache export: DEST is missing\nTry .*`},
		{"cache export " + magnet + " " + empty, 1, `torrentfs: x: nothing of it is in the cache\n`},
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
	for _, args := range [][]string{{"info", ""}, {"mount", "", "x"}, {"mount", "x", ""}, {"unmount", ""}, {"demo", ""}, {"cache", "rm", ""}, {"create", ""}, {"seed", "x", ""}} {
		if code := run(t.Context(), args, io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%q: exit code %d", args, code)
		}
	}
}

// TestHelp compares what the verbs say of themselves with golden files; -update rewrites them.
func TestHelp(t *testing.T) {
	root := newRoot()
	verbs := append(root.Commands(), root)
	for _, cmd := range root.Commands() {
		verbs = append(verbs, cmd.Commands()...)
	}
	for _, cmd := range verbs {
		words := strings.Fields(cmd.CommandPath())
		if slices.Contains(words, "completion") {
			continue
		}
		name := strings.Join(words[min(1, len(words)-1):], "-")
		t.Run(name, func(t *testing.T) {
			golden(t, filepath.Join("testdata", "help", name+".txt"), help(t, words[1:]))
		})
	}
}

// help returns what the help of a verb, which may be a verb of a verb, says.
func help(t *testing.T, verb []string) []byte {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), append(slices.Clone(verb), "--help"), &out, io.Discard); code != exitOK {
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

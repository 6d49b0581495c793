package fs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"torrentfs/fetch/metainfo"
)

const serverEnv = "TORRENTFS_FS_TEST_SERVER"

// A serverConfig says what a test's server mounts and where.
type serverConfig struct {
	Dir      string
	Options  serverOptions
	Torrents []metainfo.Torrent
	Gate     int64 // reads beyond this offset of a torrent wait; 0: none does
	Heap     int64 // bytes that the server holds, as one with a cache does
}

// serverOptions are Options that can be sent to another process.
type serverOptions struct {
	ReadTimeout               time.Duration
	ReadAhead                 int64
	AllowOther, AllowNonEmpty bool
	FSName                    string
}

// A reply is one line that the server prints: the first once it has mounted, then one for each command.
type reply struct {
	Error   string
	Reads   int             // asked of all contents so far
	Asleep  int             // of these, waiting now
	Unheard int             // of all reads, those of what no window had announced
	Aheads  int             // calls of Ahead
	Ahead   map[uint64]span // windows that stand, by cursor
	Done    bool            // the mount is gone
	CPU     time.Duration   // that the server's process has used
}

// A span is a window as Content sees it, in offsets of the torrent.
type span struct{ Off, N, Rate int64 }

// serve is the server's side. It obeys commands, one a line on its standard input, until that ends:
//
//	stats          do nothing but reply
//	gate N         let reads up to offset N pass; 0: all
//	notice N TEXT  show a notice; no TEXT: remove it
//	add JSON       show another torrent
//	unmount        unmount and reply how that went, and whether a goroutine is left
//	wait           reply when the mount is gone
//
// Its configuration is the first line.
func serve() int {
	commands := bufio.NewScanner(os.Stdin)
	commands.Buffer(nil, 1<<26)
	var cfg serverConfig
	if commands.Scan(); json.Unmarshal(commands.Bytes(), &cfg) != nil {
		return 2
	}
	out := json.NewEncoder(os.Stdout)
	content := newFakeContent(cfg.Gate)
	content.heap = make([]byte, cfg.Heap)
	tree, err := Mount(cfg.Dir, Options{
		ReadTimeout:   cfg.Options.ReadTimeout,
		ReadAhead:     cfg.Options.ReadAhead,
		AllowOther:    cfg.Options.AllowOther,
		AllowNonEmpty: cfg.Options.AllowNonEmpty,
		FSName:        cfg.Options.FSName,
		Logger:        slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	for i := range cfg.Torrents {
		if err == nil {
			err = tree.Add(&cfg.Torrents[i], content.of(cfg.Torrents[i].InfoHash))
		}
	}
	answer := func(err error) {
		r := content.reply()
		if err != nil {
			r.Error = err.Error()
		}
		r.CPU = cpuTime()
		if tree != nil {
			select {
			case <-tree.Done():
				r.Done = true
			default:
			}
		}
		_ = out.Encode(r)
	}
	answer(err)
	if err != nil {
		return 1
	}
	ctx := context.Background()
	for commands.Scan() {
		verb, arg, _ := strings.Cut(commands.Text(), " ")
		err := error(nil)
		switch verb {
		case "gate":
			var off int64
			_, err = fmt.Sscan(arg, &off)
			content.setGate(off)
		case "notice":
			name, text, ok := strings.Cut(arg, " ")
			tree.SetNotice(name, map[bool]func() []byte{true: func() []byte { return []byte(text) }}[ok])
		case "add":
			var t metainfo.Torrent
			if err = json.Unmarshal([]byte(arg), &t); err == nil {
				err = tree.Add(&t, content.of(t.InfoHash))
			}
		case "unmount":
			if err = tree.Unmount(ctx); err == nil {
				err = errors.Join(tree.Err(), goleak.Find())
			}
		case "wait":
			<-tree.Done()
			err = errors.Join(tree.Err(), goleak.Find())
		}
		answer(err)
	}
	if err := tree.Unmount(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// cpuTime is what this process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A fakeContent holds torrents in memory, all of them of the same bytes but for where these begin.
type fakeContent struct {
	mu     sync.Mutex
	gate   int64
	views  int
	moved  chan struct{} // closed when gate changes
	state  reply
	heard  []span // all windows so far
	pieces []byte
	heap   []byte
}

func newFakeContent(gate int64) *fakeContent {
	return &fakeContent{gate: gate, moved: make(chan struct{}), state: reply{Ahead: make(map[uint64]span)}, pieces: pattern()}
}

func (f *fakeContent) setGate(off int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = off
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *fakeContent) reply() reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.state
	r.Ahead = make(map[uint64]span)
	for k, v := range f.state.Ahead {
		r.Ahead[k] = v
	}
	return r
}

func (f *fakeContent) of(h metainfo.Hash) Content { return &fakeTorrent{f, h} }

type fakeTorrent struct {
	*fakeContent
	hash metainfo.Hash
}

func (f *fakeTorrent) ReadAt(ctx context.Context, p []byte, off int64) error {
	f.mu.Lock()
	f.count(off, int64(len(p)))
	for f.gate != 0 && off+int64(len(p)) > f.gate {
		moved := f.moved
		f.state.Asleep++
		f.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		f.mu.Lock()
		f.state.Asleep--
		if err := ctx.Err(); err != nil {
			f.mu.Unlock()
			return fmt.Errorf("wait for peers: %w", err)
		}
	}
	f.mu.Unlock()
	fill(p, f.pieces, f.hash, off)
	return nil
}

// View gives every other read its bytes at once, if they are there, so that both ways are taken.
func (f *fakeTorrent) View(off, n int64) ([]byte, func(), bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.views++; f.views%2 == 0 || f.gate != 0 && off+n > f.gate {
		return nil, nil, false
	}
	f.count(off, n)
	p := make([]byte, n)
	fill(p, f.pieces, f.hash, off)
	return p, func() {}, true
}

// count counts a read. It is called with mu held.
func (f *fakeTorrent) count(off, n int64) {
	f.state.Reads++
	if !slices.ContainsFunc(f.heard, func(s span) bool { return s.Off <= off && off+n <= s.Off+s.N }) {
		f.state.Unheard++
	}
}

func (f *fakeTorrent) Ahead(cursor uint64, off, n, rate int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Aheads++
	f.state.Ahead[cursor] = span{off, n, rate}
	if n == 0 {
		delete(f.state.Ahead, cursor)
		return
	}
	if last := len(f.heard) - 1; last >= 0 && f.heard[last].Off <= off && off <= f.heard[last].Off+f.heard[last].N {
		f.heard[last].N = max(f.heard[last].N, off+n-f.heard[last].Off) // the same window, moved
	} else {
		f.heard = append(f.heard, span{Off: off, N: n})
	}
}

// pattern returns the bytes that every torrent repeats. Its length has nothing to do with that of a page or a
// piece, so that bytes from a wrong place don't pass for the right ones.
func pattern() []byte {
	p := make([]byte, 1<<20+4099)
	x := uint64(88172645463325252)
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 32)
	}
	return p
}

// fill makes the bytes of a torrent at off.
func fill(p, pattern []byte, h metainfo.Hash, off int64) {
	at := int(off+int64(h[0])*1009) % len(pattern)
	for len(p) > 0 {
		n := copy(p, pattern[at:])
		p = p[n:]
		at = 0
	}
}

// want returns the bytes [off, off+n) that a file of the torrent must have.
func want(t *metainfo.Torrent, f metainfo.File, off, n int64) []byte {
	p := make([]byte, max(0, min(n, f.Length-off)))
	fill(p, wantPattern(), t.InfoHash, f.Offset+off)
	return p
}

var wantPattern = sync.OnceValue(pattern)

// layout gives the files of a torrent their offsets.
func layout(hash byte, name string, files ...metainfo.File) metainfo.Torrent {
	t := metainfo.Torrent{Name: name, InfoHash: metainfo.Hash{hash}, PieceLength: 1 << 20, Files: files}
	for i := range files {
		t.MultiFile = t.MultiFile || files[i].Path != name
		files[i].Offset = t.Length
		t.Length += files[i].Length
	}
	return t
}

// single is a torrent of one file of that length.
func single(hash byte, name string, n int64) metainfo.Torrent {
	return layout(hash, name, metainfo.File{Path: name, Length: n})
}

// logs is what a server has logged so far.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// A server is a process that mounts what a test looks at.
type server struct {
	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	logs *logs
	dead bool
}

// startServer mounts the torrents in a process of its own, and ends it with the test.
func startServer(t testing.TB, opt serverOptions, gate int64, torrents ...metainfo.Torrent) *server {
	t.Helper()
	s, r := tryServer(t, serverConfig{Dir: t.TempDir(), Options: opt, Gate: gate, Torrents: torrents})
	if r.Error != "" {
		t.Fatal(r.Error)
	}
	return s
}

// tryServer starts a server that may fail to mount.
func tryServer(t testing.TB, cfg serverConfig) (*server, reply) {
	t.Helper()
	return startUser(t, os.Args[0], cfg, nil)
}

// startUser starts a server that is another program, or another user's.
func startUser(t testing.TB, program string, cfg serverConfig, cred *syscall.Credential) (*server, reply) {
	t.Helper()
	needFUSE(t)
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: cfg.Dir, cmd: exec.Command(program), logs: new(logs)}
	s.cmd.Env = append(os.Environ(), serverEnv+"=1", "GORACE=atexit_sleep_ms=0")
	s.cmd.Stderr = s.logs
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if cred != nil {
		s.cmd.Dir = "/"
	}
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.in = in
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = json.NewDecoder(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.tell("%s", config)
	return s, s.receive()
}

func (s *server) receive() reply {
	s.t.Helper()
	var r reply
	if err := s.out.Decode(&r); err != nil {
		s.t.Fatalf("the server is silent (%v); it logged:\n%s", err, s.logs)
	}
	return r
}

// ask sends a command and returns the reply, which must not be an error.
func (s *server) ask(format string, args ...any) reply {
	s.t.Helper()
	s.tell(format, args...)
	r := s.receive()
	if r.Error != "" {
		s.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), r.Error)
	}
	return r
}

func (s *server) tell(format string, args ...any) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, format+"\n", args...); err != nil {
		s.t.Fatal(err)
	}
}

// until asks for the state until it is as ok wants it.
func (s *server) until(what string, ok func(reply) bool) reply {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		r := s.ask("stats")
		if ok(r) {
			return r
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s; the state is %+v", what, r)
		}
	}
}

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the server as a crash would.
func (s *server) kill() {
	s.dead = true
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// stop ends the server and looks after what it left.
func (s *server) stop() {
	if !s.dead {
		s.dead = true
		s.in.Close()
		timer := time.AfterFunc(20*time.Second, func() {
			s.t.Error("the server doesn't end")
			_ = s.cmd.Process.Kill()
		})
		if err := s.cmd.Wait(); err != nil && !s.t.Failed() && s.cmd.ProcessState.ExitCode() != 1 {
			s.t.Errorf("server: %v", err)
		}
		timer.Stop()
	}
	if _, ok := mountedAt(s.dir); ok {
		_ = umount(s.dir, true)
	}
	if logged := s.logs.String(); s.t.Failed() && logged != "" || strings.Contains(logged, "DATA RACE") || strings.Contains(logged, "panic") {
		s.t.Errorf("the server logged:\n%s", logged)
	}
}

func (s *server) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// needFUSE skips a test where nothing can be mounted, which CI does not accept.
func needFUSE(t testing.TB) {
	t.Helper()
	reason := ""
	if _, err := exec.LookPath(helper); err != nil {
		reason = "fusermount3 is not installed"
	} else if _, err := os.Stat("/dev/fuse"); err != nil {
		reason = "there is no /dev/fuse"
	}
	switch {
	case reason == "":
	case os.Getenv("CI") == "true":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}

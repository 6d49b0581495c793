package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A reader is a program that gets at a torrent's bytes: one that mounts it or one that downloads it.
type reader struct {
	name     string
	about    string
	guest    bool                                      // not known to the cases: takes part in all of them
	mount    func(torrent, data, dir string) *exec.Cmd // in the foreground; nil for a downloader
	download func(ctx context.Context, b *bench, s *swarm, t *torrent, data string, limit time.Duration) (Sample, error)
}

// memory is what torrentfs is given, in bytes.
const memory = 256 << 20

// torrentfs is a reader that binary is. Flags it does not know (yet) are left out.
func torrentfs(name, about, binary string, extra []string) reader {
	help, _ := exec.Command(binary, "mount", "--help").CombinedOutput()
	args := []string{"mount"}
	for _, flag := range []string{"--no-dht", "--no-lsd", "--no-pex", fmt.Sprintf("--memory=%dMiB", memory>>20)} {
		name, _, _ := strings.Cut(flag, "=")
		if bytes.Contains(help, []byte(name)) {
			args = append(args, flag)
		}
	}
	args = append(args, extra...)
	return reader{name: name, about: about, mount: func(torrent, _, dir string) *exec.Cmd {
		return exec.Command(binary, append(args[:len(args):len(args)], torrent, dir)...)
	}}
}

// rivals are the readers of others that this machine has, by name.
func rivals() []reader {
	all := []reader{
		{name: "btfs", about: "a mount on libtorrent, Debian's build", mount: func(torrent, data, dir string) *exec.Cmd {
			return exec.Command("btfs", "-f", "--data-directory="+data, torrent, dir)
		}},
		{name: "libtorrent", about: "libtorrent's own sequential download to disk", download: libtorrentDownload},
		{name: "aria2c", about: "aria2's download to disk", download: aria2Download},
	}
	var have []reader
	for _, r := range all {
		if _, err := exec.LookPath(r.name); err == nil || r.name == "libtorrent" {
			have = append(have, r)
		}
	}
	return have
}

// guest is the mount that a line of the form "name=command and its arguments" describes. In these {torrent}
// stands for the .torrent, {torrents} for the directory that holds it alone, {data} for one to keep things in
// and {dir} for the mountpoint, where the file has to appear.
func guest(line string) (reader, error) {
	name, command, ok := strings.Cut(line, "=")
	args := strings.Fields(command)
	if !ok || len(args) == 0 {
		return reader{}, fmt.Errorf("-mount %q: not of the form name=command", line)
	}
	return reader{name: name, about: command, guest: true, mount: func(torrent, data, dir string) *exec.Cmd {
		r := strings.NewReplacer("{torrent}", torrent, "{torrents}", filepath.Dir(torrent), "{data}", data, "{dir}", dir)
		var filled []string
		for _, arg := range args {
			filled = append(filled, r.Replace(arg))
		}
		return exec.Command(filled[0], filled[1:]...)
	}}, nil
}

// A mounted is a mount that is up.
type mounted struct {
	dir, file string
	cmd       *exec.Cmd
	began, up time.Time
	log       *bytes.Buffer
	gone      chan struct{} // closed when the process has ended
}

// start runs the reader's mount and returns once its file can be seen.
func (r reader) start(ctx context.Context, s *swarm, work string) (*mounted, error) {
	m := &mounted{dir: filepath.Join(work, "mnt"), log: new(bytes.Buffer), gone: make(chan struct{})}
	data := filepath.Join(work, "data")
	if err := errors.Join(os.MkdirAll(m.dir, 0o755), os.MkdirAll(data, 0o755)); err != nil {
		return nil, err
	}
	m.file = filepath.Join(m.dir, fileName)
	m.cmd = r.mount(s.torrent, data, m.dir)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	m.cmd.WaitDelay = time.Second
	m.cmd.Env = append(os.Environ(), "HOME="+data, "XDG_CACHE_HOME="+data) // nothing of an earlier run
	m.began = time.Now()
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = m.cmd.Wait(); close(m.gone) }()
	for {
		if _, err := os.Stat(m.file); err == nil {
			m.up = time.Now()
			return m, nil
		}
		select {
		case <-m.gone:
			m.stop()
			return nil, fmt.Errorf("%s: %v: %s", r.name, m.cmd.ProcessState, lastLines(m.log.String()))
		case <-time.After(time.Millisecond):
		}
		if ctx.Err() != nil || time.Since(m.began) > 20*time.Second {
			m.stop()
			return nil, fmt.Errorf("%s: no mount after %v: %s", r.name, time.Since(m.began), lastLines(m.log.String()))
		}
	}
}

// kill ends the process at once; a read blocked in the mount then fails.
func (m *mounted) kill() { _ = m.cmd.Process.Kill() }

// stop unmounts and ends the process, gently at first.
func (m *mounted) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.gone:
	case <-time.After(5 * time.Second):
		m.kill()
		<-m.gone
	}
	if out, err := os.ReadFile("/proc/self/mounts"); err == nil && strings.Contains(string(out), " "+m.dir+" ") {
		_ = exec.Command("fusermount3", "-uz", m.dir).Run()
	}
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

//go:embed download.py
var downloadScript string

func libtorrentDownload(ctx context.Context, _ *bench, s *swarm, _ *torrent, data string, limit time.Duration) (Sample, error) {
	in, _ := json.Marshal(map[string]any{"torrent": s.torrent, "data": data, "limit": limit.Seconds()})
	cmd := exec.CommandContext(ctx, python, "-c", downloadScript)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(append(in, '\n')), os.Stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return Sample{}, err
	}
	var got struct {
		Seconds, First, CPU float64
		Bytes, Peak         int64
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return Sample{}, err
	}
	return Sample{
		Bytes: got.Bytes, Rate: float64(got.Bytes) / got.Seconds, First: got.First, Peak: got.Peak,
		CPU: perGiB(got.CPU, got.Bytes),
	}, nil
}

func aria2Download(ctx context.Context, _ *bench, s *swarm, t *torrent, data string, limit time.Duration) (Sample, error) {
	cmd := exec.CommandContext(ctx, "aria2c", "--no-conf", "--quiet", "--dir="+data, "--seed-time=0", "--file-allocation=none",
		"--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
		"--disable-ipv6", "--bt-max-peers=0", "--bt-tracker-connect-timeout=5", s.torrent)
	cmd.Env = append(os.Environ(), "HOME="+data)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return Sample{}, err
	}
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	took := time.Since(began).Seconds()
	bytes := t.size
	if !late.Stop() { // cut short: what the seeders sent it is what it got
		if bytes, err = s.seeders.sent(ctx); err != nil {
			return Sample{}, err
		}
	} else if err != nil {
		return Sample{}, err
	}
	use := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return Sample{
		Bytes: bytes, Rate: float64(bytes) / took, Peak: use.Maxrss << 10, CPU: perGiB(rusageCPU(use).Seconds(), bytes),
	}, nil
}

// perGiB spreads CPU-seconds over bytes.
func perGiB(seconds float64, bytes int64) float64 {
	if bytes == 0 {
		return 0
	}
	return seconds / (float64(bytes) / (1 << 30))
}

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// videos are made by ffmpeg: an mp4 whose index stands at its end, as ffmpeg writes it by default, and an mkv.
var videos = []string{"index at the end.mp4", "clip.mkv"}

// film makes some seconds of moving test picture with a tone, large for their length.
func film(t testing.TB, name string) string {
	t.Helper()
	need(t, "ffmpeg", "ffprobe")
	path := filepath.Join(t.TempDir(), name)
	output(t, "ffmpeg", "-v", "error",
		"-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25,noise=alls=20:allf=t", "-f", "lavfi", "-i", "sine",
		"-t", "60", "-c:v", "mpeg4", "-qscale:v", "5", "-c:a", "aac", path)
	return path
}

func TestVideo(t *testing.T) {
	t.Parallel()
	for _, name := range videos {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := film(t, name)
			tt := byTransmission(t, path, making{piece: 256 << 10})
			m := mountTorrent(t, tt, "--peer", seedByLibtorrent(t, tt, seeding{}).addr())
			probe := func(path string) string {
				return output(t, "ffprobe", "-v", "error", "-show_entries", "stream=codec_name,nb_frames,duration:format=duration,size", path)
			}
			if got, want := probe(m.path(name)), probe(path); got != want {
				t.Errorf("ffprobe says of the mount\n%s\nand of the original\n%s", got, want)
			}
			decoded := func(path string) string {
				return output(t, "ffmpeg", "-v", "error", "-xerror", "-i", path, "-map", "0", "-f", "md5", "-")
			}
			if got, want := decoded(m.path(name)), decoded(path); got != want {
				t.Errorf("decoded to %s, the original to %s", got, want)
			}
		})
	}
}

// TestPlay plays the beginning of a video, seeks and plays on. Far less than the whole must be fetched for that.
func TestPlay(t *testing.T) {
	t.Parallel()
	for _, name := range videos {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := film(t, name)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			tt := byTransmission(t, path, making{piece: 128 << 10})
			s := seedByLibtorrent(t, tt, seeding{})
			m := mountTorrent(t, tt, "--readahead", "1MiB", "--peer", s.addr())

			p := play(t, m.path(name))
			p.awaitPosition(0, 2)
			p.command("seek", 45, "absolute+exact")
			p.awaitPosition(45, 47)
			p.command("seek", 20, "absolute+exact")
			p.awaitPosition(20, 22)
			p.command("quit")
			if code := p.exit(); code != 0 {
				t.Errorf("mpv: exit code %d", code)
			}
			if got := s.uploaded(); got > info.Size()/2 {
				t.Errorf("of %d bytes %d were fetched to play 6 seconds of 60", info.Size(), got)
			} else {
				t.Logf("of %d bytes %d were fetched", info.Size(), got)
			}
		})
	}
}

// player is an mpv that is told by its JSON protocol what to do.
type player struct {
	*process
	conn    net.Conn
	replies *bufio.Scanner
}

func play(t testing.TB, path string) *player {
	t.Helper()
	need(t, "mpv")
	socket := filepath.Join(t.TempDir(), "mpv")
	// Without --cache=no mpv reads 150 MB ahead of its own accord, since it sees a network's file system.
	p := &player{process: start(t, exec.Command("mpv", "--no-config", "--no-terminal", "--vo=null", "--ao=null", "--cache=no",
		"--input-ipc-server="+socket, path))}
	eventually(t, "mpv listens", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			p.conn, p.replies = conn, bufio.NewScanner(conn)
		}
		return err == nil || p.ended()
	})
	if p.conn == nil {
		t.Fatalf("mpv ended: exit code %d\n%s", p.exit(), p.stderr())
	}
	t.Cleanup(func() { p.conn.Close() })
	return p
}

// command gives mpv a command, and its answer back: nil where it had none to give.
func (p *player) command(args ...any) any {
	p.t.Helper()
	if err := json.NewEncoder(p.conn).Encode(map[string]any{"command": args}); err != nil {
		p.t.Fatalf("mpv: %v", err)
	}
	for p.replies.Scan() {
		var reply struct {
			Event string
			Data  any
		}
		decode(p.t, p.replies.Text(), &reply)
		if reply.Event == "" {
			return reply.Data
		}
	}
	p.t.Fatalf("mpv hung up: %v\n%s", p.replies.Err(), p.stderr())
	return nil
}

// awaitPosition waits until mpv plays between two seconds, and then has come to the later one.
func (p *player) awaitPosition(from, to float64) {
	p.t.Helper()
	entered := false
	eventually(p.t, fmt.Sprintf("mpv plays from second %v to %v", from, to), func() bool {
		at, ok := p.command("get_property", "time-pos").(float64)
		entered = entered || ok && at >= from && at < to
		return entered && at >= to
	})
}

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// seeder is another client that has all of a torrent and gives it away.
type seeder interface {
	addr() string    // HOST:PORT
	uploaded() int64 // bytes of payload given away so far
	kill()
}

// seeding is what a test asks of a seeder; the zero value is any port, and as fast as it goes.
type seeding struct {
	port  int // to listen on; 0 for any
	limit int // upload limit in bytes a second; 0 for none

	settings map[string]any // libtorrent only
}

// libtorrentSeeder seeds one torrent by swarm.py.
type libtorrentSeeder struct {
	*process
	port  int
	ask   io.Writer
	reply *bufio.Reader
}

func seedByLibtorrent(t testing.TB, tt torrent, s seeding) seeder {
	t.Helper()
	cmd := libtorrent(t, "seed", map[string]any{
		"torrent": tt.file, "folder": tt.folder, "port": s.port, "upload_limit": s.limit, "settings": s.settings,
	})
	ask, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// Not StdoutPipe: waiting for the process would close it under a reader.
	reply, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	l := &libtorrentSeeder{process: start(t, cmd), ask: ask, reply: bufio.NewReader(reply)}
	w.Close()
	t.Cleanup(func() { reply.Close() })
	var hello struct{ Port int }
	decode(t, l.line(), &hello)
	l.port = hello.Port
	return l
}

func (l *libtorrentSeeder) line() string {
	l.t.Helper()
	s, err := l.reply.ReadString('\n')
	if err != nil {
		l.t.Fatalf("libtorrent: %v\n%s", err, l.stderr())
	}
	return s
}

func (l *libtorrentSeeder) addr() string { return fmt.Sprintf("127.0.0.1:%d", l.port) }

func (l *libtorrentSeeder) uploaded() int64 {
	l.t.Helper()
	if _, err := io.WriteString(l.ask, "\n"); err != nil {
		l.t.Fatal(err)
	}
	var stats struct{ Uploaded int64 }
	decode(l.t, l.line(), &stats)
	return stats.Uploaded
}

// transmission is a transmission-daemon that seeds one torrent.
type transmission struct {
	*process
	port    int
	rpc     string
	session string // the token it hands out against cross-site requests
}

func seedByTransmission(t testing.TB, tt torrent, s seeding) seeder {
	t.Helper()
	d := startTransmission(t, tt, s.port, map[string]any{
		"download-dir":           tt.folder,
		"speed-limit-up-enabled": s.limit > 0,
		"speed-limit-up":         s.limit / 1000,
	})
	d.awaitAll(tt)
	return d
}

// startTransmission starts a transmission-daemon that has or gets one torrent. A port of 0 is any.
func startTransmission(t testing.TB, tt torrent, port int, more map[string]any) *transmission {
	t.Helper()
	need(t, "transmission-daemon")
	home := t.TempDir()
	d := &transmission{port: port}
	if d.port == 0 {
		d.port = freePort(t)
	}
	rpc := freePort(t)
	d.rpc = fmt.Sprintf("http://127.0.0.1:%d/transmission/rpc", rpc)
	settings := map[string]any{
		"bind-address-ipv4":       "127.0.0.1",
		"bind-address-ipv6":       "::1",
		"dht-enabled":             false,
		"lpd-enabled":             false,
		"pex-enabled":             false,
		"utp-enabled":             false,
		"port-forwarding-enabled": false,
		"peer-port":               d.port,
		"rpc-bind-address":        "127.0.0.1",
		"rpc-port":                rpc,
	}
	maps.Copy(settings, more)
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "settings.json"), b)
	d.process = start(t, exec.Command("transmission-daemon", "--foreground", "--log-error", "--config-dir", home))
	eventually(t, "transmission-daemon answers", func() bool {
		return d.ended() || d.call("session-get", nil, nil) == nil
	})
	if err := d.call("torrent-add", map[string]any{"filename": tt.file}, nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// awaitAll waits until the daemon has all of its torrent.
func (d *transmission) awaitAll(tt torrent) {
	d.t.Helper()
	eventually(d.t, "transmission-daemon has begun to seed "+tt.name, func() bool {
		const seeds = 6 // of the states a torrent can be in
		got := d.torrent()
		if got.Error != 0 {
			d.t.Fatalf("transmission-daemon: %s: %s", tt.name, got.ErrorString)
		}
		return got.Status == seeds
	})
}

func (d *transmission) addr() string    { return fmt.Sprintf("127.0.0.1:%d", d.port) }
func (d *transmission) uploaded() int64 { return d.torrent().UploadedEver }

type transmissionTorrent struct {
	Status       int
	Error        int
	ErrorString  string
	UploadedEver int64
}

func (d *transmission) torrent() transmissionTorrent {
	d.t.Helper()
	var got struct{ Torrents []transmissionTorrent }
	err := d.call("torrent-get", map[string]any{"fields": []string{"status", "error", "errorString", "uploadedEver"}}, &got)
	if err != nil || len(got.Torrents) != 1 {
		d.t.Fatalf("torrent-get: %v, %d torrents", err, len(got.Torrents))
	}
	return got.Torrents[0]
}

// call makes one remote procedure call and decodes its arguments into result.
func (d *transmission) call(method string, arguments, result any) error {
	body, err := json.Marshal(map[string]any{"method": method, "arguments": arguments})
	if err != nil {
		return err
	}
	for range 2 { // the first call only learns the session's token
		req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.rpc, bytes.NewReader(body))
		if err != nil {
			return err
		}
		const token = "X-Transmission-Session-Id"
		req.Header.Set(token, d.session)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusConflict {
			d.session = resp.Header.Get(token)
			continue
		}
		reply := struct {
			Result    string
			Arguments any
		}{Arguments: result}
		if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
			return err
		}
		if reply.Result != "success" {
			return fmt.Errorf("transmission: %s: %s", method, reply.Result)
		}
		return nil
	}
	return fmt.Errorf("transmission: %s: no session", method)
}

package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// tracker is an opentracker that serves what it was told to.
type tracker struct {
	t    testing.TB
	port int
}

// newTracker chooses where a tracker will listen, so that torrents can name it before serve starts it.
func newTracker(t testing.TB) *tracker {
	t.Helper()
	need(t, "opentracker")
	return &tracker{t: t, port: freePort(t)}
}

func (tr *tracker) url() string { return fmt.Sprintf("http://127.0.0.1:%d/announce", tr.port) }

// serve starts the tracker for these torrents alone.
func (tr *tracker) serve(torrents ...torrent) *process {
	tr.t.Helper()
	// As root opentracker becomes nobody and changes its root to -d, so the list is named relative to it.
	dir := tr.t.TempDir()
	var list strings.Builder
	for _, tt := range torrents {
		fmt.Fprintln(&list, tt.hash)
	}
	write(tr.t, filepath.Join(dir, "allowed"), []byte(list.String()))
	port := strconv.Itoa(tr.port)
	cmd := exec.Command("opentracker", "-i", "127.0.0.1", "-p", port, "-P", port, "-d", dir, "-w", "allowed")
	if os.Getuid() != 0 {
		cmd.Dir = dir
	}
	p := start(tr.t, cmd)
	eventually(tr.t, "opentracker answers", func() bool {
		_, err := tr.get("/stats")
		return err == nil || p.ended()
	})
	return p
}

func (tr *tracker) get(path string) (string, error) {
	req, err := http.NewRequestWithContext(tr.t.Context(), http.MethodGet,
		fmt.Sprintf("http://127.0.0.1:%d%s", tr.port, path), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

var scraped = regexp.MustCompile(`8:completei(\d+)e.*10:incompletei(\d+)e`)

// scrape gives how many seeders and others the tracker knows for a torrent.
func (tr *tracker) scrape(tt torrent) (seeders, others int, err error) {
	hash, err := hex.DecodeString(tt.hash)
	if err != nil {
		return 0, 0, err
	}
	var query strings.Builder
	for _, b := range hash {
		fmt.Fprintf(&query, "%%%02x", b)
	}
	reply, err := tr.get("/scrape?info_hash=" + query.String())
	if err != nil {
		return 0, 0, err
	}
	m := scraped.FindStringSubmatch(reply)
	if m == nil {
		return 0, 0, fmt.Errorf("scrape: %q", reply)
	}
	seeders, _ = strconv.Atoi(m[1])
	others, _ = strconv.Atoi(m[2])
	return seeders, others, nil
}

// awaitSeeders waits until the tracker knows n seeders of the torrent: who asks before that may be told to come
// again in half an hour.
func (tr *tracker) awaitSeeders(tt torrent, n int) {
	tr.t.Helper()
	eventually(tr.t, fmt.Sprintf("the tracker knows %d seeders", n), func() bool {
		seeders, _, err := tr.scrape(tt)
		return err == nil && seeders == n
	})
}

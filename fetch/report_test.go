package fetch_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"torrentfs/cache"
	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
)

// register is a tracker that keeps what it is told: event and bytes left.
type register struct {
	*httptest.Server
	told chan string
}

func newRegister(t *testing.T) *register {
	t.Helper()
	r := &register{told: make(chan string, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		q := req.URL.Query()
		r.told <- q.Get("event") + " " + q.Get("left")
		_, _ = io.WriteString(w, "d8:intervali1800e5:peers0:e")
	}))
	t.Cleanup(r.Close)
	return r
}

// next is the next announce.
func (r *register) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-r.told:
		return s
	case <-time.After(time.Minute):
		t.Fatal("the tracker is not told")
		return ""
	}
}

func (r *register) expect(t *testing.T, want string) {
	t.Helper()
	if got := r.next(t); got != want {
		t.Errorf("the tracker is told %q, want %q", got, want)
	}
}

// run takes part in the torrent for as long as n bytes of it are read.
func (r *register) run(t *testing.T, torrent *metainfo.Torrent, store *cache.Torrent, peer string, n int64, told ...string) {
	t.Helper()
	client, err := fetch.New(fetch.Config{NoDHT: true, NoLSD: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tracked := *torrent
	tracked.Trackers = [][]string{{r.URL + "/announce"}}
	x, err := client.Add(&tracked, store, fetch.AddOptions{Peers: []string{peer}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range told {
		if r.expect(t, want); i == 0 {
			readAll(t, x, n, 256<<10)
		}
	}
	for deadline := time.Now().Add(time.Minute); x.Stats().Trackers[0].Last.IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) { // one whose answer never came is not told that we stop
			t.Fatalf("%+v", x.Stats())
		}
	}
}

// Trackers are told what is not held, and that a download is complete once it is.
func TestTrackersAreToldWhatIsLeft(t *testing.T) {
	const length, pieceLength = 1 << 20, 64 << 10
	_, torrent, path := content(t, length, pieceLength)
	from := seeder(t, torrent, path)
	r := newRegister(t)

	store := memory(t, torrent, 64<<20)
	r.run(t, torrent, store, from, length/2, "started 1048576")
	r.expect(t, "stopped 524288")
	r.run(t, torrent, store, from, length, "started 524288", "completed 0")
	r.expect(t, "stopped 0")
	r.run(t, torrent, store, from, length, "started 0")
	r.expect(t, "stopped 0")

	// Where all passes through and little stays, the download is never complete.
	r.run(t, torrent, memory(t, torrent, 8*pieceLength), from, length, "started 1048576")
	if got := r.next(t); !strings.HasPrefix(got, "stopped ") || got == "stopped 0" {
		t.Errorf("the tracker is told %q", got)
	}
}

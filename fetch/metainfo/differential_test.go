package metainfo

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// reading is how a client reads a torrent. What a client does not tell is left zero.
type reading struct {
	OK          bool   `json:"ok"`
	Error       string `json:"error"`
	Name        string `json:"name"`
	Hash        string `json:"hash"`
	HashV2      string `json:"hash_v2"`
	PieceLength int64  `json:"piece_length"`
	Pieces      int    `json:"pieces"`
	Length      int64  `json:"length"`
	Private     bool   `json:"private"`
	Trackers    []string
	Peers       []string
	Files       []struct {
		Path           string
		Length, Offset int64
		Padding, Link  bool
	}
}

// askLibtorrent has libtorrent read paths of .torrent files or magnet links.
func askLibtorrent(t *testing.T, what []string) []reading {
	t.Helper()
	const python = "/usr/bin/python3" // the one that Debian's python3-libtorrent is for
	if err := exec.Command(python, "-c", "import libtorrent").Run(); err != nil {
		missing(t, "python3-libtorrent is not installed")
	}
	var in bytes.Buffer
	for _, w := range what {
		line, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/oracle.py")
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("oracle.py: %v", err)
	}
	answers := make([]reading, len(what))
	for i, line := range bytes.SplitN(bytes.TrimSpace(out), []byte("\n"), len(what)) {
		if err := json.Unmarshal(line, &answers[i]); err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

var showLine = regexp.MustCompile(`(?m)^  (Name|Hash|Piece Count|Privacy): (.*)$`)

// askTransmission has transmission-show read the .torrent file at path.
func askTransmission(t *testing.T, program, path string) reading {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, path).CombinedOutput()
	if err != nil {
		return reading{Error: strings.TrimSpace(string(out))}
	}
	r := reading{OK: true}
	for _, m := range showLine.FindAllSubmatch(out, -1) {
		switch v := string(m[2]); string(m[1]) {
		case "Name":
			r.Name = v
		case "Hash":
			r.Hash = v
		case "Piece Count":
			r.Pieces, _ = strconv.Atoi(v)
		case "Privacy":
			r.Private = strings.HasPrefix(v, "Private")
		}
	}
	return r
}

// TestAsOthersDo reads the whole table with libtorrent and transmission: what either opens, this package opens,
// but for the cases that say why not; and the info-hash and the layout are the same.
func TestAsOthersDo(t *testing.T) {
	show := need(t, "transmission-show")
	cases := badTorrents()
	dir := t.TempDir()
	var files []string
	for i, c := range cases {
		files = append(files, filepath.Join(dir, fmt.Sprintf("%d.torrent", i)))
		if err := os.WriteFile(files[i], []byte(c.data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	transmission := make([]reading, len(files))
	for i, f := range files {
		g.Go(func() error {
			transmission[i] = askTransmission(t, show, f)
			return nil
		})
	}
	libtorrent := askLibtorrent(t, files)
	g.Wait()
	for i, c := range cases {
		tor, err := Parse([]byte(c.data))
		opens := openers(libtorrent[i], transmission[i])
		if err != nil {
			if len(opens) > 0 && c.strict == "" {
				t.Errorf("%s: %s, not here: %v", c.name, strings.Join(opens, " and "), err)
			}
			continue
		}
		for client, r := range map[string]reading{"libtorrent": libtorrent[i], "transmission": transmission[i]} {
			if r.OK {
				compare(t, c, client, tor, r)
			}
		}
	}
}

func openers(libtorrent, transmission reading) []string {
	var list []string
	if libtorrent.OK {
		list = append(list, "libtorrent opens it")
	}
	if transmission.OK {
		list = append(list, "transmission opens it")
	}
	return list
}

// encodedAgain are cases of which transmission 3.00 gets another info-hash: it decodes the info dictionary,
// gives it sorted keys and a name where there is none, and encodes it again.
var encodedAgain = []string{"unsorted keys in info", "no name", "empty name", "name is an integer", "name is a list", "folder is empty"}

func compare(t *testing.T, c badTorrent, client string, tor *Torrent, r reading) {
	t.Helper()
	if tor.InfoHash.String() != r.Hash && (client != "transmission" || !slices.Contains(encodedAgain, c.name)) {
		t.Errorf("%s: info-hash %v; %s has %s", c.name, tor.InfoHash, client, r.Hash)
	}
	if len(tor.Pieces) != r.Pieces || tor.Private != r.Private {
		t.Errorf("%s: %d pieces, private %v; %s reads %d, %v", c.name, len(tor.Pieces), tor.Private, client, r.Pieces, r.Private)
	}
	if v2, ok := tor.InfoHashV2(); client == "libtorrent" && (ok != (r.HashV2 != "") || ok && hex.EncodeToString(v2[:]) != r.HashV2) {
		t.Errorf("%s: v2 info-hash %x, %v; %s has %q", c.name, v2, ok, client, r.HashV2)
	}
	if r.Files == nil { // transmission-show rounds lengths and sorts files
		return
	}
	if tor.Length != r.Length || tor.PieceLength != r.PieceLength {
		t.Errorf("%s: %d bytes in pieces of %d; %s reads %d, %d", c.name, tor.Length, tor.PieceLength, client, r.Length, r.PieceLength)
	}
	var got, want []string
	var end int64
	describe := func(path string, offset, length int64, padding bool) string {
		switch c.name {
		case "padding single file is shown":
			padding = false
		case "old libtorrent padding": // which it does not know itself any more
			padding = true
		}
		if !c.plain {
			path = ""
		}
		return fmt.Sprintf("%q at %d+%d, padding %v", path, offset, length, padding)
	}
	for _, f := range tor.Files {
		if f.Offset < end { // a link, here another name for the bytes of the file before
			continue
		}
		end = f.Offset + f.Length
		got = append(got, describe(f.Path, f.Offset, f.Length, f.Padding))
	}
	for _, f := range r.Files {
		if !f.Link {
			want = append(want, describe(f.Path, f.Offset, f.Length, f.Padding))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q; %s reads %q", c.name, got, client, want)
	}
}

package metainfo

import (
	"regexp"
	"strings"
	"testing"
)

// hexName stands for a name taken from the info-hash, which the table writes as 0000.
var hexName = regexp.MustCompile(`\b[0-9a-f]{40}\b`)

func TestBadTorrents(t *testing.T) {
	cases := badTorrents()
	if len(cases) < 200 {
		t.Errorf("only %d cases", len(cases))
	}
	seen := make(map[string]bool)
	for _, c := range cases {
		if seen[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		seen[c.name] = true
		tor, err := Parse([]byte(c.data))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := hexName.ReplaceAllString(files(tor), "0000"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.name, got, c.want)
		}
		checkTorrent(t, c.name, tor)
	}
}

// checkTorrent checks what holds for every torrent, whatever it was parsed from.
func checkTorrent(t *testing.T, name string, tor *Torrent) {
	t.Helper()
}

package fetch

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestKeptPort has a client listen at the same port in every run, at another while somebody has it, and then again there.
func TestKeptPort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var log bytes.Buffer
	listening := func() *Client {
		t.Helper()
		c, err := New(Config{
			Listen: ":0", StateDir: dir, NoDHT: true, NoLSD: true, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := listening()
	kept := first.port()
	if kept < firstPort {
		t.Fatalf("chose port %d", kept)
	}
	second := listening()
	if second.port() == kept || second.port() == 0 {
		t.Fatalf("two listen at port %d", second.port())
	}
	if want := "port=" + strconv.Itoa(int(kept)); !strings.Contains(log.String(), want) {
		t.Errorf("the log says %q and not %q", log.String(), want)
	}
	first.Close()
	if again := listening(); again.port() != kept {
		t.Errorf("listens at port %d after %d: the second one has stolen its place", again.port(), kept)
	} else {
		again.Close()
	}
	// Somebody else's datagrams keep the port from us too: the DHT is to be found there.
	u, err := net.ListenPacket("udp", net.JoinHostPort("", strconv.Itoa(int(kept))))
	if err != nil {
		t.Fatal(err)
	}
	if c := listening(); c.port() == kept {
		t.Error("took a port whose datagrams are another's")
	}
	u.Close()
	if c := listening(); c.port() != kept {
		t.Errorf("listens at port %d after %d", c.port(), kept)
	} else {
		c.Close()
	}
	if err := os.WriteFile(filepath.Join(dir, "port"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := listening()
	c.Close()
	if again := listening(); again.port() != c.port() {
		t.Errorf("after junk it keeps %d and then %d", c.port(), again.port())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "port-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

package cache

import (
	"testing"
	"testing/synctest"
)

// TestStuckDisk: a disk that does not answer at all holds up neither reads nor the end.
func TestStuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := new(logs)
		c, err := New(Config{Memory: 1 << 20, Dir: t.TempDir(), DiskSize: 1 << 30, Logger: said.logger()})
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan struct{})
		go c.disk.do(func() { <-answer })
		synctest.Wait()
		v, err := c.Torrent(testSpec(1, 16<<10, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		if said.count("does not answer") != 1 {
			t.Error(said.buf.String())
		}
		for n := range 64 {
			put(v, n)
			if !load(t, v, n) {
				t.Errorf("piece %d is gone", n)
			}
		}
		if err := v.Keep(true); err == nil {
			t.Error("Keep did not fail")
		}
		if err := v.Close(); err == nil {
			t.Error("closing the torrent did not fail")
		}
		if err := c.Close(); err == nil {
			t.Error("closing the cache did not fail")
		}
		close(answer)
		<-c.disk.done
	})
}

// TestKeepsUp: a cache says when its disk is behind, and when it can take nothing.
func TestKeepsUp(t *testing.T) {
	spec := testSpec(1, 16<<10, 1<<20)
	if open(t, newCache(t, Config{}), spec).KeepsUp() {
		t.Error("without a disk")
	}
	c := newCache(t, Config{Memory: 1 << 20, Dir: t.TempDir(), DiskSize: 1 << 30})
	v := open(t, c, spec)
	if !v.KeepsUp() {
		t.Error("not with nothing to write")
	}
	asked, answer := make(chan struct{}), make(chan struct{})
	go c.disk.do(func() { close(asked); <-answer })
	<-asked
	n := 0
	for ; v.KeepsUp() && n < len(spec.Hashes); n++ {
		put(v, n)
	}
	if s := c.Stats(); s.Unwritten != 256<<10 || s.Unsaved != 0 {
		t.Errorf("it says so after %d pieces: %+v", n, s)
	}
	close(answer)
	settle(c)
	if !v.KeepsUp() {
		t.Error("not when all is written")
	}
}

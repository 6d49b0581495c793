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

package cache

import (
	"testing"
	"time"
)

// TestDisownedStaysDisowned: what a reader found wrong is not claimed again because the index, which somebody else has
// changed meanwhile, does not say so yet.
func TestDisownedStaysDisowned(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 16<<10, 4*16<<10)
	fill(t, dir, spec)
	v, err := Dir(dir).openVolume(spec.header())
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	refresh := func() { // after another process has written to the index
		t.Helper()
		v.seen = v.seen.Add(-time.Second)
		if _, err := v.refresh(); err != nil {
			t.Fatal(err)
		}
	}
	v.stamps[2].Store(absent)
	v.disown(2)
	if refresh(); v.has(2) {
		t.Error("claimed again before the index knows")
	}
	if err := v.flush(); err != nil {
		t.Fatal(err)
	}
	if refresh(); v.has(2) || !v.has(1) {
		t.Error("claimed again")
	}
	buf := make([]byte, spec.pieceSize(2))
	content(buf, 1, 2)
	v.disown(2)
	if err := v.write(2, buf); err != nil {
		t.Fatal(err)
	}
	if err := v.flush(); err != nil {
		t.Fatal(err)
	}
	if refresh(); !v.has(2) {
		t.Error("what was written anew is not claimed")
	}
}

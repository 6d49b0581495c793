package cache

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestList(t *testing.T) {
	if list, err := Dir(filepath.Join(t.TempDir(), "none")).List(); err != nil || len(list) != 0 {
		t.Errorf("a directory that does not exist: %v, %v", list, err)
	}
	dir := t.TempDir()
	whole, part, broken := testSpec(1, 64<<10, 1<<20), testSpec(2, 64<<10, 1<<20), testSpec(3, 64<<10, 1<<20)
	whole.Name = "zebra"
	part.Name = "aardvark"
	fill(t, dir, whole)
	fill(t, dir, broken)
	if err := os.WriteFile(Dir(dir).path(broken.InfoHash, ".index"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"notes.txt", "0123.data", "zz00000000000000000000000000000000000000.data"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := newCache(t, Config{Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, part)
	put(v, 3)
	settle(c)

	list, err := Dir(dir).List()
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	if e := list[0]; e.InfoHash != broken.InfoHash || e.Err == nil || e.Disk < 1<<20 {
		t.Errorf("%+v", e)
	}
	if e := list[1]; e.Name != "aardvark" || e.Present != 64<<10 || e.Length != 1<<20 || !e.InUse || e.Kept ||
		time.Since(e.LastUse).Abs() > time.Minute || e.Disk < 64<<10 || e.Disk > 128<<10 {
		t.Errorf("%+v", e)
	}
	if e := list[2]; e.Name != "zebra" || e.Present != 1<<20 || e.InUse || e.InfoHash != whole.InfoHash {
		t.Errorf("%+v", e)
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 64<<10, 1<<20)
	spec.Info = []byte("info")
	fill(t, dir, spec)
	c := newCache(t, Config{Dir: dir, DiskSize: 1 << 30})
	v := open(t, c, spec)
	if err := Dir(dir).Remove(spec.InfoHash); !errors.Is(err, ErrInUse) {
		t.Errorf("removing what is open: %v", err)
	}
	v.Close()
	if err := Dir(dir).Remove(spec.InfoHash); err != nil {
		t.Error(err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left %v", files)
	}
	if err := Dir(dir).Remove(spec.InfoHash); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removing nothing: %v", err)
	}
}

func TestInfo(t *testing.T) {
	dir := t.TempDir()
	info := bytes.Repeat([]byte("d6:lengthi1e"), 1000)
	spec := testSpec(1, 64<<10, 1<<20)
	spec.InfoHash = sha1.Sum(info)
	spec.Info = info
	fill(t, dir, spec)
	got, err := Dir(dir).Info(spec.InfoHash)
	if err != nil || !bytes.Equal(got, info) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	info = append([]byte("x"), info[1:]...)
	if err := os.WriteFile(Dir(dir).path(spec.InfoHash, ".info"), info, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dir(dir).Info(spec.InfoHash); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a damaged one: %v", err)
	}
	if _, err := Dir(dir).Info([20]byte{9}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// flip changes one byte of piece n on disk.
func flip(t testing.TB, dir string, spec Spec, n int) {
	t.Helper()
	f, err := os.OpenFile(Dir(dir).path(spec.InfoHash, ".data"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := int64(n)*spec.PieceLength + spec.pieceSize(n)/2
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0]++
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 300_000, 20*300_000-7)
	fill(t, dir, spec)
	flip(t, dir, spec, 4)
	flip(t, dir, spec, 19)
	var last, total int64
	r, err := Dir(dir).Verify(t.Context(), spec, func(done, of int64) {
		if done < last {
			t.Errorf("progress went from %d to %d", last, done)
		}
		last, total = done, of
	})
	if err != nil || r != (Report{Pieces: 20, Wrong: 2, Bytes: 600_000 - 7}) || last != spec.Length || total != last {
		t.Errorf("%+v, %v, progress %d of %d", r, err, last, total)
	}
	r, err = Dir(dir).Verify(t.Context(), spec, nil)
	if err != nil || r != (Report{Pieces: 18}) {
		t.Errorf("again: %+v, %v", r, err)
	}
	v := open(t, newCache(t, Config{Dir: dir, DiskSize: 1 << 30}), spec)
	for n := range spec.Hashes {
		if load(t, v, n) != (n != 4 && n != 19) {
			t.Errorf("piece %d", n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dir(dir).Verify(ctx, spec, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := Dir(dir).Verify(t.Context(), testSpec(9, 1<<20, 1<<20), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown torrent: %v", err)
	}
}

// TestVerifyWhileMounted: a mount learns what a Verify beside it dropped.
func TestVerifyWhileMounted(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(1, 64<<10, 1<<20)
	fill(t, dir, spec)
	flip(t, dir, spec, 4)
	c := newCache(t, Config{Dir: dir, DiskSize: 1 << 30})
	var lost []int
	spec.Evicted = func(n int) { lost = append(lost, n) }
	v := open(t, c, spec)
	if _, err := Dir(dir).Verify(t.Context(), spec, nil); err != nil {
		t.Fatal(err)
	}
	if load(t, v, 4) {
		t.Error("loaded a damaged piece")
	}
	c.disk.do(c.disk.upkeep)
	if v.Has(4) || !v.Has(5) || len(lost) != 1 || c.Stats().Wrong != 0 {
		t.Errorf("lost %v, %+v", lost, c.Stats())
	}
}

func TestExport(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	spec := testSpec(1, 100_000, 2_000_000)
	var all []byte
	for n := range spec.Hashes {
		b := make([]byte, spec.pieceSize(n))
		content(b, 1, n)
		all = append(all, b...)
	}
	fill(t, dir, spec)
	flip(t, dir, spec, 15)
	parts := []Part{
		{filepath.Join(out, "a", "first"), 0, 1_234_567},
		{filepath.Join(out, "a", "empty"), 1_234_567, 0},
		{filepath.Join(out, "a", "b", "damaged"), 1_234_567, 500_000},
		{filepath.Join(out, "last"), 1_734_567, 2_000_000 - 1_734_567},
		{filepath.Join(out, "taken"), 0, 10},
	}
	if err := os.WriteFile(parts[4].Path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	var last int64
	err := Dir(dir).Export(t.Context(), spec, parts, func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	})
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Path != parts[2].Path || missing.Bytes != 100_000 || len(missing.Pieces) != 1 || missing.Pieces[0] != 15 {
		t.Errorf("%v: %+v", err, missing)
	}
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("no word of the file that is there already: %v", err)
	}
	for i, p := range parts {
		got, err := os.ReadFile(p.Path)
		switch {
		case i == 2:
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %d bytes, %v", p.Path, len(got), err)
			}
		case i == 4:
			if string(got) != "mine" {
				t.Errorf("%s was replaced", p.Path)
			}
		case err != nil || !bytes.Equal(got, all[p.Offset:p.Offset+p.Length]):
			t.Errorf("%s: %d bytes, %v", p.Path, len(got), err)
		}
	}
	for _, d := range []string{out, filepath.Join(out, "a"), filepath.Join(out, "a", "b")} {
		if parts, _ := filepath.Glob(filepath.Join(d, ".*")); len(parts) != 0 {
			t.Errorf("left %v", parts)
		}
	}
	if err := Dir(dir).Export(t.Context(), spec, []Part{{filepath.Join(out, "x"), 1_999_999, 2}}, nil); err == nil {
		t.Error("exported bytes beyond the end")
	}
}

// TestExportHoldsEvictionOff: nothing is punched out of a torrent while somebody copies from it.
func TestExportHoldsEvictionOff(t *testing.T) {
	dir := t.TempDir()
	copied, other := testSpec(1, 64<<10, 1<<20), testSpec(2, 64<<10, 2<<20)
	fill(t, dir, copied)
	age(t, dir, copied, 1000, -1)
	v, err := Dir(dir).openFor(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	if !flock(v.data, unix.LOCK_SH) {
		t.Fatal("could not lock")
	}
	c := newCache(t, Config{Memory: 256 << 10, Dir: dir, DiskSize: 2 << 20})
	w := open(t, c, other)
	for n := range other.Hashes {
		put(w, n)
		settle(c)
	}
	if s := c.Stats(); s.Disk > s.DiskLimit {
		t.Errorf("%+v", s)
	}
	list, err := Dir(dir).List()
	if err != nil || list[0].Present != copied.Length {
		t.Errorf("%+v, %v", list, err)
	}
	v.close()
	for n := range other.Hashes {
		put(w, n)
		settle(c)
	}
	if list, _ = Dir(dir).List(); list[0].Present >= copied.Length/2 && len(list) == 2 {
		t.Errorf("not evicted once the copy was over: %+v", list)
	}
}

package fs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseEntry(t *testing.T) {
	for _, c := range []struct {
		line string
		want entry
		ok   bool
	}{
		{"36 35 0:52 / /mnt/t ro,nosuid - fuse.torrentfs torrentfs ro,user_id=0", entry{"0:52", "/mnt/t", "fuse.torrentfs"}, true},
		{"36 35 0:52 / /mnt/t ro shared:1 master:2 - fuse.torrentfs a,b ro", entry{"0:52", "/mnt/t", "fuse.torrentfs"}, true},
		{`36 35 0:7 /x /my\040films\134\011 rw - ext4 /dev/sda rw`, entry{"0:7", "/my films\\\t", "ext4"}, true},
		{`36 35 0:7 / /odd\09 rw - ext4 /dev/sda rw`, entry{"0:7", `/odd\09`, "ext4"}, true},
		{`36 35 0:7 / /cut\04 rw - ext4 /dev/sda rw`, entry{"0:7", `/cut\04`, "ext4"}, true},
		{"", entry{}, false},
		{"36 35 0:52 / /mnt/t", entry{}, false},
		{"36 35 0:52 / /mnt/t ro shared:1 -", entry{}, false},
		{"36 35 0:52 / /mnt/t ro shared:1 master:2", entry{}, false},
	} {
		if got, ok := parseEntry(c.line); got != c.want || ok != c.ok {
			t.Errorf("%q: %+v, %v", c.line, got, ok)
		}
	}
}

func TestTheRootIsMounted(t *testing.T) {
	if e, ok := mountedAt("/"); !ok || e.fsType == "" || !mounted(mounts(), e.device) {
		t.Errorf("%+v, %v", e, ok)
	}
	if mounted(mounts(), "999999:1") {
		t.Error("a device that doesn't exist is mounted")
	}
}

func TestWatchEndsWhenStopped(t *testing.T) {
	e, _ := mountedAt("/")
	w, err := watchMount(e.device, func() { t.Error("/ is gone") })
	if err != nil {
		t.Skip(err)
	}
	w.stop()
}

func TestWatchOfWhatIsNotMounted(t *testing.T) {
	gone := make(chan struct{})
	w, err := watchMount("999999:1", func() { close(gone) })
	if err != nil {
		t.Skip(err)
	}
	<-gone
	w.stop()
}

func TestResolve(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"real/inner", "other"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"abs": base + "/real", "rel": "real/inner", "chain": "rel", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(base)
	for dir, want := range map[string]string{
		".":           base,
		"real/":       base + "/real",
		"abs":         base + "/real",
		"abs/inner":   base + "/real/inner",
		"rel":         base + "/real/inner",
		"chain":       base + "/real/inner",
		"real/../abs": base + "/real",
		"missing":     base + "/missing",
		"/":           "/",
	} {
		if got, err := resolve(dir); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", dir, got, err, want)
		}
	}
	if got, err := resolve("missing/inner"); err == nil {
		t.Errorf("in a missing directory: %s", got)
	}
	if _, err := check("loop", Options{}); err == nil {
		t.Error("a link to itself passes")
	}
}

func TestConfAllowsOther(t *testing.T) {
	for conf, want := range map[string]bool{
		"":                                  false,
		"#user_allow_other\n":               false,
		"# comment\n  user_allow_other  \n": true,
		"mount_max = 5\nuser_allow_other":   true,
		"user_allow_others\n":               false,
	} {
		if confAllowsOther([]byte(conf)) != want {
			t.Errorf("%q: want %v", conf, want)
		}
	}
}

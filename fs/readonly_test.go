package fs

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever changes a file system fails with EROFS, in a mount that the kernel knows to be read-only and also
// where root has remounted it writable, so that the kernel asks.
func TestChangesAreRefused(t *testing.T) {
	s := startServer(t, serverOptions{}, 0, library(), single(9, "film.mkv", 5))
	s.ask("notice NOTE hello")
	t.Run("read-only", func(t *testing.T) { testChanges(t, s) })
	t.Run("remounted", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can remount")
		}
		if err := unix.Mount("", s.dir, "", unix.MS_REMOUNT, ""); err != nil {
			t.Skip(err)
		}
		testChanges(t, s)
	})
}

func testChanges(t *testing.T, s *server) {
	file, sub, note := s.path("library/a/film"), s.path("library/a"), s.path("NOTE")
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"create", open(s.path("new"), unix.O_CREAT|unix.O_WRONLY)},
		{"create in a directory", open(sub+"/new", unix.O_CREAT|unix.O_RDWR|unix.O_EXCL)},
		{"open for writing", open(file, unix.O_WRONLY)},
		{"open for reading and writing", open(file, unix.O_RDWR)},
		{"open for appending", open(file, unix.O_WRONLY|unix.O_APPEND)},
		{"open and truncate", open(file, unix.O_WRONLY|unix.O_TRUNC)},
		{"open a notice for writing", open(note, unix.O_WRONLY)},
		{"mkdir", unix.Mkdir(s.path("new"), 0o755)},
		{"mkdir in a directory", unix.Mkdir(sub+"/new", 0o755)},
		{"rmdir", unix.Rmdir(s.path("library/a/b/c"))},
		{"unlink", unix.Unlink(file)},
		{"unlink at the root", unix.Unlink(s.path("film.mkv"))},
		{"rename", unix.Rename(file, file+".new")},
		{"rename over another", unix.Rename(file, s.path("film.mkv"))},
		{"link", unix.Link(file, file+".new")},
		{"symlink", unix.Symlink("film", s.path("new"))},
		{"mknod", unix.Mknod(s.path("new"), unix.S_IFREG|0o644, 0)},
		{"mkfifo", unix.Mkfifo(sub+"/new", 0o644)},
		{"chmod", unix.Chmod(file, 0o777)},
		{"chmod of a directory", unix.Chmod(sub, 0o777)},
		{"chmod of the root", unix.Chmod(s.dir, 0o777)},
		{"chmod of a notice", unix.Chmod(note, 0o777)},
		{"chown", unix.Chown(file, 1, 1)},
		{"truncate", unix.Truncate(file, 1)},
		{"utimes", unix.Utimes(file, []unix.Timeval{{}, {}})},
		{"setxattr", unix.Setxattr(file, "user.x", []byte("y"), 0)},
		{"setxattr of a directory", unix.Setxattr(sub, "user.x", []byte("y"), 0)},
		{"removexattr", unix.Removexattr(file, "user.x")},
	} {
		if !errors.Is(c.err, unix.EROFS) {
			t.Errorf("%s: %v, want %v", c.name, c.err, unix.EROFS)
		}
	}
	var buf [100]byte
	if _, err := unix.Getxattr(file, "user.x", buf[:]); !errors.Is(err, unix.ENOTSUP) {
		t.Errorf("getxattr: %v", err)
	}
	if _, err := unix.Listxattr(file, buf[:]); !errors.Is(err, unix.ENOTSUP) {
		t.Errorf("listxattr: %v", err)
	}
	if err := unix.Access(file, unix.R_OK); err != nil {
		t.Errorf("access for reading: %v", err)
	}
	if err := unix.Access(file, unix.X_OK); !errors.Is(err, unix.EACCES) {
		t.Errorf("access for executing: %v", err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Errorf("fsync: %v", err)
	}
}

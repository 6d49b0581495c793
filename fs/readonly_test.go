package fs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Whatever changes a file system fails with EROFS, in a mount that the kernel knows to be read-only and also
// where root has remounted it writable, so that the kernel asks.
func TestChangesAreRefused(t *testing.T) {
	s := startServer(t, serverOptions{}, 0, library(), single(9, "film.mkv", 5))
	s.ask("notice NOTE hello")
	t.Run("read-only", func(t *testing.T) { testChanges(t, s, false) })
	t.Run("remounted", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can remount")
		}
		if err := unix.Mount("", s.dir, "", unix.MS_REMOUNT, ""); err != nil {
			t.Skip(err)
		}
		testChanges(t, s, true)
	})
}

// A change is one system call that would change something.
type change struct {
	name string
	call func() error
	// want is what it gives; zero: EROFS. The calls that need a descriptor that is open for writing never get that
	// far: what there is, is open for reading.
	want unix.Errno
	// asked is what it gives where the mount was made writable and bazil.org/fuse does not know the request, so that
	// the kernel takes it to be unknown here; zero: the same.
	asked unix.Errno
}

// changes are the system calls that change a file system by a path, or by a descriptor of the file that path names.
func changes(s *server, file string, fd int) []change {
	sub, note, fresh := s.path("library/a"), s.path("NOTE"), s.path("new")
	open := func(path string, flags int) func() error {
		return func() error {
			fd, err := unix.Open(path, flags, 0o644)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	raw := func(number uintptr, args ...uintptr) func() error {
		args = append(args, make([]uintptr, 6-len(args))...)
		return func() error {
			if _, _, errno := unix.Syscall6(number, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
				return errno
			}
			return nil
		}
	}
	path := func(s string) uintptr { return uintptr(unsafe.Pointer(&append([]byte(s), 0)[0])) }
	rename := func(flags uint) func() error {
		return func() error { return unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, s.path("film.mkv"), flags) }
	}
	value := []byte("y")
	at := []unix.Timespec{{}, {}}
	const here = unix.AT_FDCWD
	return []change{
		{name: "creat", call: open(fresh, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC)},
		{name: "open: create for reading", call: open(fresh, unix.O_CREAT|unix.O_RDONLY)},
		{name: "open: create in a directory", call: open(sub+"/new", unix.O_CREAT|unix.O_RDWR|unix.O_EXCL)},
		{name: "open: for writing", call: open(file, unix.O_WRONLY)},
		{name: "open: for reading and writing", call: open(file, unix.O_RDWR)},
		{name: "open: for appending", call: open(file, unix.O_WRONLY|unix.O_APPEND)},
		{name: "open: truncate", call: open(file, unix.O_WRONLY|unix.O_TRUNC)},
		{name: "open: truncate for reading", call: open(file, unix.O_RDONLY|unix.O_TRUNC)},
		{name: "open: direct, for writing", call: open(file, unix.O_WRONLY|unix.O_DIRECT)},
		{name: "open: a notice for writing", call: open(note, unix.O_WRONLY)},
		{name: "open: a notice, truncated", call: open(note, unix.O_RDONLY|unix.O_TRUNC)},
		{name: "open: without a name", call: open(sub, unix.O_TMPFILE|unix.O_RDWR), asked: unix.EOPNOTSUPP},
		{name: "openat2: for writing", call: func() error {
			fd, err := unix.Openat2(here, file, &unix.OpenHow{Flags: unix.O_RDWR})
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{name: "mkdir", call: func() error { return unix.Mkdir(fresh, 0o755) }},
		{name: "mkdirat", call: func() error { return unix.Mkdirat(here, sub+"/new", 0o755) }},
		{name: "rmdir", call: func() error { return unix.Rmdir(s.path("library/a/b/c")) }},
		{name: "unlink", call: func() error { return unix.Unlink(file) }},
		{name: "unlink at the root", call: func() error { return unix.Unlink(s.path("film.mkv")) }},
		{name: "unlink of a notice", call: func() error { return unix.Unlink(note) }},
		{name: "unlinkat", call: func() error { return unix.Unlinkat(here, file, 0) }},
		{name: "unlinkat: a directory", call: func() error { return unix.Unlinkat(here, sub, unix.AT_REMOVEDIR) }},
		{name: "rename", call: func() error { return unix.Rename(file, file+".new") }},
		{name: "rename over another", call: func() error { return unix.Rename(file, s.path("film.mkv")) }},
		{name: "renameat2: noreplace", call: func() error {
			return unix.Renameat2(here, file, here, fresh, unix.RENAME_NOREPLACE)
		}, asked: unix.EINVAL},
		{name: "renameat2: exchange", call: rename(unix.RENAME_EXCHANGE), asked: unix.EINVAL},
		{name: "renameat2: whiteout", call: rename(unix.RENAME_WHITEOUT), asked: unix.EINVAL},
		{name: "link", call: func() error { return unix.Link(file, file+".new") }},
		{name: "linkat", call: func() error { return unix.Linkat(here, file, here, fresh, 0) }},
		{name: "symlink", call: func() error { return unix.Symlink("film", fresh) }},
		{name: "symlinkat", call: func() error { return unix.Symlinkat("film", here, sub+"/new") }},
		{name: "mknod", call: func() error { return unix.Mknod(fresh, unix.S_IFREG|0o644, 0) }},
		{name: "mknodat: a device", call: func() error { return unix.Mknodat(here, sub+"/new", unix.S_IFCHR|0o644, 0x103) }},
		{name: "mkfifo", call: func() error { return unix.Mkfifo(sub+"/new", 0o644) }},
		{name: "bind of a socket", call: func() error {
			sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(sock)
			return unix.Bind(sock, &unix.SockaddrUnix{Name: s.path("sock")})
		}},
		{name: "chmod", call: func() error { return unix.Chmod(file, 0o777) }},
		{name: "chmod of a directory", call: func() error { return unix.Chmod(sub, 0o777) }},
		{name: "chmod of the root", call: func() error { return unix.Chmod(s.dir, 0o777) }},
		{name: "chmod of a notice", call: func() error { return unix.Chmod(note, 0o777) }},
		{name: "fchmod", call: func() error { return unix.Fchmod(fd, 0o777) }},
		{name: "fchmodat2", call: raw(unix.SYS_FCHMODAT2, ^uintptr(99), path(file), 0o777, unix.AT_SYMLINK_NOFOLLOW)},
		{name: "chown", call: func() error { return unix.Chown(file, 1, 1) }},
		{name: "lchown", call: func() error { return unix.Lchown(file, 1, 1) }},
		{name: "fchown", call: func() error { return unix.Fchown(fd, 1, 1) }},
		{name: "truncate", call: func() error { return unix.Truncate(file, 1) }},
		{name: "truncate: longer", call: func() error { return unix.Truncate(file, 1<<40) }},
		{name: "utime", call: raw(unix.SYS_UTIME, path(file), 0)},
		{name: "utimes", call: func() error { return unix.Utimes(file, []unix.Timeval{{}, {}}) }},
		{name: "utimensat", call: func() error { return unix.UtimesNanoAt(here, file, at, 0) }},
		{name: "futimens", call: raw(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&at[0])), 0)},
		{name: "setxattr", call: func() error { return unix.Setxattr(file, "user.x", value, 0) }},
		{name: "setxattr of a directory", call: func() error { return unix.Setxattr(sub, "user.x", value, 0) }},
		{name: "setxattr: security", call: func() error { return unix.Setxattr(file, "security.x", value, 0) }},
		{name: "lsetxattr", call: func() error { return unix.Lsetxattr(file, "user.x", value, 0) }},
		{name: "fsetxattr", call: func() error { return unix.Fsetxattr(fd, "user.x", value, 0) }},
		{name: "removexattr", call: func() error { return unix.Removexattr(file, "user.x") }},
		{name: "lremovexattr", call: func() error { return unix.Lremovexattr(file, "user.x") }},
		{name: "fremovexattr", call: func() error { return unix.Fremovexattr(fd, "user.x") }},
		{name: "ioctl: immutable", call: func() error {
			return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, 0x10)
		}, asked: unix.ENOTTY},

		{name: "write", call: func() error { _, err := unix.Write(fd, value); return err }, want: unix.EBADF},
		{name: "pwrite", call: func() error { _, err := unix.Pwrite(fd, value, 0); return err }, want: unix.EBADF},
		{name: "pwritev2", call: func() error {
			_, err := unix.Pwritev2(fd, [][]byte{value}, 0, unix.RWF_APPEND)
			return err
		}, want: unix.EBADF},
		{name: "ftruncate", call: func() error { return unix.Ftruncate(fd, 1) }, want: unix.EINVAL},
		{name: "fallocate", call: func() error { return unix.Fallocate(fd, 0, 0, 1<<20) }, want: unix.EBADF},
		{name: "fallocate: punch", call: func() error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		}, want: unix.EBADF},
		{name: "copy_file_range into", call: func() error {
			_, err := unix.CopyFileRange(fd, &[]int64{0}[0], fd, &[]int64{1 << 20}[0], 4096, 0)
			return err
		}, want: unix.EBADF},
		{name: "sendfile into", call: func() error { _, err := unix.Sendfile(fd, fd, nil, 10); return err }, want: unix.EBADF},
		{name: "splice into", call: func() error { return spliceInto(fd) }, want: unix.EBADF},
		{name: "ioctl: clone into", call: func() error { return unix.IoctlFileClone(fd, fd) }, want: unix.EBADF},
		{name: "mmap: shared, for writing", call: func() error {
			_, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			return err
		}, want: unix.EACCES},
		{name: "mprotect: shared, for writing", call: func() error {
			p, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Munmap(p) }()
			return unix.Mprotect(p, unix.PROT_READ|unix.PROT_WRITE)
		}, want: unix.EACCES},
	}
}

// spliceInto moves a byte from a pipe to a file.
func spliceInto(fd int) error {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if _, err := unix.Write(pipe[1], []byte("x")); err != nil {
		return err
	}
	_, err := unix.Splice(pipe[0], nil, fd, nil, 1, 0)
	return err
}

func testChanges(t *testing.T, s *server, asked bool) {
	file := s.path("library/a/film")
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, tree := states(t, s.dir)
	for _, c := range changes(s, file, int(f.Fd())) {
		want := []unix.Errno{unix.EROFS}
		if c.want != 0 {
			want = []unix.Errno{c.want}
		}
		if asked && c.asked != 0 {
			want = append(want, c.asked)
		}
		err := c.call()
		if errors.Is(err, unix.ENOSYS) {
			t.Logf("%s: not known to this kernel", c.name)
			continue
		}
		if !slices.ContainsFunc(want, func(e unix.Errno) bool { return errors.Is(err, e) }) {
			t.Errorf("%s: %v, want %v", c.name, err, want)
		}
	}
	if after, now := states(t, s.dir); !slices.Equal(before, after) || !slices.Equal(tree, now) {
		t.Errorf("after all that there is\n%q, %v\nand before there was\n%q, %v", now, after, tree, before)
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
	if err := f.Sync(); err != nil {
		t.Errorf("fsync: %v", err)
	}
}

// A state is what a change would change of a file.
type state struct {
	mode     uint32
	uid, gid uint32
	size     int64
	links    uint64
}

// states are those of all files below a directory, in the order of their paths.
func states(t *testing.T, dir string) (all []state, paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Lstat(path, &st)
		all = append(all, state{st.Mode, st.Uid, st.Gid, st.Size, uint64(st.Nlink)}) //nolint:unconvert // of another type elsewhere
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, paths
}

package fs

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"bazil.org/fuse"
	"golang.org/x/sys/unix"
)

// An unmount while nobody asks for anything ends the wait as an unmount does, not as a failure; again and again, since the
// wait and the unmount may meet in several ways.
func TestDeviceEndsWithTheMount(t *testing.T) {
	needFUSE(t)
	for range 50 {
		dir := t.TempDir()
		conn, err := connect(dir, []fuse.MountOption{fuse.ReadOnly()})
		if err != nil {
			t.Fatal(err)
		}
		d, err := newDevice(conn)
		if err != nil {
			t.Fatal(err)
		}
		if d.file == nil {
			t.Fatal("the connection's descriptor was not found")
		}
		ended := make(chan error, 1)
		go func() {
			for {
				req, err := d.request()
				if err != nil {
					ended <- err
					return
				}
				req.RespondError(fuse.ToErrno(syscall.ENOSYS))
			}
		}()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			if err := umount(dir, true); err != nil {
				t.Fatal(err)
			}
		}
		if err := soon(t, "the wait ends", ended); !errors.Is(err, io.EOF) {
			t.Errorf("it ended with %v", err)
		}
		d.close()
	}
}

package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"syscall"
	"unsafe"

	"bazil.org/fuse"
	"golang.org/x/sys/unix"
)

// A device is the kernel's end of a mount, /dev/fuse. It takes requests in and answers reads, the two things that happen
// for every 128 KiB read, with less than fuse.Conn alone: that blocks a thread while there is no request, which has the
// runtime look after it every few microseconds, and copies each answer into a buffer made for it. Measured on 1 GiB
// from four seeders the two cost a seventh of all CPU time.
//
// fuse.Conn hides its descriptor, so it is looked up by the name of its field. Where that fails, and it cannot as long as
// go.mod names the same version, fuse.Conn does all by itself.
type device struct {
	conn  *fuse.Conn
	file  *os.File // a duplicate of the connection's descriptor that the runtime's poller waits for; nil without
	raw   syscall.RawConn
	order binary.ByteOrder
}

func newDevice(conn *fuse.Conn) (*device, error) {
	d := &device{conn: conn, order: binary.NativeEndian}
	field := reflect.ValueOf(conn).Elem().FieldByName("dev")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*os.File]() {
		return d, nil
	}
	fd, err := unix.FcntlInt((*os.File)(field.UnsafePointer()).Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the descriptor of /dev/fuse: %w", err)
	}
	// The flag belongs to what both descriptors stand for: from here on conn's reads don't block either.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set /dev/fuse to non-blocking: %w", err)
	}
	d.file = os.NewFile(uintptr(fd), "/dev/fuse")
	if d.raw, err = d.file.SyscallConn(); err != nil {
		_ = d.file.Close()
		return nil, fmt.Errorf("wait for /dev/fuse: %w", err)
	}
	return d, nil
}

// request waits for the kernel's next request. The error is io.EOF when the tree was unmounted.
func (d *device) request() (req fuse.Request, err error) {
	if d.file == nil {
		return d.conn.ReadRequest()
	}
	waited := d.raw.Read(func(uintptr) bool {
		req, err = d.conn.ReadRequest()
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waited != nil {
		// The end of the connection looks like a broken file to the poller. Whether it was an unmount tells a read.
		if req, err = d.conn.ReadRequest(); errors.Is(err, syscall.EAGAIN) {
			return nil, waited
		}
	}
	return req, err
}

// outHeader is the size of struct fuse_out_header: its length with what follows, an error, and the request's number.
const outHeader = 16

// answer answers a read with data, which is not kept.
func (d *device) answer(r *fuse.ReadRequest, data []byte) {
	if d.file == nil || len(data) == 0 {
		r.Respond(&fuse.ReadResponse{Data: data})
		return
	}
	var header [outHeader]byte
	d.order.PutUint32(header[0:], uint32(outHeader+len(data)))
	d.order.PutUint64(header[8:], uint64(r.ID))
	parts := [2]syscall.Iovec{{Base: &header[0]}, {Base: unsafe.SliceData(data)}}
	parts[0].SetLen(len(header))
	parts[1].SetLen(len(data))
	_ = d.raw.Control(func(fd uintptr) {
		for {
			// An error means that nobody waits any more: the request was interrupted, or the tree unmounted.
			_, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&parts[0])), uintptr(len(parts)))
			if errno != syscall.EINTR {
				return
			}
		}
	})
	// A request gives its buffer back when it is answered; one that expects no answer does so without a word.
	(&fuse.ForgetRequest{Header: r.Header}).Respond()
}

// close closes the connection. Nobody uses the device any more.
func (d *device) close() {
	if d.file != nil {
		_ = d.file.Close()
	}
	_ = d.conn.Close()
}

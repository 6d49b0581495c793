package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// table is the kernel's table of the mounts that this process sees: see proc_pid_mountinfo(5).
const table = "/proc/self/mountinfo"

// An entry is one mount in the table.
type entry struct {
	device string // major:minor; every FUSE connection has its own
	dir    string
	fsType string // fuse.torrentfs, ext4...
}

// parseEntry reads one line of the table, such as
//
//	36 35 0:52 / /mnt/t ro,nosuid,nodev shared:1 - fuse.torrentfs torrentfs ro,user_id=0,group_id=0
func parseEntry(line string) (e entry, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return entry{}, false
	}
	for i, f := range fields[6:] { // optional fields end with a dash
		if f == "-" && 6+i+1 < len(fields) {
			return entry{fields[2], unescape(fields[4]), unescape(fields[6+i+1])}, true
		}
	}
	return entry{}, false
}

// unescape undoes the octal escapes (\040 for a space) of the table.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// entries returns the mounts of a table.
func entries(text []byte) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for line := range bytes.Lines(text) {
			if e, ok := parseEntry(string(line)); ok && !yield(e) {
				return
			}
		}
	}
}

// mounts returns the mounts there are. Where the table can't be read, it seems empty.
func mounts() iter.Seq[entry] {
	text, _ := os.ReadFile(table)
	return entries(text)
}

// mountedAt returns what is mounted at dir, the topmost if there are several. It doesn't look into dir.
func mountedAt(dir string) (top entry, ok bool) {
	for e := range mounts() {
		if e.dir == dir {
			top, ok = e, true
		}
	}
	return top, ok
}

// legible says whether the table can be read. Where it can't, it seems empty.
func legible() bool {
	f, err := os.Open(table)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// mounted says whether the device is among the mounts.
func mounted(among iter.Seq[entry], device string) bool {
	for e := range among {
		if e.device == device {
			return true
		}
	}
	return false
}

// A watch waits for a mount to leave the table. The serving loop alone does not tell: it waits for the reads
// under way, and they may be waiting for peers.
type watch struct {
	wake  int // eventfd
	ended chan struct{}
}

// watchMount calls gone, once and from a goroutine of its own, when the device is mounted nowhere any more.
func watchMount(device string, gone func()) (*watch, error) {
	fd, err := unix.Open(table, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	w := &watch{wake: wake, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		defer unix.Close(fd)
		for {
			// By its own descriptor: a table that can't be opened, there being no descriptor left, would seem empty.
			if text, err := reread(fd); err == nil && !mounted(entries(text), device) {
				break
			}
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(wake), Events: unix.POLLIN}}
			_, err := unix.Poll(fds, -1)
			if err != nil && !errors.Is(err, unix.EINTR) || fds[1].Revents != 0 {
				return
			}
		}
		gone()
	}()
	return w, nil
}

// reread returns all that a descriptor reads from its beginning.
func reread(fd int) ([]byte, error) {
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return nil, err
	}
	var text []byte
	for buf := make([]byte, 16<<10); ; {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return text, nil
		default:
			text = append(text, buf[:n]...)
		}
	}
}

// stop ends the watch and waits for its goroutine. A nil watch is stopped already.
func (w *watch) stop() {
	if w == nil {
		return
	}
	_, _ = unix.Write(w.wake, binary.NativeEndian.AppendUint64(nil, 1))
	<-w.ended
	unix.Close(w.wake)
}

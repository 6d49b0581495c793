package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
)

func TestErrno(t *testing.T) {
	going := t.Context()
	interrupted, cancel := context.WithCancel(going)
	cancel()
	for _, c := range []struct {
		name string
		req  context.Context
		err  error
		want error
	}{
		{"success", going, nil, nil},
		{"success in spite of an interrupt", interrupted, nil, nil},
		{"interrupt", interrupted, context.Canceled, syscall.EINTR},
		{"wrapped interrupt", interrupted, fmt.Errorf("read: %w", context.Canceled), syscall.EINTR},
		{"failure during an interrupt", interrupted, io.ErrUnexpectedEOF, syscall.EINTR},
		{"time-out", going, context.DeadlineExceeded, syscall.EIO},
		{"unmount", going, context.Canceled, syscall.EIO},
		{"wrapped unmount", going, fmt.Errorf("read: %w", context.Canceled), syscall.EIO},
		{"errno from below", going, syscall.ENOENT, syscall.EIO},
		{"busy loop from below", going, syscall.EINTR, syscall.EIO},
		{"end of file from below", going, io.EOF, syscall.EIO},
		{"anything", going, errors.New("no peer has piece 7"), syscall.EIO},
	} {
		if got := errno(c.req, c.err); got != c.want { //nolint:errorlint // identity is the point
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

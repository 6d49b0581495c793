// Package fs shows torrents as a read-only tree of files through FUSE.
//
// It owns everything that FUSE knows of: the mount and its end, the nodes of the tree, open files and their
// read-ahead, and what an error looks like to a program. It never opens a socket, knows no peer and keeps no
// content: bytes come from a Content, and only a read of a file asks for them. Metadata (stat, readdir) is
// answered from the torrents' file lists alone.
//
// Requests are answered by loop.answer (serve.go), a read by loop.read; the policy of read-ahead is readahead.go.
package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"bazil.org/fuse"
)

// Content is where the bytes of one torrent come from.
type Content interface {
	// ReadAt fills p with verified bytes of the torrent beginning at off, or returns an error: a partial read
	// never counts as success. It returns soon after ctx ends, and doesn't touch p afterwards.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// View returns the n bytes at off if they are in memory in one stretch, until release is called. It never blocks.
	View(off, n int64) (data []byte, release func(), ok bool)
	// Ahead says that the bytes [off, off+n) of the torrent are likely to be read soon, in order, at rate
	// bytes a second (0: as fast as they come). It replaces what the same cursor said before; n == 0
	// withdraws it. Cursors are unique in the process. It never blocks.
	Ahead(cursor uint64, off, n, rate int64)
}

// Options of a mount; the zero value is usable.
type Options struct {
	ReadTimeout   time.Duration // after which a read fails with EIO; 0: two minutes
	ReadAhead     int64         // bytes, the most that is wanted ahead of one sequential reader; 0: no read-ahead
	AllowOther    bool          // let other users in; where root doesn't mount, /etc/fuse.conf must permit it
	AllowNonEmpty bool          // hide what the directory holds instead of refusing it
	FSName        string        // the source in the table of mounts; "": torrentfs
	Logger        *slog.Logger  // nil: silent
}

const (
	defaultReadTimeout = 2 * time.Minute

	subtype = "torrentfs"
	fsType  = "fuse." + subtype // in the table of mounts

	// The kernel lets this many reads wait in the background before it holds back all others of the mount.
	// Its default of 12 is used up by half a dozen readers that wait for peers, and then those whose data is
	// at hand would wait with them.
	maxBackground       = 256
	congestionThreshold = 192

	// wide is what the kernel may read ahead on its own. It doesn't go beyond the read_ahead_kb of the
	// mount's device, 128 KiB unless the administrator says otherwise.
	wide = 16 << 20

	// grace is how long the end of an unmounted tree is waited for.
	grace = time.Second
)

// Tree is a mounted tree, served in the background. Its methods may be called from any goroutine.
type Tree struct {
	// Written before serving begins.
	dir         string // absolute, symbolic links resolved
	device      string // of the mount, "major:minor"; "" where the table of mounts can't be read
	readTimeout time.Duration
	readAhead   int64
	log         *slog.Logger
	root        *root
	life        context.Context // the mount's own, not a request's: when it ends, every read fails
	abort       context.CancelFunc
	served      chan struct{} // closed when the serving loop has ended
	done        chan struct{} // closed by finish

	windows atomic.Int64 // read-ahead windows held by all open files

	finishing sync.Once
	err       error // written before done is closed
}

// Mount mounts an empty tree at dir. Once it returns, the tree is served until Unmount, or until somebody else
// unmounts it. A dead mount of this program's at dir is cleared. Its errors name what is wrong with dir or with the machine, and what to do about it.
func Mount(dir string, opt Options) (*Tree, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := check(dir, opt)
	if err != nil {
		return nil, err
	}
	t := &Tree{
		dir:         dir,
		readTimeout: opt.ReadTimeout,
		readAhead:   opt.ReadAhead,
		log:         opt.Logger,
		root:        newRoot(time.Now()),
		served:      make(chan struct{}),
		done:        make(chan struct{}),
	}
	if t.readTimeout <= 0 {
		t.readTimeout = defaultReadTimeout
	}
	name := opt.FSName
	if name == "" {
		name = subtype
	}
	options := []fuse.MountOption{
		fuse.FSName(name),
		fuse.Subtype(subtype),
		fuse.ReadOnly(),
		fuse.DefaultPermissions(),
		fuse.AsyncRead(),
		fuse.MaxReadahead(wide),
		fuse.MaxBackground(maxBackground),
		fuse.CongestionThreshold(congestionThreshold),
	}
	if opt.AllowOther {
		options = append(options, fuse.AllowOther())
	}
	conn, err := connect(dir, options)
	if err != nil {
		return nil, err
	}
	d, err := newDevice(conn)
	if err != nil {
		_ = conn.Close()
		return nil, errors.Join(err, umount(dir, true))
	}
	t.life, t.abort = context.WithCancel(context.Background())
	var watch *watch
	if m, ok := mountedAt(dir); ok && m.fsType == fsType {
		t.device = m.device
		if watch, err = watchMount(t.device, t.end); err != nil {
			t.log.Debug("can't watch the table of mounts", "error", err)
		}
	}
	go t.serve(d, watch)
	return t, nil
}

// serve answers the kernel until the connection ends.
func (t *Tree) serve(d *device, watch *watch) {
	err := newLoop(t, d).run()
	close(t.served)
	watch.stop()
	d.close()
	if err != nil {
		err = fmt.Errorf("serve %s: %w", t.dir, err)
		if m, ok := mountedAt(t.dir); ok && m.device == t.device {
			// Don't leave a dead mount behind.
			if uerr := umount(t.dir, true); uerr != nil {
				t.log.Warn("can't unmount", "dir", t.dir, "error", uerr)
			}
		}
	}
	t.finish(err)
}

func (t *Tree) finish(err error) {
	t.finishing.Do(func() {
		t.err = err
		close(t.done)
	})
}

// SetNotice shows a text as a read-only file at the root, or removes it where text is nil. The text is asked for
// anew whenever the file is looked at, possibly from several goroutines at once, and must come without waiting.
func (t *Tree) SetNotice(name string, text func() []byte) {
	t.root.setNotice(name, text)
}

// Done is closed when the tree is mounted no more, whoever unmounted it.
func (t *Tree) Done() <-chan struct{} { return t.done }

// Err returns why serving ended, once Done is closed: nil after an unmount.
func (t *Tree) Err() error {
	select {
	case <-t.done:
		return t.err
	default:
		return nil
	}
}

package fs

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"bazil.org/fuse"
	"bazil.org/fuse/fuseutil"
)

// A node is a file or directory that the kernel knows by number.
type node interface {
	attr(a *fuse.Attr)
	// open answers an open for reading.
	open(req *fuse.OpenRequest, resp *fuse.OpenResponse) opened
}

// A folder is a node with others below it.
type folder interface {
	node
	// lookup finds a child, which the kernel may remember for a while; nil: there is none.
	lookup(name string) (child node, valid time.Duration)
}

// Something opened is a *handle, for a file whose bytes may have to be waited for, or a text.
type opened interface{ release() }

// A text is something opened whose bytes are all here: a listing, or a notice.
type text []byte

func (text) release() {}

// A loop answers the kernel's requests, in a loop of its own in place of bazil.org/fuse/fs's. The tree is small and in
// memory, so every request but a read that has to wait is answered at once, on the loop's goroutine, which alone knows
// nodes and handles. fuse/fs starts a goroutine and makes two buffers for each request; measured on cached reads that cost half
// of the throughput.
type loop struct {
	tree    *Tree
	device  *device
	nodes   []node // by NodeID, from 1; they stay, as the tree does
	ids     map[node]fuse.NodeID
	handles []opened // by HandleID; nil: free
	free    []fuse.HandleID
	buffers sync.Pool      // of *[]byte, for reads that wait
	reads   sync.WaitGroup // reads that wait

	mu      sync.Mutex // over what follows
	waiting map[fuse.RequestID]context.CancelFunc
}

func newLoop(t *Tree, d *device) *loop {
	return &loop{
		tree: t, device: d, nodes: []node{nil, t.root}, ids: map[node]fuse.NodeID{t.root: fuse.RootID},
		waiting: make(map[fuse.RequestID]context.CancelFunc),
	}
}

// run answers requests until the connection ends: with nil if the tree was unmounted. No read waits any more when it
// returns.
func (l *loop) run() error {
	defer l.reads.Wait()
	defer l.tree.abort()
	for {
		req, err := l.device.request()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.answer(req); err != nil {
			req.RespondError(fuse.ToErrno(err))
		}
	}
}

// errReadOnly is the answer to every attempt to change something. The kernel refuses most by itself, the mount being
// read-only, unless root remounts it writable.
var errReadOnly = syscall.EROFS

// answer answers a request, or returns the error to answer with.
func (l *loop) answer(req fuse.Request) error {
	switch r := req.(type) {
	case *fuse.ReadRequest:
		return l.read(r)
	case *fuse.InterruptRequest:
		l.interrupt(r.IntrID)
		r.Respond()
	case *fuse.ForgetRequest:
		r.Respond()
	case *fuse.BatchForgetRequest:
		r.Respond()
	case *fuse.LookupRequest:
		return l.lookup(r)
	case *fuse.GetattrRequest:
		n, err := l.node(r.Node)
		if err != nil {
			return err
		}
		resp := new(fuse.GetattrResponse)
		n.attr(&resp.Attr)
		r.Respond(resp)
	case *fuse.OpenRequest:
		return l.open(r)
	case *fuse.FlushRequest:
		if h, ok := l.handle(r.Handle).(*handle); ok {
			h.flush()
		}
		r.Respond()
	case *fuse.ReleaseRequest:
		if h := l.handle(r.Handle); h != nil {
			h.release()
			l.handles[r.Handle] = nil
			l.free = append(l.free, r.Handle)
		}
		r.Respond()
	case *fuse.StatfsRequest:
		resp := new(fuse.StatfsResponse)
		l.tree.root.statfs(resp)
		r.Respond(resp)
	case *fuse.DestroyRequest:
		r.Respond()
	case *fuse.SetattrRequest, *fuse.SymlinkRequest, *fuse.LinkRequest, *fuse.RemoveRequest, *fuse.MkdirRequest,
		*fuse.CreateRequest, *fuse.RenameRequest, *fuse.MknodRequest, *fuse.SetxattrRequest, *fuse.RemovexattrRequest,
		*fuse.WriteRequest:
		return errReadOnly
	default:
		// Extended attributes, access, fsync, poll, locks... The kernel doesn't ask again, which saves a round trip for
		// every file listed, opened or closed. Programs see ENOTSUP for extended attributes, and success for fsync.
		return syscall.ENOSYS
	}
	return nil
}

func (l *loop) node(id fuse.NodeID) (node, error) {
	if id == 0 || uint64(id) >= uint64(len(l.nodes)) {
		return nil, syscall.ESTALE
	}
	return l.nodes[id], nil
}

func (l *loop) handle(id fuse.HandleID) opened {
	if uint64(id) >= uint64(len(l.handles)) {
		return nil
	}
	return l.handles[id]
}

func (l *loop) lookup(r *fuse.LookupRequest) error {
	n, err := l.node(r.Node)
	if err != nil {
		return err
	}
	f, ok := n.(folder)
	if !ok {
		return syscall.ENOTDIR
	}
	child, valid := f.lookup(r.Name)
	if child == nil {
		return syscall.ENOENT
	}
	id, ok := l.ids[child]
	if !ok {
		id = fuse.NodeID(len(l.nodes))
		l.nodes = append(l.nodes, child)
		l.ids[child] = id
	}
	resp := &fuse.LookupResponse{Node: id, EntryValid: valid}
	child.attr(&resp.Attr)
	r.Respond(resp)
	return nil
}

func (l *loop) open(r *fuse.OpenRequest) error {
	n, err := l.node(r.Node)
	if err != nil {
		return err
	}
	if !r.Flags.IsReadOnly() {
		return errReadOnly
	}
	resp := new(fuse.OpenResponse)
	h := n.open(r, resp)
	if last := len(l.free) - 1; last >= 0 {
		resp.Handle, l.free = l.free[last], l.free[:last]
		l.handles[resp.Handle] = h
	} else {
		resp.Handle = fuse.HandleID(len(l.handles))
		l.handles = append(l.handles, h)
	}
	r.Respond(resp)
	return nil
}

// read answers a read at once if its bytes are here, and otherwise has it wait on a goroutine of its own.
func (l *loop) read(r *fuse.ReadRequest) error {
	switch h := l.handle(r.Handle).(type) {
	case text:
		resp := new(fuse.ReadResponse)
		resp.Data = make([]byte, 0, r.Size)
		fuseutil.HandleRead(r, resp, h)
		r.Respond(resp)
	case *handle:
		n := min(int64(r.Size), h.file.size-r.Offset)
		if n <= 0 {
			r.Respond(new(fuse.ReadResponse))
			return nil
		}
		c, flushes := h.began(r.Offset, n)
		if data, release, ok := h.file.view(r.Offset, n); ok {
			l.device.answer(r, data)
			release()
			h.finished(c, flushes)
			return nil
		}
		l.wait(r, n, func(ctx context.Context, p []byte) error {
			defer h.finished(c, flushes)
			return h.read(ctx, p, r.Offset)
		})
	default:
		return syscall.ESTALE
	}
	return nil
}

// wait has a read of n bytes wait until they come, its time is up, the kernel interrupts it or the tree is unmounted.
func (l *loop) wait(r *fuse.ReadRequest, n int64, read func(ctx context.Context, p []byte) error) {
	ctx, cancel := context.WithCancel(context.Background())
	l.mu.Lock()
	l.waiting[r.ID] = cancel
	l.mu.Unlock()
	l.reads.Go(func() {
		defer cancel()
		buf := l.buffer(n)
		err := read(ctx, (*buf)[:n])
		l.mu.Lock()
		delete(l.waiting, r.ID)
		l.mu.Unlock()
		if err != nil {
			r.RespondError(fuse.ToErrno(errno(ctx, err)))
		} else {
			l.device.answer(r, (*buf)[:n])
		}
		l.buffers.Put(buf)
	})
}

// buffer returns a buffer of n bytes at least.
func (l *loop) buffer(n int64) *[]byte {
	if b, ok := l.buffers.Get().(*[]byte); ok && int64(len(*b)) >= n {
		return b
	}
	b := make([]byte, n)
	return &b
}

// interrupt ends the wait of a read whose program was interrupted. One that was answered already is not known any more.
func (l *loop) interrupt(id fuse.RequestID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cancel := l.waiting[id]; cancel != nil {
		cancel()
	}
}

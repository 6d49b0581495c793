package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	neturl "net/url"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"torrentfs/fetch"
	"torrentfs/fetch/metadata"
	"torrentfs/fetch/metainfo"
)

// finder finds the torrents that sources name, by the network.
type finder struct {
	client *fetch.Client
	known  library
	flags  networkFlags
	log    *slog.Logger
}

// find returns the torrent that a source names, and remembers it. It takes until ctx ends, or for ever.
func (f *finder) find(ctx context.Context, s source, progress func(metadata.Progress)) (*metainfo.Torrent, error) {
	if s.kind == torrentURL {
		return f.download(ctx, s.arg)
	}
	if err := f.client.CanResolve(s.magnet, f.flags.peers); err != nil {
		return nil, fmt.Errorf("%s: there is nobody to ask what it is: %w", printable(s.arg), err)
	}
	var last metadata.Progress
	t, err := f.client.Resolve(ctx, s.magnet, f.flags.peers, func(p metadata.Progress) {
		last = p
		progress(p)
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return nil, fmt.Errorf("%s: not found in %s: %s; a longer --resolve-timeout or a --peer may help",
			printable(s.arg), f.flags.resolveTimeout.String(), describeProgress(last))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(s.arg), err)
	}
	f.remember(t, "")
	return t, nil
}

// download gets a .torrent file, or, when that fails, the one that was had from the same place before.
func (f *finder) download(ctx context.Context, url string) (*metainfo.Torrent, error) {
	t, err := f.client.Download(ctx, url)
	if err == nil {
		f.remember(t, url)
		return t, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	if e, ok := errors.AsType[*neturl.Error](err); ok {
		err = e.Err // or the URL would be there twice
	}
	err = fmt.Errorf("%s: %w", printable(url), err)
	if t, missing := f.known.byURL(url); missing == nil {
		f.log.Warn("taking the torrent that this URL gave before", "err", err)
		return t, nil
	}
	return nil, err
}

// remember puts a torrent into the library, which is nothing to fail for.
func (f *finder) remember(t *metainfo.Torrent, url string) {
	if err := f.known.put(t, url); err != nil {
		f.log.Warn("the torrent can't be remembered for another time", "torrent", t.Name, "err", err)
	}
}

// describeProgress says in words how far the finding of a torrent has come.
func describeProgress(p metadata.Progress) string {
	switch {
	case p.Known == 0:
		return "no peer is known yet"
	case p.Connected == 0:
		return fmt.Sprintf("no answer yet from %s", plural(p.Known, "peer"))
	case p.Size == 0:
		return fmt.Sprintf("asking %s", plural(p.Connected, "peer"))
	}
	return fmt.Sprintf("%s of %s from %s", humanize.IBytes(uint64(p.Have)), humanize.IBytes(uint64(p.Size)), plural(p.Connected, "peer"))
}

// search is the finding of one source's torrent, as others see it.
type search struct {
	source source
	began  time.Time

	mu       sync.Mutex
	progress metadata.Progress
	problem  error // what stands in the way at the moment, or for good
}

func (q *search) report(p metadata.Progress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.progress = p
}

func (q *search) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.problem = err
}

// state says how it goes.
func (q *search) state() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.problem != nil {
		return q.problem.Error()
	}
	if q.source.kind == torrentURL {
		return "downloading"
	}
	return describeProgress(q.progress)
}

// render returns a line about the search in at most width columns.
func (q *search) render(width int) string {
	line := fmt.Sprintf("looking for %s  %s  %v", q.source.label(), q.state(), time.Since(q.began).Round(time.Second))
	return cut(line, width)
}

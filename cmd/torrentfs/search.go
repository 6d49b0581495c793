package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// noticeName is the file at the root of a mount that says what is still being looked for.
	noticeName = "torrentfs-status.txt"

	firstRetry = 5 * time.Second // of a download that failed
	lastRetry  = 5 * time.Minute
)

// search starts to look for the torrents of the sources that are not known, and adds each when it is found. While some
// are missing, a notice in the mount says so. Every search ends with one error or nil on the channel. Those that insist
// go on until the session ends, where trying again may help.
func (s *session) search(ctx context.Context, sources []source, insist bool) <-chan error {
	ctx, s.stop = context.WithCancel(ctx)
	for _, src := range sources {
		if src.torrent == nil {
			s.searches = append(s.searches, &search{source: src, began: time.Now()})
		}
	}
	results := make(chan error, len(s.searches))
	if len(s.searches) == 0 {
		return results
	}
	s.tree.SetNotice(noticeName, s.notice)
	for _, q := range slices.Clone(s.searches) {
		s.searching.Go(func() {
			s.log.Info("looking for a torrent", "source", q.source.label())
			err := s.find(ctx, q, insist)
			switch {
			case err == nil:
				s.found(q)
			case ctx.Err() == nil:
				q.fail(err)
				if insist {
					s.log.Error("a torrent can't be mounted", "err", err)
				}
			}
			results <- err
		})
	}
	return results
}

// find looks for one torrent and adds it.
func (s *session) find(ctx context.Context, q *search, insist bool) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		t, err := s.finder.find(ctx, q.source, q.report)
		if err == nil {
			src := q.source
			src.torrent = t
			if s.has(t.InfoHash) {
				s.log.Warn("the same torrent again, mounted once", "source", src.arg)
				return nil
			}
			if err := s.add(src); err != nil {
				return err
			}
			s.log.Info("found a torrent", "name", t.Name, "info_hash", t.InfoHash)
			return nil
		}
		if ctx.Err() != nil || !insist || q.source.kind != torrentURL {
			return err
		}
		s.log.Warn("no torrent yet, trying again", "after", pause, "err", err)
		q.fail(fmt.Errorf("%w; trying again", err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// found takes a search off the list, and with the last one the notice out of the mount.
func (s *session) found(q *search) {
	s.mu.Lock()
	s.searches = slices.DeleteFunc(s.searches, func(other *search) bool { return other == q })
	last := len(s.searches) == 0
	s.mu.Unlock()
	if last {
		s.tree.SetNotice(noticeName, nil)
	}
}

// notice is the text of the file that stands in for what is not found yet.
func (s *session) notice() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b bytes.Buffer
	fmt.Fprintf(&b, "torrentfs is looking for %s. The files will be here as soon as that is found.\n",
		plural(len(s.searches), "torrent"))
	for _, q := range s.searches {
		fmt.Fprintf(&b, "\n%s\n  for %v: %s\n", printable(q.source.arg), time.Since(q.began).Round(time.Second), q.state())
	}
	return b.Bytes()
}

// errUnmounted says that the mount went away while it was being set up.
var errUnmounted = errors.New("unmounted before everything was found")

// wait shows how the searches go until all have ended. The error is that of the first that failed.
func (s *session) wait(ends endings, results <-chan error, screen *screen) error {
	defer screen.setLine(nil)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for range cap(results) {
		for waiting := true; waiting; {
			select {
			case err := <-results:
				if err != nil {
					return err
				}
				waiting = false
			case <-s.tree.Done():
				return errUnmounted
			case <-ends.soft.Done():
				return context.Canceled
			case <-tick.C:
				screen.setLine(s.renderSearch)
			}
		}
	}
	return nil
}

// renderSearch returns a line about the oldest search.
func (s *session) renderSearch(width int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.searches) == 0 {
		return ""
	}
	return s.searches[0].render(width)
}

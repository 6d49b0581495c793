package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"torrentfs/fetch"
	"torrentfs/fetch/metainfo"
	"torrentfs/fetch/seed"
	"torrentfs/fetch/tracker"
)

const (
	demoSeeders = 3
	// enrolment is how long the seeders may take to be known to the tracker.
	enrolment = 20 * time.Second
)

// swarm is what demo mounts from: a tracker and a few seeders, all on the loopback interface.
type swarm struct {
	torrent *metainfo.Torrent
	tracker string // its announce URL
	server  http.Server
	seeders []*fetch.Client
	serving sync.WaitGroup
}

// startSwarm shares the folder. It returns once the tracker knows the seeders, so that whoever asks it first is
// told of all of them.
func startSwarm(ctx context.Context, folder string, log *slog.Logger) (*swarm, error) {
	s := &swarm{}
	if err := s.start(ctx, folder, log); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *swarm) start(ctx context.Context, folder string, log *slog.Logger) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start a tracker: %w", err)
	}
	s.tracker = fmt.Sprintf("http://%s/announce", listener.Addr())
	enrolled := make(chan struct{}, demoSeeders)
	s.server = http.Server{
		Handler:           announceStarts(&tracker.Server{}, enrolled),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.serving.Go(func() { _ = s.server.Serve(listener) }) // it ends with close

	made, err := metainfo.Create(ctx, folder, metainfo.CreateOptions{
		Trackers: [][]string{{s.tracker}},
		Comment:  "made by torrentfs demo",
	}, nil)
	if err != nil {
		return fmt.Errorf("make a torrent: %w", err)
	}
	if s.torrent, err = metainfo.Parse(made); err != nil {
		return fmt.Errorf("the torrent just made: %w", err)
	}
	store, err := seed.Open(s.torrent, filepath.Dir(folder))
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if _, err := store.Verify(ctx, nil); err != nil {
		return err
	}
	for i := range demoSeeders {
		client, err := fetch.New(fetch.Config{Listen: "127.0.0.1:0", NoDHT: true, NoLSD: true, Upload: true, Version: release(), Logger: log.With("seeder", i+1)})
		if err != nil {
			return fmt.Errorf("start a seeder: %w", err)
		}
		s.seeders = append(s.seeders, client)
		torrent, err := client.Add(s.torrent, store, fetch.AddOptions{Seed: true})
		if err != nil {
			return fmt.Errorf("start a seeder: %w", err)
		}
		store.Watch(torrent.Lost)
	}
	late := time.After(enrolment)
	for range demoSeeders {
		select {
		case <-enrolled:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("the seeders did not reach the tracker at %s; does a firewall guard the loopback interface?", s.tracker)
		}
	}
	return nil
}

// announceStarts passes requests on to the tracker and tells enrolled of each client's first.
func announceStarts(next http.Handler, enrolled chan<- struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if r.URL.Query().Get("event") == "started" {
			select {
			case enrolled <- struct{}{}:
			default:
			}
		}
	})
}

// close ends the seeders and the tracker.
func (s *swarm) close() error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for _, seeder := range s.seeders {
		wg.Go(func() {
			err := seeder.Close()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	errs = append(errs, s.server.Close()) // after the seeders, which say good-bye to it
	s.serving.Wait()
	return errors.Join(errs...)
}

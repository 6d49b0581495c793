package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// endings are the ways in which signals end a mount. SIGINT, SIGTERM and SIGHUP count.
type endings struct {
	soft context.Context // ends with the first signal: unmount cleanly
	hard context.Context // ends with the second: no more waiting
	stop func()          // gives the signals back to the system
}

// catchSignals makes signals end contexts instead of the process.
func catchSignals(ctx context.Context) endings {
	soft, cancelSoft := context.WithCancel(ctx)
	hard, cancelHard := context.WithCancel(context.WithoutCancel(ctx))
	// A reader of our log may go away; that must not kill the process and leave a dead mount behind.
	signal.Ignore(unix.SIGPIPE)
	ending := []os.Signal{unix.SIGINT, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) { // nohup
		ending = append(ending, unix.SIGHUP)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, ending...)
	stopped := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for _, cancel := range []func(){cancelSoft, cancelHard} {
			select {
			case <-signals:
				cancel()
			case <-stopped:
				return
			}
		}
	}()
	return endings{soft, hard, func() {
		signal.Stop(signals)
		close(stopped)
		<-finished
		cancelSoft()
		cancelHard()
	}}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A daemon is this program run again, in a session of its own, with the same arguments. It tells its parent that
// the mount is usable by a line on a pipe whose descriptor is named in its environment; until then its errors and
// log lines go to the parent's stderr, and from then on to its log file.

// readyVar names the environment variable that holds the descriptor of the ready pipe.
const readyVar = "TORRENTFS_READY_FD"

// lastWords is how long a parent waits for the end of its child's stderr after the child is ready or dead.
const lastWords = 2 * time.Second

// readyLine is what the child writes into the ready pipe.
const readyLine = "ready\n"

// startDaemon runs this program again in the background and returns once its mount is usable, or with the error
// that the child has reported by then.
func startDaemon(args []string, stderr io.Writer) error {
	ready, childReady, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	defer ready.Close()
	childErrors, childStderr, err := os.Pipe()
	if err != nil {
		childReady.Close()
		return fmt.Errorf("start the daemon: %w", err)
	}
	defer childErrors.Close()

	child := exec.Command("/proc/self/exe", args...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), readyVar+"=3") // the first of ExtraFiles
	child.ExtraFiles = []*os.File{childReady}
	child.Stderr = childStderr // a file, so that the child may outlive us with it
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	// Ctrl-C does not reach the child's session.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)

	err = child.Start()
	childReady.Close()
	childStderr.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	started := make(chan struct{})
	defer close(started)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = child.Process.Signal(s) // it may have ended meanwhile
			case <-started:
				return
			}
		}
	}()

	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.Copy(stderr, childErrors)
	}()
	line, _ := io.ReadAll(ready) // to the end, which comes when the child is ready or has ended
	select {
	case <-said:
	case <-time.After(lastWords): // something that the child has started holds its stderr
	}
	if string(line) == readyLine {
		return child.Process.Release()
	}
	err = child.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return codeError(exitFailure) // it has said why
	}
	return fmt.Errorf("the daemon ended before its mount was usable (%v)", child.ProcessState)
}

// readyPipe is the daemon's way to tell its parent that it is ready. A nil readyPipe belongs to a process that is
// no daemon; its methods do nothing.
type readyPipe struct {
	pipe *os.File
}

// takeReadyPipe returns the pipe if this process was started by startDaemon.
func takeReadyPipe() (*readyPipe, error) {
	value, ok := os.LookupEnv(readyVar)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(readyVar); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %s; it is for torrentfs itself, so unset it", readyVar, shellQuote(value))
	}
	unix.CloseOnExec(fd)
	return &readyPipe{os.NewFile(uintptr(fd), "ready pipe")}, nil
}

// ready lets the parent go, after which stderr is logFile, or nothing when that is nil, and the working directory
// is / so that the daemon keeps no filesystem busy.
func (r *readyPipe) ready(logFile *os.File) error {
	if r == nil {
		return nil
	}
	if logFile == nil {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		logFile = null
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// First, so that all the parent gets of our stderr was written before it is let go.
	if err := unix.Dup3(int(logFile.Fd()), int(os.Stderr.Fd()), 0); err != nil {
		return err
	}
	if _, err := r.pipe.WriteString(readyLine); err != nil {
		return fmt.Errorf("tell the parent: %w", err)
	}
	return r.pipe.Close()
}

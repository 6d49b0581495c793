package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// python is the interpreter that has Debian's python3-libtorrent.
const python = "/usr/bin/python3"

// script is a Python process with libtorrent sessions. It is asked by lines, the first of which says what it is to do, and
// answers each with a line of JSON.
type script struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startScript starts a script and decodes its first answer.
func startScript(ctx context.Context, source string, config, answer any) (*script, error) {
	s := &script{cmd: exec.Command(python, "-c", source)}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.out = bufio.NewScanner(out)
	line, err := json.Marshal(config)
	if err == nil {
		err = s.ask(ctx, string(line), answer)
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("%s with python3-libtorrent does not start: %w", python, err)
	}
	return s, nil
}

// ask decodes the answer to a question.
func (s *script) ask(ctx context.Context, question string, answer any) error {
	kill := context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	defer kill()
	if _, err := io.WriteString(s.in, question+"\n"); err != nil {
		return err
	}
	if !s.out.Scan() {
		return errors.Join(errors.New("no answer"), s.out.Err(), ctx.Err())
	}
	return json.Unmarshal(s.out.Bytes(), answer)
}

func (s *script) stop() {
	s.in.Close()
	end(s.cmd) // it keeps nothing, and libtorrent takes its time to close
}

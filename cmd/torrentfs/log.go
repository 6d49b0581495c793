package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// logFlags are the flags of every verb that logs.
type logFlags struct {
	level  choiceValue
	format choiceValue
}

func (f *logFlags) register(cmd *cobra.Command) {
	f.level = choiceValue{"info", []string{"debug", "info", "warn", "error"}}
	f.format = choiceValue{"text", []string{"text", "json"}}
	flags := cmd.PersistentFlags()
	flags.Var(&f.level, "log-level", "log lines of this `LEVEL` and above: debug, info, warn or error")
	flags.Var(&f.format, "log-format", "`FORMAT` of log lines: text or json")
	for name, choices := range map[string][]string{"log-level": f.level.choices, "log-format": f.format.choices} {
		// It fails only for a flag that does not exist.
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
	}
}

// logger returns the logger that the flags ask for, writing to w. Lines for a person at a terminal are shorter.
func (f *logFlags) logger(w io.Writer, person bool) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.level.value)) // one of the choices
	opt := &slog.HandlerOptions{Level: level}
	switch {
	case f.format.value == "json":
		return slog.New(slog.NewJSONHandler(w, opt))
	case person:
		return slog.New(newPersonHandler(w, level))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// personHandler writes `15:04:05 message key=value`, with the level in front of the message unless it is INFO.
type personHandler struct {
	*personLine
	attrs slog.Handler // writes the attributes to line
}

// personLine is what a personHandler shares with those derived from it.
type personLine struct {
	mu   sync.Mutex
	w    io.Writer
	line bytes.Buffer
}

func newPersonHandler(w io.Writer, level slog.Level) *personHandler {
	h := &personHandler{personLine: &personLine{w: w}}
	h.attrs = slog.NewTextHandler(&h.line, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})
	return h
}

func (h *personHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.attrs.Enabled(ctx, level)
}

func (h *personHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	h.line.WriteString(r.Time.Format("15:04:05 "))
	if r.Level != slog.LevelInfo {
		h.line.WriteString(r.Level.String() + " ")
	}
	h.line.WriteString(r.Message + " ")
	if err := h.attrs.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.w.Write(append(bytes.TrimRight(h.line.Bytes(), " \n"), '\n'))
	return err
}

func (h *personHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &personHandler{h.personLine, h.attrs.WithAttrs(attrs)}
}

func (h *personHandler) WithGroup(name string) slog.Handler {
	return &personHandler{h.personLine, h.attrs.WithGroup(name)}
}

// terminal returns the file behind w if it is a terminal that a person watches: not a pipe, a file, a CI job's
// imitation of a terminal, or one that can't move its cursor.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("CI") != "" || os.Getenv("TERM") == "dumb" {
		return nil, false
	}
	return f, true
}

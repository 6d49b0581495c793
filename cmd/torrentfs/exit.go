package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit codes of every verb.
const (
	exitOK      = 0 // it worked; for mount: it was unmounted cleanly, by whomever
	exitFailure = 1 // it was understood and failed
	exitUsage   = 2 // the command line can't be understood
)

// usageError is a command line that can't be understood.
type usageError struct {
	cmd *cobra.Command
	msg string
}

func (e *usageError) Error() string { return e.msg }

// usagef returns a usageError of cmd.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd, fmt.Sprintf(format, args...)}
}

// codeError is an error that was reported already: only the code is left to return.
type codeError int

func (c codeError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// report tells the user of err, which may be nil, and returns the exit code that goes with it.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if code, ok := errors.AsType[codeError](err); ok {
		return int(code)
	}
	if usage, ok := errors.AsType[*usageError](err); ok {
		path := usage.cmd.CommandPath()
		fmt.Fprintf(w, "%s: %s\nTry '%s --help'.\n", path, usage.msg, path)
		return exitUsage
	}
	for _, cause := range leaves(err) {
		if errors.Is(cause, context.Canceled) { // a signal; what it cut short does not matter to who sent it
			cause = errors.New("interrupted")
		}
		fmt.Fprintf(w, "torrentfs: %v\n", cause)
	}
	return exitFailure
}

// leaves returns the errors that errors.Join has joined in err, and in those.
func leaves(err error) (all []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok || err.Error() != errors.Join(joined.Unwrap()...).Error(): // one that wraps several in words of its own
		return []error{err}
	}
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}

// checkVerb reports a verb that does not exist. It goes first, because cobra would otherwise complain of the
// flags of the mistyped verb.
func checkVerb(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	if _, _, err := root.Find(args); err == nil {
		return nil
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.AddFlagSet(root.PersistentFlags())
	_ = flags.Parse(args) // a wrong flag is cobra's to complain of
	if flags.NArg() == 0 {
		return nil
	}
	verb := flags.Arg(0)
	if strings.HasSuffix(verb, ".torrent") || strings.HasPrefix(verb, "magnet:") {
		return usagef(root, "%q is not a verb; to mount it: torrentfs mount %s MOUNTPOINT", verb, shellQuote(verb))
	}
	return usagef(root, "there is no verb %q%s", verb, didYouMean("", root.SuggestionsFor(verb)))
}

// flagError words the errors of the flag parser for a person.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if e.GetSpecifiedShortnames() != "" {
			hint := ""
			if cmd.Flags().Lookup(e.GetSpecifiedShortnames()) != nil { // -memory 1GiB
				hint = fmt.Sprintf("; did you mean --%s?", e.GetSpecifiedShortnames())
			}
			return usagef(cmd, "there is no flag -%s%s", e.GetSpecifiedShortnames(), hint)
		}
		name := e.GetSpecifiedName()
		return usagef(cmd, "there is no flag --%s%s", name, didYouMean("--", similarFlags(cmd, name)))
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		name, _ := pflag.UnquoteUsage(e.GetFlag())
		return usagef(cmd, "--%s needs a value: --%s %s", e.GetFlag().Name, e.GetFlag().Name, name)
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		cause := e.Unwrap()
		switch e.GetFlag().Value.Type() {
		case "int":
			cause = fmt.Errorf("%q is not a whole number", e.GetValue())
		case "bool":
			cause = fmt.Errorf("%q is neither true nor false", e.GetValue())
		}
		return usagef(cmd, "--%s: %v", e.GetFlag().Name, cause)
	}
	return usagef(cmd, "%v", err)
}

// similarFlags returns the flags of cmd that name may be a misspelling of.
func similarFlags(cmd *cobra.Command, name string) []string {
	// cobra knows how to find similar verbs, so the flags dress up as verbs.
	verbs := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			verbs.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	return verbs.SuggestionsFor(name)
}

// didYouMean returns the end of a message that offers suggestions, if there are any.
func didYouMean(prefix string, suggestions []string) string {
	if len(suggestions) == 0 {
		return ""
	}
	for i := range suggestions {
		suggestions[i] = prefix + suggestions[i]
	}
	return "; did you mean " + strings.Join(suggestions, " or ") + "?"
}

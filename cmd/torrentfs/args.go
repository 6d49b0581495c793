package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// notEmpty refuses empty arguments: they are variables of a script that were never set, and as a path they would mean
// the working directory.
func notEmpty(cmd *cobra.Command, args []string) error {
	if slices.Contains(args, "") {
		return usagef(cmd, "an argument is empty")
	}
	return nil
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "it takes no arguments, but there is %s", shellQuote(args[0]))
	}
	return nil
}

// exactArgs demands one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			missing := names[len(args):]
			if len(missing) > 1 {
				return usagef(cmd, "%s are missing", strings.Join(missing, " and "))
			}
			return usagef(cmd, "%s is missing", missing[0])
		}
		if extra := args[len(names):]; len(extra) > 0 {
			return usagef(cmd, "only %s is wanted, but there is also %s", strings.Join(names, " and "), shellQuote(extra[0]))
		}
		return notEmpty(cmd, args)
	}
}

// completeTorrents lets the shell complete the names of .torrent files.
func completeTorrents(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"torrent"}, cobra.ShellCompDirectiveFilterFileExt
}

// completeDirectories lets the shell complete the names of directories.
func completeDirectories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

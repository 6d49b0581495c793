package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is the release, set by the linker: -ldflags "-X main.version=1.2.3".
var version string

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printVersion(cmd.OutOrStdout()) },
	}
}

// printVersion says which torrentfs this is, and what it was built with.
func printVersion(w io.Writer) error {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok && !strings.Contains(release(), "-") { // a pseudo-version names it already
		settings := make(map[string]string)
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if revision := settings["vcs.revision"]; revision != "" {
			commit = " " + revision[:min(12, len(revision))]
			if settings["vcs.modified"] == "true" {
				commit += "+changes"
			}
		}
	}
	_, err := fmt.Fprintf(w, "torrentfs %s%s (%s %s/%s)\n", release(), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// release returns the version alone, as peers and trackers are told it.
func release() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "devel"
}

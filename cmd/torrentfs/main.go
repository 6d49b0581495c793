// Command torrentfs mounts torrents as read-only filesystems.
//
// It holds flags, wiring, signals and exit codes, one file per verb. It knows nothing of protocols or offsets:
// what a torrent is belongs to fetch/metainfo, where its bytes come from to fetch, what a file is to fs.
package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit code of the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := checkVerb(root, args); err != nil {
		return report(stderr, err)
	}
	return report(stderr, root.ExecuteContext(ctx))
}

// newRoot returns the command with all its verbs.
func newRoot() *cobra.Command {
	var logs logFlags
	var version bool
	root := &cobra.Command{
		Use:   "torrentfs",
		Short: "Mount torrents and read their files as if they were on a local disk",
		Long: `torrentfs mounts torrents as read-only filesystems. Any program can read the files at once:
only what is read, and a little ahead of it, is downloaded, and every byte is verified first.`,
		Example: `  torrentfs demo                                  see it work, without any network
  torrentfs mount file.torrent /mnt/t             mount; Ctrl-C unmounts
  torrentfs mount --daemon file.torrent /mnt/t    mount in the background
  torrentfs mount 'magnet:?xt=urn:btih:...' /mnt/t
  torrentfs unmount /mnt/t
  torrentfs info file.torrent                     what is in a torrent
  torrentfs create ~/data -o data.torrent         make a torrent
  torrentfs seed data.torrent ~/data              and share it
  torrentfs cache ls                              what is kept on disk`,
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,

		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return printVersion(cmd.OutOrStdout())
			}
			cmd.SetOut(cmd.ErrOrStderr())
			if err := cmd.Help(); err != nil {
				return err
			}
			return codeError(exitUsage)
		},
	}
	root.SetUsageFunc(showUsage)
	root.SetFlagErrorFunc(flagError)
	root.Flags().BoolVar(&version, "version", false, "print the version")
	logs.register(root)
	root.SetHelpCommand(newHelp())
	root.AddCommand(newMount(&logs), newUnmount(), newInfo(&logs), newCreate(), newSeed(&logs), newCache(), newDemo(&logs), newVersion())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true // those that have some say so themselves
		for _, sub := range cmd.Commands() {
			sub.DisableFlagsInUseLine = true
		}
		if cmd.Name() == "completion" {
			cmd.Use += " SHELL"
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usagef(cmd, "there is no completion for the shell %q", args[0])
				}
				return usagef(cmd, "SHELL is missing")
			}
			cmd.RunE = func(*cobra.Command, []string) error { return nil } // Args lets nobody through
		}
	}
	return root
}

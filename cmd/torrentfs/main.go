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
	root := &cobra.Command{
		Use:   "torrentfs",
		Short: "Mount torrents and read their files as if they were on a local disk",
		Long: `torrentfs mounts torrents as read-only filesystems. Any program can read the files at once:
only what is read, and a little ahead of it, is downloaded, and every byte is verified first.`,
		Example: `  torrentfs demo                                  see it work, without any network
  torrentfs mount file.torrent /mnt/t             mount; Ctrl-C unmounts
  torrentfs mount --daemon file.torrent /mnt/t    mount in the background
  torrentfs unmount /mnt/t
  torrentfs info file.torrent                     what is in a torrent`,
		Version:       versionString(),
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,

		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			if err := cmd.Help(); err != nil {
				return err
			}
			return exitCode(exitUsage)
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	logs.register(root)
	root.AddCommand(newMount(&logs), newUnmount(), newInfo(), newDemo(&logs), newVersion())
	return root
}

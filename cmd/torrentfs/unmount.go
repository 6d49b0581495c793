package main

import (
	"errors"

	"github.com/spf13/cobra"

	"torrentfs/fs"
)

func newUnmount() *cobra.Command {
	return &cobra.Command{
		Use:     "unmount MOUNTPOINT...",
		Aliases: []string{"umount"},
		Short:   "Unmount what mount has mounted",
		Long: `Unmount ends mounts, whether they run in the foreground or in the background. Reads that are
blocked end with an error, and the torrentfs that served the mount exits.`,
		Example: "  torrentfs unmount /mnt/t",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "MOUNTPOINT is missing")
			}
			return notEmpty(cmd, args)
		},
		ValidArgsFunction: completeDirectories,
		RunE: func(_ *cobra.Command, args []string) error {
			var errs []error
			for _, dir := range args {
				errs = append(errs, fs.Unmount(dir))
			}
			return errors.Join(errs...)
		},
	}
}

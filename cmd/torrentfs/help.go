package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// showUsage writes what a verb's help says below its description.
func showUsage(cmd *cobra.Command) error {
	var b strings.Builder
	verbs := cmd.HasAvailableSubCommands()
	b.WriteString("Usage:\n  ")
	if verbs {
		b.WriteString(cmd.CommandPath() + " VERB\n")
	} else {
		b.WriteString(cmd.UseLine() + "\n")
	}
	if len(cmd.Aliases) > 0 {
		b.WriteString("\nAlso:\n  " + strings.Join(cmd.Aliases, ", ") + "\n")
	}
	if cmd.HasExample() {
		b.WriteString("\nExamples:\n" + cmd.Example + "\n")
	}
	if verbs {
		b.WriteString("\nVerbs:\n")
		for _, verb := range cmd.Commands() {
			if verb.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-*s  %s\n", verb.NamePadding(), verb.Name(), verb.Short)
			}
		}
	}
	if cmd.HasAvailableLocalFlags() {
		b.WriteString("\nFlags:\n" + cmd.LocalFlags().FlagUsages())
	}
	if cmd.HasAvailableInheritedFlags() {
		b.WriteString("\nFlags of every verb:\n" + cmd.InheritedFlags().FlagUsages())
	}
	if verbs {
		fmt.Fprintf(&b, "\n'%s VERB --help' tells more of a verb.\n", cmd.CommandPath())
	}
	_, err := fmt.Fprint(cmd.OutOrStderr(), b.String())
	return err
}

// newHelp returns the verb that shows the help of another.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:                   "help [VERB]",
		Short:                 "Show the help of a verb",
		DisableFlagsInUseLine: true,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if len(args) == 0 {
				for _, verb := range cmd.Root().Commands() {
					names = append(names, verb.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if err := checkVerb(cmd.Root(), args); err != nil {
					return err
				}
			}
			of, _, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			of.InitDefaultHelpFlag() // which is shown, but made when a verb runs
			of.SetOut(cmd.OutOrStdout())
			return of.Help()
		},
	}
}

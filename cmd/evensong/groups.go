// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"evensong/internal/tools/monitor"
)

// newGroupsCommand is "evensong groups".
func newGroupsCommand() *cobra.Command {
	f := &adminFlags{}
	cmd := &cobra.Command{
		Use:   "groups [NAME]",
		Short: "List the groups with their sizes, or the members of one",
		Long: `List the groups of the configuration with their sizes and how many of the members are at the daemon that is asked. With a
name: the members of that group, in the order of its views. The daemons are listed by "evensong members".

` + reachHelp + `

Exit status: 0 after a list, 1 if there is no such group or no daemon answered, 2 for wrong use, 5 if it refused.`,
		Example: "  evensong groups\n  evensong groups chat\n  evensong groups -o json | jq '.[].name'",
		Args:    arguments(0, 1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return f.live(cmd, true), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, err := f.ready(cmd)
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return monitor.Groups(ctx, f.reach, f.out(), name, cmd.OutOrStdout())
		},
	}
	f.bind(cmd)
	f.bindOutput(cmd)
	return cmd
}

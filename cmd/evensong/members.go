// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"evensong/internal/tools/monitor"
)

// newMembersCommand is "evensong members".
func newMembersCommand() *cobra.Command {
	f := &adminFlags{}
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the daemons of the configuration, and those that are missing",
		Long: `List the daemons of the configuration that is installed, in ring order, with the daemons of the configuration file that
are not in it. The members of a group are listed by "evensong groups NAME", and all groups by "evensong groups".

` + reachHelp + `

Exit status: 0 after a list, 1 if no daemon answered, 2 for wrong use, 5 if it refused.`,
		Example: "  evensong members\n  evensong members --admin a -o json",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, err := f.ready(cmd)
			if err != nil {
				return err
			}
			return monitor.Members(ctx, f.reach, f.out(), cmd.OutOrStdout())
		},
	}
	f.bind(cmd)
	f.bindOutput(cmd)
	return cmd
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/admin"
	"evensong/internal/tools/monitor"
)

// newDrainCommand is "evensong drain".
func newDrainCommand() *cobra.Command {
	f := &adminFlags{}
	var o monitor.DrainOptions
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Have a daemon take no new clients, wait for the others to go, and leave",
		Long: `Have a daemon take no new clients from now on, wait until those that are there have gone, at most until the deadline, and
then leave in good order. The command waits for that and shows how many sessions are left; Ctrl-C ends the command, not the
drain. "evensong status" shows a drain under way, and /readyz says no.

Over TCP it needs DangerousMonitor in the daemon's configuration.

` + reachHelp + `

Exit status: 0 when the daemon has gone, 1 if that failed, 2 for wrong use, 5 if it refused.`,
		Example: "  evensong drain --admin a\n  evensong drain --admin a --deadline 5m\n  evensong drain --admin a --deadline 0s     at once, but in good order",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := f.ready(cmd); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			o.Progress = isTerminal(cmd.OutOrStdout())
			return monitor.Drain(ctx, f.reach, f.out(), o, cmd.OutOrStdout())
		},
	}
	f.bind(cmd)
	f.bindOutput(cmd)
	cmd.Flags().DurationVar(&o.Deadline, "deadline", admin.DefaultDrain, "`DURATION` that clients have; 0s: none")
	cmd.Flags().BoolVar(&o.NoWait, "no-wait", false, "begin it, and do not wait for its end")
	_ = cmd.RegisterFlagCompletionFunc("deadline", cobra.FixedCompletions([]string{"0s", (30 * time.Second).String(), "5m0s"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

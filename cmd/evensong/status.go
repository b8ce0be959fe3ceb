// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/tools/monitor"
)

// newStatusCommand is "evensong status".
func newStatusCommand() *cobra.Command {
	f := &adminFlags{}
	var long, watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how daemons are: membership, order, packets, clients, who is slow",
		Long: `Show how daemons are: state, membership and why it last changed, token, packets, order, windows, clients, and who is
slow. One daemon is shown with every field, several as a table; --long shows every field of all.

` + reachHelp + `

Exit status: 0 if all answered, 1 if one did not, 2 for wrong use, 5 if one refused.`,
		Example: `  evensong status
  evensong status --admin a -o json
  evensong status --all --watch --interval 2s
  evensong status --admin 10.0.0.1:4899 --admin 10.0.0.2:4899 --admin-token-file ~/.evensong-token`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := f.ready(cmd); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			o := f.out()
			o.Long = long
			every := time.Duration(0)
			if interval <= 0 {
				return usage(fmt.Errorf("--interval %v: want a positive duration, such as 10s", interval))
			}
			if watch || cmd.Flags().Changed("interval") {
				every = max(interval, 100*time.Millisecond)
			}
			return monitor.Status(ctx, f.reach, o, every, cmd.OutOrStdout())
		},
	}
	f.bind(cmd)
	f.bindOutput(cmd)
	f.bindAll(cmd, "also the daemons that those asked know how to reach (their --admin-peer, sockets of this host)")
	cmd.Flags().BoolVar(&long, "long", false, "every field, of several daemons as well")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "again and again, with what happened in between")
	cmd.Flags().DurationVar(&interval, "interval", 10*time.Second, "`DURATION` between two looks; implies --watch")
	return cmd
}

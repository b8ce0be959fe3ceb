// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"evensong/internal/admin"
	"evensong/internal/tools/monitor"
)

// settings are the names that "evensong set" knows.
var settings = []string{"window", "personal-window", "accelerated-window", "log-level"}

// newSetCommand is "evensong set".
func newSetCommand() *cobra.Command {
	f := &adminFlags{}
	cmd := &cobra.Command{
		Use:   "set [NAME=VALUE]...",
		Short: "Change windows and the log level while daemons run",
		Long: `Change settings of daemons while they run. Without arguments it shows the values in force. Nothing is stored: after a
restart, or a reload that changes something, the configuration counts.

  window=PACKETS              per token round, of all daemons together   dangerous
  personal-window=PACKETS     per token round, of one daemon             dangerous
  accelerated-window=PACKETS  of these, behind the token                 dangerous
  log-level=LEVEL             debug, info, warn or error

Dangerous ones need DangerousMonitor in the daemon's configuration. Windows should be the same at all daemons.
To set one ends the tuning of all three: those that are not given become what the configuration says, or else 160, 40 and 20.

` + reachHelp + `

Exit status: 0 if all did it, 1 if one did not, 2 for wrong use, 5 if one refused.`,
		Example: "  evensong set\n  evensong set log-level=debug --admin a\n  evensong set window=200 personal-window=50 --all",
		ValidArgsFunction: func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			var out []string
			if name, _, ok := strings.Cut(typed, "="); ok {
				if name == "log-level" {
					out = []string{"log-level=debug", "log-level=info", "log-level=warn", "log-level=error"}
				}
				return out, cobra.ShellCompDirectiveNoFileComp
			}
			for _, s := range settings {
				out = append(out, s+"=")
			}
			return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, err := f.ready(cmd)
			if err != nil {
				return err
			}
			s, err := parseSettings(args)
			if err != nil {
				return failure{err, exitUsage}
			}
			return monitor.Set(ctx, f.reach, f.out(), s, cmd.OutOrStdout())
		},
	}
	f.bind(cmd)
	f.bindOutput(cmd)
	f.bindAll(cmd, "all daemons that can be reached")
	return cmd
}

func parseSettings(args []string) (s admin.Settings, err error) {
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			return s, fmt.Errorf("%q is not NAME=VALUE", a)
		}
		var window **int
		switch name {
		case "window":
			window = &s.Window
		case "personal-window":
			window = &s.PersonalWindow
		case "accelerated-window":
			window = &s.AcceleratedWindow
		case "log-level":
			s.LogLevel = value
			continue
		default:
			return s, fmt.Errorf("there is no setting %q; choose %s", name, strings.Join(settings, ", "))
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return s, fmt.Errorf("%s=%s: want a positive number of packets", name, value)
		}
		*window = &n
	}
	return s, nil
}

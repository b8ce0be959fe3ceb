// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/admin"
	"evensong/internal/tools/monitor"
)

// newMonitorCommand is "evensong monitor": the operator's console, as subcommands for scripts and as a menu for people.
func newMonitorCommand() *cobra.Command {
	f := &adminFlags{}
	o := monitor.MenuOptions{}
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "The operator's console: partition, flow control, reload, terminate; a menu, or commands for scripts",
		Long: `The operator's console. Without a subcommand it is the menu that users of the original's monitor know; each line of a pipe is
one line of the menu. The subcommands do the same without questions.

` + reachHelp + `

Exit status of the menu: 0. Of the subcommands: 0 if all daemons did it, 1 if one did not, 2 for wrong use, 5 if one refused.`,
		Example: `  evensong monitor
  evensong monitor partition a,b/c --lease 5m
  evensong monitor heal
  evensong monitor flow --window 200 --personal-window 50
  evensong monitor terminate --admin c`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, err := f.ready(cmd)
			if err != nil {
				return err
			}
			return runMenu(ctx, f.reach, o, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f.bind(cmd)
	cmd.Flags().DurationVar(&o.Interval, "interval", monitor.DefaultInterval, "`DURATION` between two looks of status in the menu")
	status := newStatusCommand()
	cmd.AddCommand(status, monitorPartition(), monitorHeal(), monitorFlow(), monitorSessions(), monitorClose(), monitorReload(), monitorTerminate())
	return cmd
}

// runMenu is the menu, with prompts if a person is there.
func runMenu(ctx context.Context, r monitor.Reach, o monitor.MenuOptions, in io.Reader, out io.Writer) error {
	o.Prompt = isTerminal(in)
	r.All = true
	return monitor.Menu(ctx, r, o, in, out)
}

// action makes a subcommand out of what all of them have.
func action(f *adminFlags, use, short, more, example string, args cobra.PositionalArgs, run func(ctx context.Context, cmd *cobra.Command, args []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args, Example: example,
		Long: short + ".\n\n" + more + "\n\n" + reachHelp + "\n\nExit status: 0 if all daemons did it, 1 if one did not, 2 for wrong use, 5 if one refused.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, err := f.ready(cmd)
			if err != nil {
				return err
			}
			return run(ctx, cmd, args)
		},
	}
	f.bind(cmd)
	f.bindOutput(cmd)
	return cmd
}

func monitorPartition() *cobra.Command {
	f := &adminFlags{}
	var lease time.Duration
	var keep bool
	cmd := action(f, "partition COMPONENTS", "Cut daemons off from each other, for a time",
		`Daemons with commas between them are a component, components have / between them: a,b/c. Who is not named is with the others
that are not. Each daemon ignores what comes from other components, as if the network had lost it. All daemons that can be
reached are told. The partition ends after its lease, whatever happens; --keep renews it until the command ends, and heals it
then. Dangerous: daemons need DangerousMonitor in their configuration.`,
		"  evensong monitor partition a,b/c\n  evensong monitor partition a/b/c --lease 10m\n  evensong monitor partition a,b/c --keep", componentsArg,
		func(_ context.Context, cmd *cobra.Command, args []string) error {
			c, err := monitor.ParseComponents(args[0])
			if err != nil {
				return err
			}
			if lease <= 0 {
				return usage(fmt.Errorf("--lease %v: want a positive duration, such as 1m", lease))
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			return monitor.Partition(ctx, f.reach, f.out(), c, lease, keep, cmd.OutOrStdout())
		})
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return monitor.CompleteComponents(typed, f.live(cmd, false)), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	cmd.Flags().DurationVar(&lease, "lease", admin.DefaultLease, "`DURATION` after which it ends by itself")
	cmd.Flags().BoolVar(&keep, "keep", false, "renew it until this command ends")
	toldToAll(cmd)
	return cmd
}

// componentsArg wants the components of a partition.
func componentsArg(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w; a,b/c cuts c off from a and b, a/b/c each from all others", arguments(1, 1)(cmd, args))
	}
	return arguments(1, 1)(cmd, args)
}

// toldToAll adds the --all of other commands to one for which it goes without saying.
func toldToAll(cmd *cobra.Command) {
	cmd.Flags().Bool("all", false, "all daemons that can be reached are told, with or without this")
}

func monitorHeal() *cobra.Command {
	f := &adminFlags{}
	cmd := action(f, "heal", "End a partition before its time", "All daemons that can be reached are told. Dangerous, as partition is.",
		"  evensong monitor heal", arguments(0, 0), func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return monitor.Heal(ctx, f.reach, f.out(), cmd.OutOrStdout())
		})
	toldToAll(cmd)
	return cmd
}

func monitorFlow() *cobra.Command {
	f := &adminFlags{}
	var window, personal, accelerated int
	cmd := action(f, "flow", "Change flow control while daemons run",
		`What is not given stays as it is; without flags the windows in force are shown. They are not stored, and should be the same at
all daemons. Dangerous: daemons need DangerousMonitor in their configuration.`,
		"  evensong monitor flow --all\n  evensong monitor flow --window 200 --personal-window 50 --all", arguments(0, 0),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var s admin.Settings
			for _, x := range []struct {
				flag  string
				value *int
				to    **int
			}{{"window", &window, &s.Window}, {"personal-window", &personal, &s.PersonalWindow}, {"accelerated-window", &accelerated, &s.AcceleratedWindow}} {
				if !cmd.Flags().Changed(x.flag) {
					continue
				}
				if *x.value < 1 {
					return failure{fmt.Errorf("--%s %d: want a positive number of packets", x.flag, *x.value), exitUsage}
				}
				*x.to = x.value
			}
			return monitor.Set(ctx, f.reach, f.out(), s, cmd.OutOrStdout())
		})
	cmd.Flags().IntVar(&window, "window", 0, "`PACKETS` per token round, of all daemons together")
	cmd.Flags().IntVar(&personal, "personal-window", 0, "`PACKETS` per token round, of one daemon")
	cmd.Flags().IntVar(&accelerated, "accelerated-window", 0, "`PACKETS` of these behind the token")
	f.bindAll(cmd, "all daemons that can be reached")
	return cmd
}

func monitorSessions() *cobra.Command {
	f := &adminFlags{}
	return action(f, "sessions", "List the clients of a daemon: what waits for each, since when, and what it has sent", "UP is the time since the client came, MOST the most bytes that have waited.",
		"  evensong monitor sessions --admin a", arguments(0, 0), func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return monitor.Sessions(ctx, f.reach, f.out(), cmd.OutOrStdout())
		})
}

func monitorClose() *cobra.Command {
	f := &adminFlags{}
	return action(f, "close ID", "End a client's session", "\"evensong monitor sessions\" has the numbers. Dangerous: the daemon needs DangerousMonitor in its configuration.",
		"  evensong monitor close 17 --admin a", arguments(1, 1), func(ctx context.Context, cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return failure{fmt.Errorf("%q is no number of a session", args[0]), exitUsage}
			}
			return monitor.CloseSession(ctx, f.reach, f.out(), id, cmd.OutOrStdout())
		})
}

func monitorReload() *cobra.Command {
	f := &adminFlags{}
	cmd := action(f, "reload", "Have daemons read their configuration again", "SIGHUP does the same. Over TCP it is dangerous: the daemon needs DangerousMonitor in its configuration.",
		"  evensong monitor reload --all", arguments(0, 0), func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return monitor.Reload(ctx, f.reach, f.out(), cmd.OutOrStdout())
		})
	f.bindAll(cmd, "all daemons that can be reached")
	return cmd
}

func monitorTerminate() *cobra.Command {
	f := &adminFlags{}
	cmd := action(f, "terminate", "Stop daemons at once, without a good-bye",
		`The others notice it as they notice a crash, and the process ends with status 1. "evensong drain" is the friendly way. Dangerous:
daemons need DangerousMonitor in their configuration.`,
		"  evensong monitor terminate --admin c", arguments(0, 0), func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return monitor.Terminate(ctx, f.reach, f.out(), cmd.OutOrStdout())
		})
	f.bindAll(cmd, "all daemons that can be reached")
	return cmd
}

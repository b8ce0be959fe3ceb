// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/config"
	"evensong/internal/host"
)

// configFailure ends a config command whose output has already said what is wrong. A main function that knows ExitCode
// exits with it.
type configFailure struct {
	text   string
	status int
}

func (e configFailure) Error() string { return e.text }
func (e configFailure) ExitCode() int { return e.status }

// configFlags are what all config commands have in common with serve.
type configFlags struct {
	path    string
	output  string
	resolve bool
	values  *config.Values
}

// newConfigCommand is "evensong config": what concerns a configuration and needs no daemon.
func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show the configuration of a daemon",
		Long: `Check and show the configuration of a daemon, as "evensong serve" would use it: flags win over EVENSONG_*
variables, these over the file, and the file over defaults.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheckCommand(), newConfigShowCommand(), newConfigDiffCommand(), newConfigKeyCommand())
	return cmd
}

func (f *configFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.path, "config", "c", "", "`FILE` in the format of spread.conf, - for standard input (default: the first of "+fmt.Sprint(config.SearchPath)+")")
	cmd.Flags().BoolVar(&f.resolve, "resolve", false, "look up host names")
	f.bindOutput(cmd)
	f.values = config.BindFlags(cmd.Flags())
	_ = cmd.MarkFlagFilename("config", "conf")
}

func (f *configFlags) bindOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "`FORMAT`: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *configFlags) checkOutput() error {
	if f.output != "table" && f.output != "json" {
		return configFailure{fmt.Sprintf("unknown output format %q; choose table or json", f.output), 2}
	}
	return nil
}

func newConfigCheckCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Report every problem of a configuration at once",
		Long: `Report every problem of a configuration at once, each with file, line and column and what to do about it, and
show the daemons, segments and values it results in. Nothing is started and, without --resolve, no name is looked up.

Exit status: 0 if the configuration can be used (warnings do not matter), 2 for wrong use of this command, 3 if the
configuration cannot be used.`,
		Example: `  evensong config check spread.conf
  evensong config check -c /etc/spread.conf --resolve
  evensong config check spread.conf -o json | jq .problems`,
		Args:          arguments(0, 1),
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.take(args); err != nil {
				return err
			}
			return f.report(cmd, config.TextOptions{})
		},
	}
	f.bind(cmd)
	return cmd
}

func newConfigShowCommand() *cobra.Command {
	f := &configFlags{}
	opts := config.TextOptions{}
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the configuration in force and where each value came from",
		Example: `  evensong config show --origin spread.conf
  evensong config show -c spread.conf --token-timeout 300ms --origin
  EVENSONG_NAME=alpha evensong config show --all -o json`,
		Args:         arguments(0, 1),
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.take(args); err != nil {
				return err
			}
			return f.report(cmd, opts)
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&opts.Origin, "origin", false, "say where each value came from")
	cmd.Flags().BoolVar(&opts.All, "all", false, "show also what is left to the daemon's defaults")
	return cmd
}

// take takes the file that was given as an argument.
func (f *configFlags) take(args []string) error {
	if len(args) == 0 {
		return nil
	}
	if f.path != "" && f.path != args[0] {
		return configFailure{"name the file once: as argument or with -c", 2}
	}
	f.path = args[0]
	return nil
}

// report reads the configuration, writes what there is to say, and fails with status 3 if it cannot be used.
func (f *configFlags) report(cmd *cobra.Command, opts config.TextOptions) error {
	if err := f.checkOutput(); err != nil {
		return err
	}
	c, err := config.Read(f.path, f.values, os.LookupEnv, os.Hostname)
	if err == nil && f.resolve {
		c, err = resolveConfig(cmd.Context(), c)
	}
	if err == nil {
		err = host.Check(&c)
	}
	report := config.NewReport(&c, err)
	if werr := f.write(cmd.OutOrStdout(), report, opts); werr != nil {
		return werr
	}
	if !report.Valid {
		return configFailure{"the configuration cannot be used", config.ExitStatus}
	}
	return nil
}

func (f *configFlags) write(w io.Writer, r config.Report, opts config.TextOptions) error {
	if f.output == "json" {
		return r.WriteJSON(w)
	}
	return r.WriteText(w, opts)
}

// resolveTimeout bounds all look-ups of one command together.
const resolveTimeout = 10 * time.Second

func resolveConfig(ctx context.Context, c config.Config) (config.Config, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	return config.Resolve(ctx, c, net.DefaultResolver)
}

func newConfigDiffCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "diff FILE FILE",
		Short: "Say how two configurations differ, and what changes when",
		Long: `Say how two configurations differ. First in what the daemons of a cluster must agree on: daemons, their addresses and
order, the ring variant; and in the token timeout, which should be equal. Then in everything that a daemon acts on which
reads the second in place of the first: what changes at once, and what at a restart. That may differ between hosts.
Files with access rules, addresses, passwords and keys that these name are compared if they can be read here.

Exit status: 0 if they agree, 1 if they differ, 3 if one of them cannot be used.`,
		Example:      `  ssh beta cat /etc/spread.conf | evensong config diff /etc/spread.conf -`,
		Args:         arguments(2, 2),
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkOutput(); err != nil {
				return err
			}
			var read [2]config.Config
			for i, path := range args {
				c, err := config.Load(path)
				if err == nil && f.resolve {
					c, err = resolveConfig(cmd.Context(), c)
				}
				if problems, ok := errors.AsType[config.Problems](err); ok {
					return configFailure{problems.Error(), config.ExitStatus}
				}
				if err != nil {
					return configFailure{err.Error(), config.ExitStatus}
				}
				read[i] = c
			}
			d := differencesOf(args, &read[0], &read[1])
			if err := d.write(cmd.OutOrStdout(), f.output); err != nil {
				return err
			}
			switch {
			case len(d.Differences) > 0:
				return configFailure{"the configurations differ", 1}
			case len(d.AtOnce)+len(d.AtRestart) > 0:
				return configFailure{"the configurations differ, but in nothing that daemons must agree on", 1}
			}
			return nil
		},
	}
	f.bindOutput(cmd)
	cmd.Flags().BoolVar(&f.resolve, "resolve", false, "look up host names")
	return cmd
}

// differences are those of two configurations, in sentences that call the first file "here" and the second "there".
type differences struct {
	Here        string   `json:"here"`
	There       string   `json:"there"`
	Differences []string `json:"differences"` // in what daemons must agree on
	AtOnce      []string `json:"at_once"`     // what a daemon changes that reads the second file in place of the first
	AtRestart   []string `json:"at_restart"`
}

func differencesOf(files []string, here, there *config.Config) differences {
	d := differences{Here: files[0], There: files[1], Differences: []string{}, AtOnce: []string{}, AtRestart: []string{}}
	d.Differences = append(d.Differences, config.Diff(config.FactsOf(here, here.Timers.TokenTimeout), config.FactsOf(there, there.Timers.TokenTimeout))...)
	a, errHere := config.LoadAccess(here)
	b, errThere := config.LoadAccess(there)
	if errHere == nil && errThere == nil {
		here.Access, there.Access = a, b
	}
	k, errHere := config.LoadKeys(here)
	l, errThere := config.LoadKeys(there)
	if errHere == nil && errThere == nil {
		here.Keys, there.Keys = k, l
	}
	for _, c := range config.Changes(here, there, "") {
		switch {
		case c.Key == "daemons": // they are among the differences
		case c.Restart && !slices.Contains(logKeys, c.Key):
			d.AtRestart = append(d.AtRestart, c.Text)
		default:
			d.AtOnce = append(d.AtOnce, c.Text)
		}
	}
	return d
}

func (d *differences) write(w io.Writer, output string) error {
	if output == "json" {
		return writeJSON(w, d)
	}
	if len(d.Differences)+len(d.AtOnce)+len(d.AtRestart) == 0 {
		_, err := fmt.Fprintf(w, "%s and %s agree\n", d.Here, d.There)
		return err
	}
	_, err := fmt.Fprintf(w, "here: %s\nthere: %s\n", d.Here, d.There)
	for _, part := range []struct {
		title string
		lines []string
	}{{"what daemons must agree on:", d.Differences}, {"a reload changes at once:", d.AtOnce}, {"a restart changes:", d.AtRestart}} {
		if len(part.lines) > 0 && err == nil {
			_, err = fmt.Fprintln(w, part.title)
		}
		for _, line := range part.lines {
			if err == nil {
				_, err = fmt.Fprintf(w, "  %s\n", line)
			}
		}
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

// Evensong gives programs on several machines one agreed order of events. This is its only program: the daemon, and
// the tools around it. Called by the names of the original's programs it takes their flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, the same for all commands.
const (
	exitFailure = 1
	exitUsage   = 2
	exitConfig  = 3
	exitBind    = 4
)

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }

// run is the whole program.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	switch strings.TrimSuffix(filepath.Base(args[0]), ".exe") {
	case "spread":
		return runSpread(args[1:], stderr)
	case "spuser", "sptuser":
		return runSpuser(args[1:], stdin, stdout, stderr)
	}
	root := newRootCommand()
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	ctx := context.Background()
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "evensong: %s\n", text)
	}
	if code, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		return code.ExitCode()
	}
	if !cmd.SilenceUsage {
		fmt.Fprintf(stderr, "Try \"%s --help\".\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailure
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "evensong",
		Short: "One agreed order of events for programs on several machines",
		Long: `Evensong gives programs on several machines one agreed order of events: who is in the group, and what was said,
in the same order everywhere, also while machines crash and networks split and heal.

Start with "evensong dev": three daemons in one process and a conversation to watch and join.`,
		SilenceErrors: true,
		// A usage text behind every mistake hides the sentence that says what is wrong.
		SilenceUsage: false,
		Args:         cobra.NoArgs,
		RunE:         func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetUsageFunc(func(cmd *cobra.Command) error { return nil })
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		cmd.SetUsageFunc(nil)
		root.SetUsageFunc(nil)
		help(cmd, args)
	})
	root.AddCommand(newDevCommand(), newServeCommand(), newUserCommand(), newConfigCommand(), newSimCommand(), newVersionCommand())
	return root
}

// failure is an error with an exit code of its own.
type failure struct {
	error
	code int
}

func (f failure) ExitCode() int { return f.code }
func (f failure) Unwrap() error { return f.error }

// interrupts delivers SIGINT and SIGTERM; the caller stops it.
func interrupts() (<-chan os.Signal, func()) {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, terminationSignals...)
	return ch, func() { signal.Stop(ch) }
}

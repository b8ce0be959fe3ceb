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
	exitRefused = 5
)

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }

// run is the whole program.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	switch strings.TrimSuffix(filepath.Base(args[0]), ".exe") {
	case "spread":
		return runSpread(args[1:], stderr)
	case "flush_user":
		return runFlushUser(args[1:], stdin, stdout, stderr)
	case "spflooder":
		return runSpflooder(args[1:], stdout, stderr)
	case "spuser", "sptuser":
		return runSpuser(args[1:], stdin, stdout, stderr)
	case "spmonitor":
		return runSpmonitor(args[1:], stdin, stdout, stderr)
	}
	root := newRootCommand()
	started := false                                                                                           // arguments and flags were accepted, and the command itself ran
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { started = cmd.ValidateFlagGroups() == nil } // cobra asks that later
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(context.Background())
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
	if !started {
		fmt.Fprintf(stderr, "Try \"%s --help\".\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailure
}

func newRootCommand() *cobra.Command {
	v := thisVersion()
	root := &cobra.Command{
		Use:     "evensong",
		Short:   "One agreed order of events for programs on several machines",
		Version: v.Version,
		Long: `Evensong gives programs on several machines one agreed order of events: who is in the group, and what was said,
in the same order everywhere, also while machines crash and networks split and heal.

Start with "evensong dev": three daemons in one process and a conversation to watch and join.`,
		// A usage text behind every mistake hides the sentence that says what is wrong.
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagMistake)
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(newDevCommand(), newServeCommand(), newUserCommand(), newConfigCommand(), newSimCommand(), newVersionCommand())
	root.AddCommand(adminCommands()...)
	root.AddCommand(toolCommands()...)
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

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"evensong/internal/config"
)

// What a user mistyped is told in our words: what is wrong, where, and what to do. Those of the libraries speak of their own
// notions, and know no suggestion for a flag.

// knownCommand refuses words that are no subcommand, with the one that was probably meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := nearCommands(cmd, args[0])
	if _, err := os.Stat(args[0]); err == nil && len(near) == 0 && cmd.Name() == "config" {
		near = []string{"check " + args[0]} // the file where its command should stand
	}
	return fmt.Errorf("there is no command %q%s", cmd.CommandPath()+" "+args[0], didYouMean(near))
}

// nearCommands are the subcommands that a word probably stands for: the one that says so, else what begins like it or is begun by
// it, else the one that looks most like it.
func nearCommands(cmd *cobra.Command, word string) (near []string) {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		if slices.Contains(c.SuggestFor, word) {
			return []string{c.Name()}
		}
		names = append(names, c.Name())
		if len(word) > 2 && (strings.HasPrefix(c.Name(), word) || strings.HasPrefix(word, c.Name())) {
			near = append(near, c.Name())
		}
	}
	if best := config.Suggest(word, names); len(near) == 0 && best != "" {
		near = []string{best}
	}
	return near
}

// didYouMean is a hint; empty without candidates.
func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// arguments wants at least low and at most high arguments.
func arguments(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		n, hint := len(args), "usage: "+cmd.UseLine()
		name := strconv.Quote(cmd.CommandPath())
		switch {
		case n < low:
			return fmt.Errorf("%s needs %s, and has %d; %s", name, count(low, "argument"), n, hint)
		case n <= high:
			return nil
		case high == 0:
			if cmd.Name() == "members" && cmd.Parent() == cmd.Root() { // of a group, perhaps
				hint += "; \"evensong groups " + args[0] + "\" lists the members of a group"
			}
			if cmd.Flags().Lookup("admin") != nil { // the most likely reason
				hint += "; --admin chooses a daemon"
			}
			return fmt.Errorf("%s takes no arguments, and has %q; %s", name, args[0], hint)
		}
		most := count(high, "argument")
		if low < high {
			most = "at most " + most
		}
		return fmt.Errorf("%s takes %s, and has %d: %q is too many; %s", name, most, n, args[high], hint)
	}
}

// count is a number of things in words.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// flagMistake says what is wrong with a flag.
func flagMistake(cmd *cobra.Command, err error) error {
	if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
		return knownCommand(cmd, words) // the command is wrong, and the flag was meant for the right one
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		typed, word := "--"+e.GetSpecifiedName(), e.GetSpecifiedName()
		if letters := e.GetSpecifiedShortnames(); letters != "" {
			if typed, word = "-"+e.GetSpecifiedName(), ""; len(letters) > 1 {
				typed, word = fmt.Sprintf("%s (in -%s)", typed, letters), letters // a word behind one dash, perhaps
			}
		}
		return fmt.Errorf("%q has no flag %s%s", cmd.CommandPath(), typed, didYouMean(nearFlags(cmd, word)))
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		f := e.GetFlag()
		what, _ := pflag.UnquoteUsage(f)
		return fmt.Errorf("%s needs a value: --%s %s", flagName(f), f.Name, strings.ToUpper(what))
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("%s %q: %s", flagName(e.GetFlag()), e.GetValue(), wanted(e.GetFlag().Value.Type(), e.GetValue(), e.Unwrap()))
	}
	if e, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return fmt.Errorf("%q has no flag %s; a flag is --NAME or --NAME=VALUE, and -- ends the flags", cmd.CommandPath(), e.GetSpecifiedFlag())
	}
	return err
}

// flagName is a flag as it is typed, its letter first if it has one.
func flagName(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand + ", --" + f.Name
	}
	return "--" + f.Name
}

// nearFlags are the flags that a word probably stands for: what begins like it, else the one that looks most like it.
func nearFlags(cmd *cobra.Command, word string) (near []string) {
	if cmd.Flags().Lookup(word) != nil {
		return []string{"--" + word}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		names = append(names, f.Name)
		if len(word) > 1 && strings.HasPrefix(f.Name, word) {
			near = append(near, "--"+f.Name)
		}
	})
	if best := config.Suggest(word, names); len(near) == 0 && best != "" {
		near = []string{"--" + best}
	}
	return near
}

// wanted says what a flag of a type wants instead of a value.
func wanted(kind, value string, cause error) string {
	switch kind {
	case "duration":
		if _, err := strconv.ParseFloat(value, 64); err == nil {
			if _, err := time.ParseDuration(value + "s"); err == nil {
				return fmt.Sprintf("want a duration with its unit, such as %ss or %sms", value, value)
			}
		}
		return "want a duration with its unit, such as 300ms, 5s or 1m30s"
	case "int", "uint64":
		if errors.Is(cause, strconv.ErrRange) {
			return "this number is too large"
		}
		if kind == "uint64" {
			return "want a whole number that is not negative"
		}
		return "want a whole number"
	case "float64":
		return "want a number"
	case "bool":
		return "want true or false"
	}
	return cause.Error()
}

// newHelpCommand is "evensong help", which tells a mistyped command as the program itself does.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Say what a command does and which flags it has",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if about, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, c := range about.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			for _, word := range args {
				next, rest, err := about.Find([]string{word})
				if err != nil || len(rest) > 0 {
					return usage(fmt.Errorf("%w\nTry \"%s --help\"", knownCommand(about, []string{word}), about.CommandPath()))
				}
				about = next
			}
			about.InitDefaultHelpFlag()
			about.InitDefaultVersionFlag()
			return about.Help()
		},
	}
}

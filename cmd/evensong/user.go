// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"evensong/client"
	"evensong/internal/tools/user"
)

// newUserCommand is "evensong user": a person in a group.
func newUserCommand() *cobra.Command {
	var o user.Options
	var session *sessionFlags
	var flush bool
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Join groups, send messages and watch views by hand",
		Long: `Join groups, send messages and watch views by hand, on a daemon of Evensong or of the Spread toolkit.

Commands are single letters or words, one per line:

` + user.Help() + `

With --flush, where a view changes only when its members have flushed:

` + user.FlushHelp() + `

With a terminal, lines can be edited and arriving events do not disturb them. With a pipe, each line is a command or
the answer to the one before, and events are printed as plain lines.

Environment: ` + envServer + `, ` + envUser + ` and ` + envPassword + ` stand for -s, -u and -p, which win over them; ` + envCA + `,
` + envCert + ` and ` + envKey + ` stand for --ca, --cert and --key where TLS is used.

Exit status: 0 after q, the end of the input or Ctrl-C, 1 if the daemon cannot be reached or the session is lost, 2 for wrong
use and, in a pipe, for commands that could not be obeyed, 5 if the daemon refuses the session or, in a pipe, a request. What it
refuses in a pipe goes to standard error.`,
		Example: `  evensong user                        the daemon on this machine, as "user"
  evensong user -u alice -s 4803@db1   another machine, as "alice"
  evensong user -r                     under a name that the daemon invents
  printf 's chat\nhello\n' | evensong user -r
  printf 'd\nj chat\nr\n' | evensong user -r     join, and wait for the first view`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			session.read(cmd)
			ctx, stop := interruptible(cmd)
			defer stop()
			if flush {
				return unlessStopped(ctx, user.FlushMain(ctx, o, true, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()))
			}
			return unlessStopped(ctx, user.Main(ctx, o, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
	cmd.Flags().BoolVar(&flush, "flush", false, "view synchrony: a view changes only when its members have flushed")
	session = bindSession(cmd, &o, user.DefaultName)
	return cmd
}

// spuserUsage is the help of the program under its other names.
const spuserUsage = `usage: spuser [-u name] [-s address] [-r] [-n login -p password]
  -u name      private name, 1 to 10 characters, longer in the own dialect (user)
  -s address   daemon: port (this machine), port@host, host:port or unix:/path (4803);
               evensong:// in front of these chooses Evensong's own dialect,
               evensongs:// that inside of TLS
  -r           let the daemon invent a private name
  -n login     name for daemons that ask for a password
  -p password  password for them
` + tlsEnvUsage

// runSpuser is the program when it is called as spuser or sptuser: the flags of the original's program, which are
// single letters behind one dash, each with its value in the next argument. args are without the program's name. The
// result is the exit status.
func runSpuser(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o := user.Options{Address: client.DefaultAddress, Name: user.DefaultName, Timeout: user.DefaultTimeout, Named: true, TLS: tlsFromEnv()}
	if help, err := parseSpuser(args, &o); err != nil {
		fmt.Fprintf(stderr, "spuser: %v\n%s", err, spuserUsage)
		return 2
	} else if help {
		io.WriteString(stdout, spuserUsage+"commands:\n"+user.Help()+"\n")
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), terminationSignals...)
	defer stop()
	if err := unlessStopped(ctx, user.Main(ctx, o, stdin, stdout, stderr)); err != nil {
		fmt.Fprintf(stderr, "spuser: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nspuser: "))
		if exit, ok := errors.AsType[*user.ExitError](err); ok {
			return exit.Code
		}
		return 1
	}
	return 0
}

const flushUserUsage = `usage: flush_user [-u name] [-s address]
  -u name      private name, 1 to 10 characters, longer in the own dialect (user)
  -s address   daemon: port (this machine), port@host, host:port or unix:/path (4803);
               evensong:// in front of these chooses Evensong's own dialect,
               evensongs:// that inside of TLS
` + tlsEnvUsage

// runFlushUser is the program when it is called as flush_user. The result is the exit status.
func runFlushUser(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o := user.Options{Address: client.DefaultAddress, Name: user.DefaultName, Timeout: user.DefaultTimeout, Named: true, TLS: tlsFromEnv()}
	if help, err := parseSpuser(args, &o); err != nil {
		fmt.Fprintf(stderr, "flush_user: %v\n%s", err, flushUserUsage)
		return exitUsage
	} else if help {
		io.WriteString(stdout, flushUserUsage+"commands:\n"+user.FlushHelp()+"\n")
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), terminationSignals...)
	defer stop()
	if err := unlessStopped(ctx, user.FlushMain(ctx, o, false, stdin, stdout, stderr)); err != nil {
		fmt.Fprintf(stderr, "flush_user: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nflush_user: "))
		if exit, ok := errors.AsType[*user.ExitError](err); ok {
			return exit.Code
		}
		return exitFailure
	}
	return 0
}

// parseSpuser reads the original's flags into o.
func parseSpuser(args []string, o *user.Options) (help bool, err error) {
	values := map[string]*string{"-u": &o.Name, "-s": &o.Address, "-n": &o.Login, "-p": &o.Password}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch value := values[arg]; {
		case arg == "-r":
			o.Random = true
		case arg == "-h", arg == "-help", arg == "--help":
			return true, nil
		case value == nil:
			return false, fmt.Errorf("unknown argument %q", arg)
		case i+1 == len(args):
			return false, fmt.Errorf("%s needs a value", arg)
		default:
			i++
			*value = args[i]
		}
	}
	if o.Password != "" && o.Login == "" {
		return false, errors.New("-p needs -n")
	}
	return false, nil
}

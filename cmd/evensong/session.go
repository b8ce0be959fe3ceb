// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"evensong/client"
	"evensong/internal/tools/user"
)

// Environment variables of the commands that open a session; a flag wins over them.
const (
	envServer   = "EVENSONG_SERVER"
	envUser     = "EVENSONG_USER"
	envPassword = "EVENSONG_PASSWORD"
	envCA       = "EVENSONG_CA"
	envCert     = "EVENSONG_CERT"
	envKey      = "EVENSONG_KEY"
)

// sessionHelp is what the help of these commands says about them.
const sessionHelp = `With evensong:// in front of its address the daemon is spoken to in Evensong's own dialect: longer names, larger messages.
With evensongs:// it is that dialect inside of TLS.

Environment: ` + envServer + `, ` + envUser + ` and ` + envPassword + ` stand for -s, -u and -p, which win over them; ` + envCA + `,
` + envCert + ` and ` + envKey + ` stand for --ca, --cert and --key where TLS is used.

Exit status: 0 if all went well, 1 if the daemon cannot be reached or the session is lost, 2 for wrong use, 5 if the
daemon refuses the session or a request.`

// addressHelp and nameHelp are what -s and -u take, in both dialects.
const (
	addressHelp = "port (this machine), port@host, host:port or unix:/path; evensong:// in front of these chooses Evensong's own dialect, evensongs:// that inside of TLS"
	nameHelp    = "1 to 10 characters from $ to ~; at an evensong:// address UTF-8 without #, 253 bytes less the daemon's name at most"
)

// sessionFlags are the flags of commands that open a session with a daemon.
type sessionFlags struct {
	o *user.Options
}

// bindSession adds the flags to a command. name is the private name if none is given; empty lets the daemon invent one.
func bindSession(cmd *cobra.Command, o *user.Options, name string) *sessionFlags {
	f := cmd.Flags()
	if f.Lookup("server") == nil { // a command may take several
		f.StringVarP(&o.Address, "server", "s", client.DefaultAddress, "the daemon: `ADDRESS` is "+addressHelp)
		_ = cmd.RegisterFlagCompletionFunc("server", cobra.NoFileCompletions)
	}
	text := "private `NAME`, unique at the daemon: " + nameHelp
	if name == "" {
		text += " (default: the daemon invents one)"
	}
	f.StringVarP(&o.Name, "user", "u", name, text)
	if o.Named = name != ""; o.Named {
		f.BoolVarP(&o.Random, "random", "r", false, "let the daemon invent a private name")
	}
	f.StringVarP(&o.Login, "login", "n", "", "`NAME` for daemons that ask for a password")
	f.StringVarP(&o.Password, "password", "p", "", "`PASSWORD` for them; others on this machine may see it, "+envPassword+" they do not")
	f.BoolVar(&o.TLS.Use, "tls", false, "use TLS at an address without evensongs://, too")
	f.StringVar(&o.CA, "ca", "", "`FILE` with the authorities to trust with TLS, in PEM (default: those of the system)")
	f.StringVar(&o.Cert, "cert", "", "`FILE` with a certificate to show to daemons that ask for one, in PEM")
	f.StringVar(&o.Key, "key", "", "`FILE` with the key of that certificate")
	for _, name := range []string{"user", "login", "password"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	if f.Lookup("timeout") == nil { // a command may need the word for more than connecting
		f.DurationVar(&o.Timeout, "timeout", user.DefaultTimeout, "how long connecting may take: `DURATION`")
		_ = cmd.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
	}
	return &sessionFlags{o}
}

// read takes the environment for what no flag has said. It is called when the command runs.
func (s *sessionFlags) read(cmd *cobra.Command) {
	fromEnv(cmd, "server", envServer, &s.o.Address)
	fromEnv(cmd, "user", envUser, &s.o.Name)
	fromEnv(cmd, "password", envPassword, &s.o.Password)
	s.o.Implied = true
	for _, name := range []string{"ca", "cert", "key"} {
		s.o.Implied = s.o.Implied && !cmd.Flags().Changed(name)
	}
	fromEnv(cmd, "ca", envCA, &s.o.CA)
	fromEnv(cmd, "cert", envCert, &s.o.Cert)
	fromEnv(cmd, "key", envKey, &s.o.Key)
}

// tlsFromEnv is what the programs under the original's names know of TLS: they have no flags for it.
func tlsFromEnv() user.TLS {
	return user.TLS{CA: os.Getenv(envCA), Cert: os.Getenv(envCert), Key: os.Getenv(envKey), Implied: true}
}

// tlsEnvUsage is what their help says about it.
const tlsEnvUsage = `Environment, for TLS: ` + envCA + ` names a file with the authorities to trust, ` + envCert + ` and
` + envKey + ` one with a certificate to show and one with its key.
`

// fromEnv takes an environment variable for a flag that was not given.
func fromEnv(cmd *cobra.Command, flag, variable string, value *string) {
	if v, ok := os.LookupEnv(variable); ok && !cmd.Flags().Changed(flag) {
		*value = v
	}
}

// interruptible is the command's context, which also ends with SIGINT or SIGTERM. The caller calls stop; from the first
// signal on, a second one has its usual effect and ends the program at once.
func interruptible(cmd *cobra.Command) (ctx context.Context, stop func()) {
	ctx = cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop = signal.NotifyContext(ctx, terminationSignals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// unlessStopped is err, or nil if that only says that ctx has ended: to end a conversation, Ctrl-C is as good as its last word.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// isTerminal reports whether a person is likely to read what is written to w, or to type what is read from it.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colorful reports whether w gets colors: it is a terminal, and nobody has said that they are not wanted.
func colorful(w io.Writer) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

// bindService adds --service to a command; parse reads it when the command runs.
func bindService(cmd *cobra.Command, initial string) (parse func() (client.Service, error)) {
	name := cmd.Flags().String("service", initial, "delivery `SERVICE`: unreliable, reliable, fifo, causal, agreed or safe")
	_ = cmd.RegisterFlagCompletionFunc("service", cobra.FixedCompletions(user.ServiceNames, cobra.ShellCompDirectiveNoFileComp))
	return func() (client.Service, error) {
		service, err := user.ParseService(*name)
		if err != nil {
			return 0, usage(err)
		}
		return service, nil
	}
}

// usage is an error of somebody who used the program wrongly.
func usage(err error) error { return failure{err, exitUsage} }

// groupArgs wants n or more group names that a daemon can take, so that a mistake is told before a session is opened.
func groupArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return fmt.Errorf("which group? usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// toolCommands are the commands of people and scripts that talk, and of those that measure.
func toolCommands() []*cobra.Command {
	return []*cobra.Command{newPubCommand(), newSubCommand(), newJoinCommand(), newFloodCommand(), newBenchCommand()}
}

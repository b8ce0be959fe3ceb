// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"evensong/client"
)

// Options is what flags, environment and defaults say about a session.
type Options struct {
	// Address is the daemon's, as for client.Dial. Empty means the daemon on this machine.
	Address string
	// Name is the private name; empty, or Random, lets the daemon invent one.
	Name   string
	Random bool
	// Named says that the program gives a name by itself, and takes -r not to; others invent one where there is no -u.
	Named bool
	// Login and Password are for daemons that ask for method PWORD; empty Login means method NULL.
	Login, Password string
	TLS
	// Timeout bounds connecting. Zero means DefaultTimeout.
	Timeout time.Duration
}

// Defaults of the program and of the original's.
const (
	DefaultName    = "user"
	DefaultTimeout = 5 * time.Second
)

// Dial opens the session that the options describe; more are those that only a program has a reason for.
func Dial(ctx context.Context, o Options, more ...client.Option) (*client.Conn, error) {
	if o.Random {
		o.Name = ""
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	opts := []client.Option{client.WithName(o.Name), client.WithConnectTimeout(o.Timeout)}
	if o.Login != "" {
		opts = append(opts, client.WithAuth(client.AuthPassword(o.Login, o.Password)))
	}
	secure, err := o.TLS.options(o.Address)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, o.Address, append(append(opts, secure...), more...)...)
}

// dialWatching is Dial for those who see all events: a session in Evensong's own dialect is told whether its daemon is in a primary
// configuration, if the daemon can.
func dialWatching(ctx context.Context, o Options) (*client.Conn, error) {
	conn, err := Dial(ctx, o, client.WithPrimary())
	if e, ok := errors.AsType[*client.Error](err); ok && e.Reason == "capability" {
		return Dial(ctx, o) // a daemon of an earlier version
	}
	return conn, err
}

// Main connects and runs the program. To errOut go refusals of the daemon while it runs, as Run says; the caller prints what
// Main returns, an *ExitError unless all went well.
func Main(ctx context.Context, o Options, in io.Reader, out, errOut io.Writer) error {
	conn, err := dialWatching(ctx, o)
	if err != nil {
		return Explain(err, o)
	}
	address := o.Address
	if address == "" {
		address = client.DefaultAddress
	}
	fmt.Fprintf(out, "connected to %s as %s\n", address, conn.PrivateGroup())
	if err := Run(ctx, conn, in, out, errOut); err != nil {
		return Explain(err, o)
	}
	return nil
}

// Exit codes of the evensong program.
const (
	exitFailure = 1
	exitUsage   = 2
	exitRefused = 5
)

// ExitError is an error with the program's exit code and, where there is one, what the user can do next.
type ExitError struct {
	Code int
	Hint string // a sentence without a full stop; may be empty
	Err  error
}

// Error is the cause, with the hint on a line of its own.
func (e *ExitError) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n" + e.Hint
}

// Unwrap is the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode is 1 for a failure, 2 for wrong usage, 5 for a refusal by the daemon.
func (e *ExitError) ExitCode() int { return e.Code }

// advice is what errors of the Go library tell programs to write. Who typed a command is told by the hint what to type instead.
var advice = strings.NewReplacer(
	"; give the authority's certificate as RootCAs of WithTLS", "",
	", or set ServerName of WithTLS", "",
	"; give it as Certificates of WithTLS", "",
	": see WithTLS", "",
)

// forCommands is an error of the library without its advice for programs.
type forCommands struct{ error }

// Error implements error.
func (e forCommands) Error() string { return advice.Replace(e.error.Error()) }

// Unwrap is the error with its advice.
func (e forCommands) Unwrap() error { return e.error }

// Explain adds exit code and next step to an error of a session that o described, and leaves out what only the source of a program
// can do. An *ExitError is returned as it is.
func Explain(err error, o Options) error {
	if e, ok := errors.AsType[*ExitError](err); ok {
		return e
	}
	e := &ExitError{Code: exitFailure, Err: forCommands{err}}
	own := IsOwn(o.Address)
	another := "choose another name with -u, or give none: then the daemon invents one"
	if o.Named {
		another = "choose another name with -u, or -r for one from the daemon"
	}
	code, _ := errors.AsType[client.Code](err)
	switch code {
	case client.ErrIllegalAddress:
		e.Code = exitUsage
		e.Hint = "give the daemon as port (this machine), port@host, host:port or unix:/path, perhaps with evensong:// or, for TLS over TCP, evensongs:// in front; the host must have an address"
	case client.ErrIllegalName:
		e.Code = exitUsage
		e.Hint = fmt.Sprintf("a name has 1 to %d characters from '$' to '~' (more at an evensong:// address); %s", client.MaxPrivateName, another)
		if own {
			e.Hint = "a name is UTF-8 without # and control characters, without ! at its beginning, and with the daemon's name at most 253 bytes long; " + another
		}
	case client.ErrIllegalGroup:
		e.Code = exitUsage
		e.Hint = "a group has 1 to 31 characters from '$' to '~'; a private group looks like #name#daemon"
		if own {
			e.Hint = "a group has 1 to 255 bytes of UTF-8 without # and control characters; a private group looks like #name#daemon"
		}
	case client.ErrCouldNotConnect:
		e.Hint = "start a daemon there, or name another one with -s port@host; \"evensong dev\" runs some to try"
	case client.ErrNotUnique:
		e.Code = exitRefused
		e.Hint = another + "; a name is free again a moment after its session ended"
	case client.ErrQuota:
		e.Code = exitRefused
		e.Hint = "end other sessions of this daemon, or connect to another daemon with -s port@host"
	case client.ErrAuth:
		e.Code = exitRefused
		e.Hint = "this daemon wants something else from you: see which methods it allows, and -n and -p for name and password"
		said, _ := errors.AsType[*client.Error](err)
		switch {
		case o.Login != "" && o.Password == "":
			e.Hint = "a password is missing: give it with -p, or in EVENSONG_PASSWORD, where others on this machine do not see it"
		case o.Login != "":
			e.Hint = "check the name and the password given with -n and -p"
		case said != nil && strings.Contains(said.Detail, "PWORD"):
			e.Hint = "give the name with -n, and the password with -p or in EVENSONG_PASSWORD"
		}
		if h := tlsHint(err, &o.TLS); h != "" {
			e.Hint = h
		}
	case client.ErrVersion, client.ErrNoName:
		e.Code = exitRefused
	case client.ErrConnectionClosed:
		ended, _ := errors.AsType[*client.Error](err)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			e.Hint = "something listens there and does not speak; is it a daemon?"
		case isWithoutTLS(err):
			e.Hint = "without TLS the address is HOST:PORT or, in Evensong's own dialect, evensong://HOST:PORT; leave out --tls, --ca, --cert and --key, too"
		case ended != nil && ended.Reason != "":
			e.Hint = "the daemon ended the session; start again to connect anew"
		default: // a daemon that was killed leaves no word in its log
			e.Hint = "the connection was lost; the daemon may have ended: see \"evensong status\", and if it runs, its log says why"
		}
	}
	return e
}

// Refused is an error for what a daemon refused, with the exit code for that.
func Refused(err error) error { return &ExitError{Code: exitRefused, Err: err} }

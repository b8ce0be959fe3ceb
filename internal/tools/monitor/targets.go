// SPDX-License-Identifier: Apache-2.0

// Package monitor is how an operator looks at daemons and steers them: the commands status, members, groups, set, drain
// and monitor, and the menu that those know who have used the original's monitor. It speaks to the admin plane of each
// daemon; nothing is sent into the ring.
package monitor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"evensong/internal/admin"
)

// Exit codes that differ from failure.
const (
	exitUsage   = 2
	exitRefused = 5
)

// ExitError is an error with the exit status that belongs to it.
type ExitError struct {
	Err  error
	Code int
}

func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap is the error itself.
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode is the exit status.
func (e *ExitError) ExitCode() int { return e.Code }

func usage(format string, a ...any) error {
	return &ExitError{fmt.Errorf(format, a...), exitUsage}
}

// Reach says which daemons to speak to. The zero value is the daemons whose admin sockets are in the usual place.
type Reach struct {
	// Admin are paths of sockets, HOST:PORT, or names of daemons whose sockets are in Dir. Empty: all sockets in Dir.
	Admin []string
	// Dir is where sockets are looked for. Empty: where daemons put them.
	Dir string
	// TokenFile has the token that is shown to daemons on TCP.
	TokenFile string
	// TLS has daemons on TCP asked in TLS; CAFile has the certificates to trust, instead of the system's.
	TLS    bool
	CAFile string
	// All adds the daemons whose admin addresses the ones asked know.
	All bool
	// Timeout is how long one request may take. Zero means five seconds.
	Timeout time.Duration
}

// Target is one daemon to speak to.
type Target struct {
	Name   string // of the daemon, as far as it is known without asking
	At     string // path or address of its admin plane
	Client *admin.Client
}

func (r *Reach) dir() string { return cmp.Or(r.Dir, admin.Dir("")) }

func (r *Reach) timeout() time.Duration { return cmp.Or(r.Timeout, 5*time.Second) }

// limit is a context for one request.
func (r *Reach) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.timeout())
}

// options are what clients of daemons on TCP need.
func (r *Reach) options() (o admin.DialOptions, err error) {
	if r.TokenFile != "" {
		if o.Token, err = admin.FirstToken(r.TokenFile); err != nil {
			return o, fmt.Errorf("token file: %w", err)
		}
	}
	if r.TLS || r.CAFile != "" {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	if r.CAFile != "" {
		pem, err := os.ReadFile(r.CAFile)
		if err != nil {
			return o, err
		}
		o.TLS.RootCAs = x509.NewCertPool()
		if !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return o, fmt.Errorf("%s has no certificate in PEM", r.CAFile)
		}
	}
	return o, nil
}

// Targets are the daemons to speak to, none twice, at least one.
func (r *Reach) Targets(ctx context.Context) ([]Target, error) {
	o, err := r.options()
	if err != nil {
		return nil, err
	}
	sockets := admin.Sockets(r.dir())
	var out []Target
	for _, a := range r.Admin {
		switch {
		case strings.ContainsAny(a, `/\`) || strings.HasPrefix(a, "unix:"), strings.Contains(a, ":") && !isName(sockets, a):
			out = append(out, Target{At: a, Client: admin.NewClient(a, o)})
		default:
			var same []Target
			for _, s := range sockets {
				if s.Name == a {
					same = append(same, Target{s.Name, s.Path, admin.NewClient(s.Path, o)})
				}
			}
			// Daemons of different clusters may share a name; what is meant for one of them must not reach another.
			if living := alive(ctx, same); len(living) > 1 {
				return nil, usage("%q is the name of several daemons here; give the socket of one: --admin %s", a, strings.Join(places(living), ", or --admin "))
			} else if len(living) == 1 {
				same = living
			}
			out = append(out, same...)
			switch {
			case len(sockets) == 0:
				return nil, usage("%q is no daemon that is found here, no path of a socket and no HOST:PORT: %w", a, admin.Missing(r.Dir))
			case len(same) == 0:
				return nil, usage("%q is no daemon with an admin socket in %s (%s), no path of a socket and no HOST:PORT", a, r.dir(), found(sockets))
			}
		}
	}
	if len(r.Admin) == 0 {
		for _, s := range sockets {
			out = append(out, Target{s.Name, s.Path, admin.NewClient(s.Path, o)})
		}
		if out = alive(ctx, out); len(out) == 0 {
			return nil, admin.Missing(r.Dir)
		}
	}
	if r.All {
		return r.widen(ctx, out, o), nil
	}
	return out, nil
}

// places are where targets are reached.
func places(ts []Target) (list []string) {
	for _, t := range ts {
		list = append(list, t.At)
	}
	return list
}

// ofOneCluster are the targets of a command that is about a cluster as a whole. Daemons of several clusters are an error: a
// partition of one must not cut another that has daemons of the same names.
func (r *Reach) ofOneCluster(ctx context.Context) ([]Target, error) {
	ts, err := r.Targets(ctx)
	if err != nil {
		return nil, err
	}
	places := map[string]string{}
	for _, t := range ts {
		c, cancel := r.limit(ctx)
		s, err := t.Client.Status(c)
		cancel()
		if err == nil {
			places[s.Cluster] = t.At
		}
	}
	if len(places) < 2 {
		return ts, nil
	}
	var list []string
	for cluster, at := range places {
		list = append(list, fmt.Sprintf("--admin %s for cluster %q", at, cluster))
	}
	slices.Sort(list)
	return nil, usage("there are daemons of %d clusters here; choose one: %s", len(list), strings.Join(list, ", "))
}

func isName(sockets []admin.Socket, name string) bool {
	return slices.ContainsFunc(sockets, func(s admin.Socket) bool { return s.Name == name })
}

func found(sockets []admin.Socket) string {
	if len(sockets) == 0 {
		return "there are none"
	}
	var names []string
	for _, s := range sockets {
		names = append(names, s.Name)
	}
	return "there are " + strings.Join(slices.Compact(names), ", ")
}

// alive leaves out the sockets that daemons left behind when they crashed. One alone stays, so that its error says what is wrong.
func alive(ctx context.Context, ts []Target) []Target {
	if len(ts) < 2 {
		return ts
	}
	return answering(ctx, ts)
}

// answering are the targets where somebody is, in their order. All are asked at once, and none for longer than a second.
func answering(ctx context.Context, ts []Target) []Target {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	there := make([]bool, len(ts))
	var wg sync.WaitGroup
	for i, t := range ts {
		wg.Go(func() {
			_, err := t.Client.Members(ctx)
			u, unreachable := errors.AsType[*admin.UnreachableError](err)
			there[i] = !unreachable || !u.Refused()
		})
	}
	wg.Wait()
	var out []Target
	for i, t := range ts {
		if there[i] {
			out = append(out, t)
		}
	}
	return out
}

// Choices are what --admin takes for the daemons that have a socket in dir and are there: a name, or the path of the socket where
// daemons share a name.
func Choices(ctx context.Context, dir string) []string {
	var ts []Target
	for _, s := range admin.Sockets(dir) {
		ts = append(ts, Target{s.Name, s.Path, admin.NewClient(s.Path, admin.DialOptions{})})
	}
	ts = answering(ctx, ts)
	named := map[string]int{}
	for _, t := range ts {
		named[t.Name]++
	}
	var out []string
	for _, t := range ts {
		if named[t.Name] > 1 {
			out = append(out, t.At)
		} else {
			out = append(out, t.Name)
		}
		t.Client.Close()
	}
	return out
}

// widen adds the daemons that those asked know how to reach.
func (r *Reach) widen(ctx context.Context, ts []Target, o admin.DialOptions) []Target {
	have := map[string]bool{}
	var others []admin.Member
	for i := range ts {
		c, cancel := r.limit(ctx)
		m, err := ts[i].Client.Members(c)
		cancel()
		if err != nil {
			continue
		}
		for _, x := range slices.Concat(m.Members, m.Missing) {
			if x.Me {
				ts[i].Name = x.Name
				have[x.Name] = true
			}
			others = append(others, x)
		}
	}
	sockets := admin.Sockets(r.dir())
	for _, x := range others {
		if have[x.Name] {
			continue
		}
		at := x.Admin
		for _, s := range sockets {
			if s.Name == x.Name && strings.HasSuffix(x.Address, fmt.Sprintf(":%d", s.Port)) {
				at = s.Path
			}
		}
		if at != "" {
			have[x.Name] = true
			ts = append(ts, Target{x.Name, at, admin.NewClient(at, o)})
		}
	}
	return ts
}

// One is the one daemon to speak to. Several are fine when they are of one cluster and only something is read that all of
// them know.
func (r *Reach) One(ctx context.Context, reading bool) (Target, error) {
	ts, err := r.Targets(ctx)
	if err != nil || len(ts) == 1 {
		if err != nil {
			return Target{}, err
		}
		return ts[0], nil
	}
	cluster, same := "", true
	for i, t := range ts {
		c, cancel := r.limit(ctx)
		s, err := t.Client.Status(c)
		cancel()
		if err != nil {
			same = false
			continue
		}
		same = same && (i == 0 || s.Cluster == cluster)
		cluster = s.Cluster
	}
	if reading && same {
		return ts[0], nil
	}
	var list []string
	for _, t := range ts {
		list = append(list, cmp.Or(t.Name, "?")+" at "+t.At)
	}
	return Target{}, usage("there are several daemons here (%s); choose one with --admin NAME, or its socket if names are the same", strings.Join(list, ", "))
}

// exit gives an error of the admin plane the exit status that belongs to it.
func exit(err error) error {
	if e, ok := errors.AsType[*admin.Error](err); ok {
		switch {
		case e.Refused():
			return &ExitError{err, exitRefused}
		case e.Code == admin.CodeInvalid:
			return &ExitError{err, exitUsage}
		}
	}
	return err
}

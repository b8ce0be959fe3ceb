// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"evensong/internal/admin"
	"evensong/internal/tools/amount"
)

// ParseComponents reads a partition as people write it: components with "/" between them, daemons with commas: a,b/c. They
// are numbered from 1; a daemon that is not named is in component 0, alone with the others that are not.
func ParseComponents(text string) (map[string]int, error) {
	out := map[string]int{}
	for i, part := range strings.Split(text, "/") {
		for name := range strings.SplitSeq(part, ",") {
			name = strings.TrimSpace(name)
			switch {
			case name == "":
				return nil, usage("partition %q: want daemons with commas between them and components with / between them, such as a,b/c", text)
			case out[name] != 0:
				return nil, usage("partition %q: daemon %s is in it twice", text, name)
			}
			out[name] = i + 1
		}
	}
	return out, nil
}

// Outcome is what a command did at one daemon.
type Outcome struct {
	Daemon string `json:"daemon"`
	Result string `json:"result"` // done, refused, failed
	Text   string `json:"text"`

	err error
}

// forEach has f do something at each daemon, one after the other, prints the outcomes, and fails if one did.
func forEach(ctx context.Context, r Reach, o Output, ts []Target, w io.Writer, f func(context.Context, *admin.Client) (string, error)) error {
	var outcomes []Outcome
	for _, t := range ts {
		outcomes = append(outcomes, at(ctx, r, t, f))
	}
	return o.outcomes(w, outcomes)
}

// at has f do something at one daemon.
func at(ctx context.Context, r Reach, t Target, f func(context.Context, *admin.Client) (string, error)) Outcome {
	c, cancel := r.limit(ctx)
	defer cancel()
	out := Outcome{Daemon: nameOr(t.Name, t.Client.Address()), Result: "done"}
	var err error
	out.Text, err = f(c, t.Client)
	if err != nil {
		out.err, out.Result, out.Text = err, "failed", err.Error()
		if e, ok := errors.AsType[*admin.Error](err); ok && e.Refused() {
			out.Result = "refused"
		}
	}
	return out
}

func (o Output) outcomes(w io.Writer, all []Outcome) error {
	var errs []error
	refused := false
	for _, x := range all {
		if x.err != nil {
			errs = append(errs, fmt.Errorf("daemon %s: %w", x.Daemon, x.err))
			refused = refused || x.Result == "refused"
		}
	}
	if o.JSON {
		if err := o.json(w, all, false); err != nil {
			return err
		}
	} else {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, x := range all {
			if x.err == nil { // the others are in the error
				fmt.Fprintf(tw, "%s\t%s\n", x.Daemon, x.Text)
			}
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	switch err := errors.Join(errs...); {
	case err == nil:
		return nil
	case refused:
		return &ExitError{err, exitRefused}
	default:
		return exit(err)
	}
}

// several are the targets of a command that changes daemons: all that were named, one that is alone, or all of them if that
// was asked for. To change several by accident would be bad.
func (r *Reach) several(ctx context.Context) ([]Target, error) {
	if len(r.Admin) == 0 && !r.All {
		t, err := r.One(ctx, false)
		if e, ok := errors.AsType[*ExitError](err); ok && e.Code == exitUsage {
			return nil, usage("%w, or all of them with --all", e.Err)
		}
		if err != nil {
			return nil, err
		}
		return []Target{t}, nil
	}
	if r.All {
		return r.ofOneCluster(ctx) // another cluster may have daemons of the same names and ports
	}
	return r.Targets(ctx)
}

// Partition tells all daemons that are reached which component each is in. With keep it renews the lease until ctx ends, and
// heals then; otherwise the partition ends with its lease.
func Partition(ctx context.Context, r Reach, o Output, components map[string]int, lease time.Duration, keep bool, w io.Writer) error {
	r.All = true // a cut that only one side knows is another one
	ts, err := r.ofOneCluster(ctx)
	if err != nil {
		return err
	}
	var names []string
	for i := range ts {
		c, cancel := r.limit(ctx)
		m, err := ts[i].Client.Members(c)
		cancel()
		if err != nil {
			continue
		}
		for _, x := range slices.Concat(m.Members, m.Missing) {
			names = append(names, x.Name)
			if x.Me {
				ts[i].Name = x.Name
			}
		}
	}
	for name := range components {
		if len(names) > 0 && !slices.Contains(names, name) {
			slices.Sort(names)
			return usage("there is no daemon %q; there are %s", name, strings.Join(slices.Compact(names), ", "))
		}
	}
	cut := func(c context.Context, d *admin.Client) (string, error) {
		done, err := d.Partition(c, admin.Partition{Components: components, Lease: admin.Duration(lease)})
		return done.Text, err
	}
	if err := forEach(ctx, r, o, ts, w, cut); err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !slices.ContainsFunc(ts, func(t Target) bool { return t.Name == name }) && !o.JSON {
			fmt.Fprintf(w, "%s  was not told: no admin address of it is known; give it with --admin\n", name)
		}
	}
	if !keep {
		return nil
	}
	if lease == 0 {
		lease = admin.DefaultLease
	}
	if !o.JSON {
		fmt.Fprintln(w, "renewed until this command ends; then the partition is healed")
	}
	tick := time.NewTicker(lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return heal(context.WithoutCancel(ctx), r, o, ts, w)
		case <-tick.C:
			for _, t := range ts {
				if x := at(ctx, r, t, cut); x.err != nil && ctx.Err() == nil && !o.JSON {
					fmt.Fprintf(w, "%s  %s\n", x.Daemon, x.Text)
				}
			}
		}
	}
}

// Heal ends a partition at all daemons that are reached.
func Heal(ctx context.Context, r Reach, o Output, w io.Writer) error {
	r.All = true
	ts, err := r.ofOneCluster(ctx)
	if err != nil {
		return err
	}
	return heal(ctx, r, o, ts, w)
}

func heal(ctx context.Context, r Reach, o Output, ts []Target, w io.Writer) error {
	return forEach(ctx, r, o, ts, w, func(c context.Context, d *admin.Client) (string, error) {
		done, err := d.Heal(c)
		return done.Text, err
	})
}

// Set changes settings of daemons, or shows them if nothing is to be changed.
func Set(ctx context.Context, r Reach, o Output, s admin.Settings, w io.Writer) error {
	ts, err := r.several(ctx)
	if err != nil {
		return err
	}
	return forEach(ctx, r, o, ts, w, func(c context.Context, d *admin.Client) (string, error) {
		now, err := d.Set(c, s)
		return settingsText(&now), err
	})
}

// settingsText is settings in force.
func settingsText(s *admin.Settings) string {
	text := ""
	if s.Window != nil && s.PersonalWindow != nil && s.AcceleratedWindow != nil {
		text = fmt.Sprintf("window %d, personal window %d, accelerated window %d", *s.Window, *s.PersonalWindow, *s.AcceleratedWindow)
	}
	if s.LogLevel != "" {
		text += ", log level " + s.LogLevel
	}
	return strings.TrimPrefix(text, ", ")
}

// Reload has daemons read their configuration again.
func Reload(ctx context.Context, r Reach, o Output, w io.Writer) error {
	ts, err := r.several(ctx)
	if err != nil {
		return err
	}
	return forEach(ctx, r, o, ts, w, func(c context.Context, d *admin.Client) (string, error) {
		x, err := d.Reload(c)
		return reloadText(&x), err
	})
}

func reloadText(x *admin.Reloaded) string {
	text := "read again, nothing changed"
	if len(x.Changed) > 0 {
		text = "read again: " + strings.Join(x.Changed, "; ")
	}
	if len(x.Ignored) > 0 {
		text += "; only after a restart: " + strings.Join(x.Ignored, "; ")
	}
	return text
}

// Terminate stops daemons at once.
func Terminate(ctx context.Context, r Reach, o Output, w io.Writer) error {
	ts, err := r.several(ctx)
	if err != nil {
		return err
	}
	return forEach(ctx, r, o, ts, w, func(c context.Context, d *admin.Client) (string, error) {
		done, err := d.Terminate(c)
		return done.Text, err
	})
}

// CloseSession ends one client's session.
func CloseSession(ctx context.Context, r Reach, o Output, id uint64, w io.Writer) error {
	t, err := r.One(ctx, false)
	if err != nil {
		return err
	}
	return forEach(ctx, r, o, []Target{t}, w, func(c context.Context, d *admin.Client) (string, error) {
		done, err := d.CloseSession(c, id)
		return done.Text, err
	})
}

// drainLook is how often a daemon that is about to end, or cannot be waited for, is looked at.
const drainLook = 200 * time.Millisecond

// DrainOptions say how to drain.
type DrainOptions struct {
	Deadline time.Duration // how long clients have; zero: not at all
	NoWait   bool          // begin it, and do not wait for its end
	Progress bool          // write a line whenever the number of sessions changes
}

// Drain has one daemon take no new clients, wait for the others to go, and leave; and waits until it has ended.
func Drain(ctx context.Context, r Reach, o Output, d DrainOptions, w io.Writer) error {
	t, err := r.One(ctx, false)
	if err != nil {
		return err
	}
	want := admin.Drain{Deadline: admin.Duration(d.Deadline)}
	if d.Deadline <= 0 {
		want.Deadline = admin.Duration(-time.Second)
	}
	x := at(ctx, r, t, func(c context.Context, k *admin.Client) (string, error) {
		done, err := k.Drain(c, want)
		return done.Text, err
	})
	if x.err != nil || d.NoWait {
		return o.outcomes(w, []Outcome{x})
	}
	last, text := -1, "drained, and gone"
	over := false
	for {
		c, cancel := r.limit(ctx)
		s, err := t.Client.Status(c)
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("stopped waiting; the daemon goes on: %w", ctx.Err())
		}
		if u, ok := errors.AsType[*admin.UnreachableError](err); ok && u.Err != nil {
			x.Text = text
			return o.outcomes(w, []Outcome{x})
		}
		if e, ok := errors.AsType[*admin.Error](err); ok && e.Code == admin.CodeUnavailable {
			err = nil // it is about to end
		}
		if err != nil {
			return exit(err)
		}
		if g := s.Draining; g != nil && d.Progress && !o.JSON && g.Sessions != last {
			last = g.Sessions
			fmt.Fprintf(w, "%s  %s left, for %v at most\n", nameOr(s.Name, x.Daemon), amount.Of(g.Sessions, "session"), g.Remaining)
		}
		if !over && err == nil { // the answer comes when the drain is over, and before the daemon has gone
			c, cancel := r.limit(ctx)
			end, err := t.Client.Drained(c)
			cancel()
			if over = err == nil && end.Over; over {
				text = "drained, and gone: " + end.Text()
			}
			if err == nil {
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(drainLook):
		}
	}
}

// CompleteComponents are the continuations of a partition as it is typed: each daemon that is not in it yet.
func CompleteComponents(typed string, daemons []string) []string {
	done := strings.LastIndexAny(typed, ",/") + 1
	used := strings.FieldsFunc(typed[:done], func(r rune) bool { return r == ',' || r == '/' })
	var out []string
	for _, d := range daemons {
		if !slices.Contains(used, d) {
			out = append(out, typed[:done]+d)
		}
	}
	return out
}

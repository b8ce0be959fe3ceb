// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/proto/node"
	"evensong/internal/proto/ring"
	"evensong/internal/seal"
)

// ErrReload marks a reload that was refused: everything goes on as it was.
var ErrReload = errors.New("the configuration is not reloaded, and the one in force stays")

// ReloadReport says what a reload did, in sentences. Both empty: the files say what is in force.
type ReloadReport struct {
	Changed []string // in force from now on
	Restart []string // asked for, and not in force before a restart
}

// Reloadable is a part of the shell that takes values over while it runs.
type Reloadable struct {
	// Keys are the values concerned, as in config.Change. A key that no part of the host knows how to change needs a
	// restart.
	Keys []string
	// Prepare checks what next says and returns what puts that in force, and what gives up what it has opened or reserved
	// for that: one of the two is called. An error refuses the reload as a whole: nothing is put in force before everything
	// was checked. It is called on the goroutine of Reload when one of Keys has changed, or always if there are none; a nil
	// function is nothing to do.
	Prepare func(next *config.Config) (apply, discard func(), err error)
}

// reload is what a host knows of configurations.
type reload struct {
	one         sync.Mutex          // one reload at a time
	start       *config.Config      // what this daemon was started with; nil: Assemble was not asked
	now         *config.Config      // what is in force, apart from what needs a restart; belongs to whoever has one
	certificate *config.Certificate // in force, with now
	live        atomic.Pointer[live]
	stall       atomic.Int64 // half the token timeout
}

// live is what goroutines other than the loop read of a configuration that may change. It is replaced, never changed.
type live struct {
	daemons     []admin.Member
	dangerous   bool
	maxSessions int
	keys        *seal.Keys // nil: datagrams are not sealed
}

func (r *reload) init(cfg *Config) {
	r.start, r.now, r.certificate = cfg.started, cfg.started, cfg.certificate
	r.live.Store(&live{cfg.Admin.Daemons, cfg.Admin.Dangerous, cfg.MaxSessions, cfg.Keys})
	r.stall.Store(int64(cfg.TokenTimeout / 2))
}

// stallLimit is how long the process may not run before that is worth a line.
func (r *reload) stallLimit() time.Duration { return time.Duration(r.stall.Load()) }

// reconfigurable is a machine that takes another configuration over while it runs.
type reconfigurable interface {
	Reconfigure(now time.Duration, next node.Config, fx *Effects) error
}

// Reload reads the configuration again and puts in force what can change while the daemon runs. Everything is read and
// checked first, on the calling goroutine; if anything is wrong, nothing changes, and the error says all of it: it is
// ErrReload then. Nobody sees a change of configuration because of a reload as such. It may be called concurrently: one
// reload waits for the other.
func (h *Host) Reload(ctx context.Context) (ReloadReport, error) {
	h.reload.one.Lock()
	defer h.reload.one.Unlock()
	log := h.core.cfg.Logger
	log.Info("reading the configuration again")
	r, err := h.reloadNow(ctx)
	if err != nil {
		if !errors.Is(err, ErrReload) {
			return r, err // the host ends, or ctx did
		}
		log.Error("configuration not reloaded; the one in force stays", "reason", strings.TrimPrefix(err.Error(), ErrReload.Error()+": "))
		return r, err
	}
	for _, s := range r.Changed {
		log.Info("configuration: in force now", "reason", s)
	}
	for _, s := range r.Restart {
		log.Warn("configuration: needs a restart", "reason", s)
	}
	log.Info("configuration reloaded", "changed", len(r.Changed), "restart", len(r.Restart))
	return r, nil
}

func (h *Host) reloadNow(ctx context.Context) (ReloadReport, error) {
	refuse := func(format string, args ...any) (ReloadReport, error) {
		return ReloadReport{}, fmt.Errorf("%w: "+format, append([]any{ErrReload}, args...)...)
	}
	cfg := h.core.cfg
	m, ok := h.core.m.(reconfigurable)
	if cfg.Reread == nil || h.reload.start == nil || !ok {
		return refuse("this daemon was started without a configuration that could be read again")
	}
	next, err := cfg.Reread(ctx)
	if err != nil {
		return refuse("%w", err)
	}
	name := cfg.name
	self := next.Index(name)
	if self < 0 {
		return refuse("%s does not list this daemon, %s, any more; to remove it, stop it and reload the others", source(&next), name)
	}
	start := h.reload.start
	if was := start.Daemons[start.Index(name)]; !next.Ranked && next.Daemons[self].Host != "" && (!was.Addr.Addr().IsValid() || !next.Daemons[self].Addr.Addr().IsValid()) {
		next.Daemons[self].Addr = was.Addr // the name of this daemon was not found then, or is not now
	}
	if a, b := start.Daemons[start.Index(name)].Addr, next.Daemons[self].Addr; a != b {
		return refuse("%s has this daemon at %v, and it runs at %v; a daemon cannot move while it runs: restart it, and reload the others", source(&next), b, a)
	}
	if start.Cluster != next.Cluster {
		return refuse("the cluster is called %q, and this daemon belongs to %q; restart it to move it", next.Cluster, start.Cluster)
	}
	access := next.Access
	if access == nil {
		if access, err = config.LoadAccess(&next); err != nil {
			return refuse("%w", err)
		}
	}
	keys := next.Keys
	if keys == nil {
		if keys, err = config.LoadKeys(&next); err != nil {
			return refuse("%w", err)
		}
	}
	certificate := next.Certificate
	if certificate == nil {
		if certificate, err = config.LoadTLS(&next, time.Now()); err != nil {
			return refuse("%w", err)
		}
	}
	n, differences, err := nodeConfig(&next, self, access)
	if err != nil {
		return refuse("%w", err)
	}

	report, changes := h.compare(&next, name)
	var apply, discard []func()
	defer func() {
		for _, f := range discard {
			f()
		}
	}()
	for _, part := range cfg.Reloadables {
		if len(part.Keys) > 0 && !slices.ContainsFunc(changes, func(c config.Change) bool { return slices.Contains(part.Keys, c.Key) }) {
			continue
		}
		f, g, err := part.Prepare(&next)
		if err != nil {
			return refuse("%w", err)
		}
		if f != nil {
			apply = append(apply, f)
		}
		if g != nil {
			discard = append(discard, g)
		}
	}
	onlyFiles := len(report.Changed) == 0
	was, is := textOf(h.reload.certificate), textOf(certificate)
	if was != is && is != "" {
		report.Changed = append(report.Changed, "TLS: "+is)
	}
	if len(report.Changed) == 0 && !readsFiles(access) {
		h.reload.now = &next
		return report, nil // with nothing to do, nothing is touched: not even windows that an operator has set
	}

	if err := ctx.Err(); err != nil {
		return ReloadReport{}, err
	}
	var refused error
	limit := sessionLimit(next.Sessions.Limit, certificate != nil)
	err = h.Do(context.WithoutCancel(ctx), func(now time.Duration) {
		if k, ok := m.(interface{ RingConfig() ring.Config }); ok && onlyFiles {
			n.Ring = k.RingConfig() // only access files are read again: windows that an operator has set stay
		}
		if refused = m.Reconfigure(now, n, &h.core.fx); refused != nil {
			return
		}
		if b := h.core.sealing.box; b != nil && keys != nil { // to begin with it, and to end, takes a restart
			b.SetKeys(keys)
		}
		h.core.cfg.Differences = differences
		h.core.cfg.MaxSessions = limit
		h.core.tls.set(certificate.Config())
		h.core.perform()
	})
	switch {
	case err != nil:
		return ReloadReport{}, err
	case refused != nil:
		return refuse("%w", refused)
	}
	h.reload.now, h.reload.certificate = &next, certificate
	h.reload.stall.Store(int64(n.Ring.TokenTimeout / 2))
	ac := adminConfig(&next)
	if h.reload.live.Load().keys == nil {
		keys = nil // those that are there wait for a restart
	} else if keys == nil {
		keys = h.reload.live.Load().keys
	}
	h.reload.live.Store(&live{ac.Daemons, ac.Dangerous, limit, keys})
	if h.admin != nil {
		h.admin.server.SetDangerous(ac.Dangerous)
	}
	if cfg.Admin.Level != nil && slices.ContainsFunc(changes, func(c config.Change) bool { return c.Key == "EventPriority" }) {
		cfg.Admin.Level.Set(next.Log.Level())
	}
	for _, f := range apply {
		f()
	}
	discard = nil
	return report, nil
}

// compare says what next changes: of what is in force, and of what only a start puts in force.
func (h *Host) compare(next *config.Config, name string) (ReloadReport, []config.Change) {
	restart := func(c config.Change) bool {
		for _, part := range h.core.cfg.Reloadables {
			if slices.Contains(part.Keys, c.Key) {
				return false
			}
		}
		return c.Restart || c.Key == "EventPriority" && h.core.cfg.Admin.Level == nil
	}
	var r ReloadReport
	changes := config.Changes(h.reload.now, next, name)
	for _, c := range changes {
		if !restart(c) {
			r.Changed = append(r.Changed, c.Text)
		}
	}
	for _, c := range config.Changes(h.reload.start, next, name) {
		if restart(c) {
			r.Restart = append(r.Restart, c.Text)
		}
	}
	return r, changes
}

// textOf is a certificate in a few words; empty: there is none.
func textOf(c *config.Certificate) string {
	if c == nil {
		return ""
	}
	return c.Text
}

// readsFiles reports whether who may come in depends on files that have no value of their own in a configuration, so that
// they may have changed though it has not.
func readsFiles(a *config.Access) bool {
	return a.NetworksFile != "" || a.PasswordsFile != "" || a.RulesFile != ""
}

func source(c *config.Config) string {
	if c.Source == "" {
		return "the configuration"
	}
	return c.Source
}

// sessionLimit is how many clients may be connected if the configuration says n.
func sessionLimit(n int, tls bool) int {
	if n > 0 {
		return n
	}
	files := openFiles() - spareFiles
	if tls && haveEpoll {
		files /= descriptorsTLS
	}
	return min(DefaultMaxSessions, max(files, 1))
}

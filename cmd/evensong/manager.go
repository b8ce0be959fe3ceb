// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"evensong/internal/host"
)

// manager tells the service manager, if there is one (systemd's notification socket), what becomes of the daemon: ready,
// alive, stopping. Alive is said only while the loop answers and, in a ring of several, the token moves.
type manager struct {
	log  *slog.Logger
	stop chan struct{}
	end  sync.WaitGroup
}

// started says ready, and alive from then on at half the interval that the manager wants.
func (m *manager) started(h *host.Host) {
	m.say(daemon.SdNotifyReady)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("configuration of the service manager's watchdog", "reason", err.Error())
	}
	if every == 0 {
		return
	}
	m.stop = make(chan struct{})
	m.end.Go(func() { m.watch(h, every/2) })
}

func (m *manager) watch(h *host.Host, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var p progress
	for {
		select {
		case <-m.stop:
			return
		case <-h.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), every/2)
		steps, moving, err := h.Progress(ctx)
		cancel()
		if err != nil || !p.well(steps, moving) {
			m.log.Error("not scheduled: the service manager is not told that the daemon is alive", "moving", moving, "steps", steps)
			continue
		}
		m.say(daemon.SdNotifyWatchdog)
	}
}

// progress compares how far a ring has come from one look to the next.
type progress struct {
	steps  uint64
	moving bool
}

// well reports whether the daemon is well: a ring of several that was one at the last look, too, has moved since.
func (p *progress) well(steps uint64, moving bool) bool {
	well := !moving || !p.moving || steps != p.steps
	p.steps, p.moving = steps, moving
	return well
}

// stopping says so and ends the watch.
func (m *manager) stopping() {
	m.say(daemon.SdNotifyStopping)
	if m.stop != nil {
		close(m.stop)
		m.end.Wait()
	}
}

func (m *manager) say(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		m.log.Warn("configuration of the service manager", "reason", err.Error())
	}
}

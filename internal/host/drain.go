// SPDX-License-Identifier: Apache-2.0

package host

import (
	"log/slog"
	"time"

	"evensong/internal/admin"
)

// drainPoll is how often a drain looks whether the clients have gone.
const drainPoll = 20 * time.Millisecond

// Drain begins the end of the host without hurry: no new client is taken from now on, the listeners are closed, and
// once the clients that are here have gone, or after wait, follows what Leave does. It returns at once. Calling it again
// sets another deadline.
func (h *Host) Drain(wait time.Duration) {
	first := h.drainUntil.Swap(new(time.Now().Add(wait))) == nil
	if !first {
		return
	}
	h.drainSince.Store(new(time.Now()))
	h.mail.post(func() {
		h.core.draining = true
		h.core.unannounce()
		h.core.note(slog.LevelInfo, "draining", slog.Int64("sessions", h.stats.Sessions.Load()), slog.Duration("within", wait))
	})
	go func() {
		tick := time.NewTicker(drainPoll)
		defer tick.Stop()
		for {
			select {
			case <-h.over:
				return
			case <-tick.C:
			}
			n := h.stats.Sessions.Load()
			if n > 0 && time.Now().Before(*h.drainUntil.Load()) {
				continue
			}
			h.mail.post(func() {
				why := "all clients have gone"
				if n > 0 {
					why = "the time is over"
				}
				h.core.note(slog.LevelInfo, "drained", slog.Int64("sessions", n), slog.String("reason", why))
				h.core.leave()
			})
			return
		}
	}()
}

// draining is how far a drain is; nil if there is none.
func (h *Host) draining() *admin.DrainState {
	until, since := h.drainUntil.Load(), h.drainSince.Load()
	if until == nil || since == nil {
		return nil
	}
	return &admin.DrainState{
		Elapsed: admin.Duration(time.Since(*since)), Remaining: admin.Duration(max(time.Until(*until), 0)),
		Sessions: int(h.stats.Sessions.Load()),
	}
}

// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"log/slog"
	"time"

	"evensong/internal/admin"
	"evensong/internal/proto/node"
)

// drainPoll is how often a drain looks whether the clients have gone, and toldTime how long the daemon stays at most when they
// have, so that who ordered the drain can ask how it ended.
const (
	drainPoll = 20 * time.Millisecond
	toldTime  = 250 * time.Millisecond
)

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
				end := h.core.drainEnd(int(h.stats.Sessions.Load()))
				h.core.note(slog.LevelInfo, "drained", slog.Int("sessions", end.CutOff), slog.String("reason", end.Text()))
				h.drainEnd = end
				close(h.drained)
			})
			select {
			case <-h.over:
			case <-h.told:
			case <-time.After(toldTime):
			}
			h.mail.post(h.core.leave)
			return
		}
	}()
}

// cutShown is how many of the clients that a drain cuts off are named.
const cutShown = 20

// drainEnd is how a drain ends with n clients left.
func (c *core) drainEnd(n int) admin.DrainEnd {
	end := admin.DrainEnd{Over: true, CutOff: n, Names: []string{}}
	m, ok := c.m.(*node.Machine)
	if n == 0 || !ok {
		return end
	}
	for _, s := range m.SessionPage(0, cutShown) {
		switch {
		case s.Name != "":
			end.Names = append(end.Names, s.Name)
		case s.Peer.IsValid():
			end.Names = append(end.Names, s.Peer.String())
		default:
			end.Names = append(end.Names, fmt.Sprintf("session %d", s.ID))
		}
	}
	return end
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

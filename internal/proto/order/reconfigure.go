// SPDX-License-Identifier: Apache-2.0

package order

import (
	"errors"
	"time"

	"evensong/internal/proto/membership"
	"evensong/internal/proto/ring"
)

// CheckConfig reports everything that Reconfigure could not work with.
func (m *Machine) CheckConfig(r ring.Config, ms membership.Config) error {
	r, ms = m.merged(r, ms)
	return errors.Join(r.Validate(), ms.Validate(), m.membership.CheckReconfigure(ms))
}

// merged completes what Reconfigure is given by what does not change.
func (m *Machine) merged(r ring.Config, ms membership.Config) (ring.Config, membership.Config) {
	r = r.WithDefaults()
	r.PacketBytes, r.Larger, r.LargerCut, r.Group = m.cfg.Ring.PacketBytes, m.cfg.Ring.Larger, m.cfg.Ring.LargerCut, m.cfg.Ring.Group
	ms.Me, ms.TokenTimeout = m.cfg.Me, r.TokenTimeout
	return r, ms
}

// Reconfigure changes windows, timers, peers and facts while the daemon runs, in whatever state it is (P-31). Nothing of
// the present ring, or of an attempt at another, ends by it. Packets keep their size. CheckConfig has accepted r and ms.
func (m *Machine) Reconfigure(now time.Duration, r ring.Config, ms membership.Config, fx *Effects) {
	m.now = now
	r, ms = m.merged(r, ms)
	m.membership.Reconfigure(now, ms, &m.mfx)
	m.setRing(now, r)
	m.finish(now, fx)
}

// SetWindows changes the flow control windows alone, from the next visit of the token on. A number below 1 keeps a window
// as it is. It reports everything that is wrong with the outcome, and then changes nothing.
func (m *Machine) SetWindows(now time.Duration, global, personal, accelerated int) error {
	r, err := m.cfg.Ring.WithWindows(global, personal, accelerated)
	if err != nil {
		return err
	}
	m.setRing(now, r)
	return nil
}

// setRing makes r what the present ring, the attempted one, and all later ones run with.
func (m *Machine) setRing(now time.Duration, r ring.Config) {
	m.cfg.Ring = r
	m.pace = m.membership.Pace()
	m.applyRing(now)
}

// applyRing gives the rings there are what they are to run with.
func (m *Machine) applyRing(now time.Duration) {
	r := m.ringConfig()
	if m.ring != nil {
		m.ring.Reconfigure(now, r)
	}
	if m.next != nil {
		m.next.ring.Reconfigure(now, r)
	}
}

// ringConfig is what a ring runs with: the configuration, at the pace of all who are alive (membership.Pace).
func (m *Machine) ringConfig() ring.Config {
	return m.cfg.Ring.AtPace(m.pace.Slowest, m.pace.Quickest)
}

// RingConfig is what this daemon's configuration says of rings, windows changed by SetWindows included.
func (m *Machine) RingConfig() ring.Config { return m.cfg.Ring }

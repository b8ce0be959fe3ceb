// SPDX-License-Identifier: Apache-2.0

package order

import (
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/ring"
)

// Leave begins an orderly leave: what was accepted is originated, and the others are told. Effects.Stopped ends it.
func (m *Machine) Leave(now time.Duration, fx *Effects) {
	if m.leaving {
		return
	}
	m.now = now
	m.leaving, m.leaveAt = true, now+m.cfg.LeaveTime
	m.Kick(now, fx)
	m.finish(now, fx)
}

// maybeLeave says good-bye when nothing is left to say before it.
func (m *Machine) maybeLeave(now time.Duration, fx *Effects) {
	if !m.leaving || m.stopped {
		return
	}
	if !m.said {
		idle := m.ring == nil || m.backlog.count == 0 && m.next == nil && m.ring.Phase() == ring.Operational && m.ring.Stable() >= m.lastMine
		if !idle && now < m.leaveAt {
			return
		}
		m.said = true
		if m.ring != nil && m.ring.Release() {
			m.visit(now, m.ring, fx)
		}
		m.membership.Leave(now, &m.mfx)
		m.finish(now, fx)
		return
	}
	if m.membership.State() != membership.StateLeft {
		return
	}
	m.handUpAll(fx)
	m.stopped = true
	if m.cfg.Trace {
		m.trace(fx, evs.Trace{Kind: evs.TraceStop})
	}
	fx.Stopped = true
}

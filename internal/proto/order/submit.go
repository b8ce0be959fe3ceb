// SPDX-License-Identifier: Apache-2.0

package order

import (
	"time"

	"evensong/internal/proto/evs"
)

// Begin and End accept a message for origination: append the payload to what Begin returns, and hand it to End. The
// message stays until it has its place in the order; Queued tells how much waits, and the caller bounds that. Kick must
// follow.
func (m *Machine) Begin(laneID uint64, service evs.Service) (Pending, []byte) {
	l, buf, start := m.backlog.begin(laneID, service)
	return Pending{l, start}, buf
}

// Pending is a message between Begin and End.
type Pending struct {
	lane  *lane
	start int
}

// End accepts the message begun.
func (m *Machine) End(p Pending, buf []byte) { m.backlog.end(p.lane, buf, p.start) }

// Queued is the number of bytes that wait in a lane; QueuedAll in all of them.
func (m *Machine) Queued(laneID uint64) int { return m.backlog.queued(laneID) }

// QueuedAll is the number of bytes that wait in all lanes.
func (m *Machine) QueuedAll() int { return m.backlog.bytes }

// CloseLane lets a lane go once it is empty.
func (m *Machine) CloseLane(laneID uint64) { m.backlog.close(laneID) }

// Open lets all lanes send: the layer above is ready for their messages in this configuration (GRP-14).
func (m *Machine) Open() { m.backlog.open = true }

// Throttle leaves the other daemons no room for messages of their clients until it is called with false: somebody here cannot
// follow, and they shall wait for it. It is about the present configuration; a new one begins without.
func (m *Machine) Throttle(on bool) {
	if m.ring != nil {
		m.ring.Throttle(on)
	}
}

// Kick starts what was submitted on its way, if the token is at rest.
func (m *Machine) Kick(now time.Duration, fx *Effects) {
	if m.ring == nil || m.said || m.backlog.Pending() == 0 {
		return
	}
	m.now = now
	if m.ring.Wake(now, &m.rfx) {
		m.visit(now, m.ring, fx)
	}
	m.ringEffects(now, m.ring, fx)
	m.finish(now, fx)
}

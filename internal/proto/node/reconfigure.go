// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/ring"
)

// Reconfigure changes what the daemon runs with while it runs. next is a whole Config, as for a daemon that starts now. In
// force at once are:
//
//   - windows and timers: Ring, but for PacketBytes, and Membership
//   - the other daemons: Peers, and Listed, of which the lists of the others are part (membership, lists.go)
//   - what counts as primary: Voters, from the next configuration on, which comes soon if that changes something
//   - what is told about the configuration: Facts
//   - Accelerated, for the rings that this daemon forms from now on
//   - MaxSessions, InputBytes, and what is done about slow clients: SlowPolicy, SessionStall, SessionWait, QueueMemory
//   - Session: the access rules for everybody, also for clients that are here; authentication methods for those that were
//     not asked for theirs yet; all else of it, and MessageBytes, SessionBytes, SessionHardBytes and SessionQueue, for
//     clients that come from now on
//
// What a daemon is born with stays as it is, whatever next says: Me, so that nobody sees another daemon; Cluster;
// Ring.PacketBytes, for which the buffers are made; Stable and StoredRingSeq; LeaveTime and Trace. Listeners are what
// SetListeners says.
//
// It may be called in every state, during a membership change as well, and causes none by itself (P-31).
// It reports everything that is wrong with next, and then changes nothing.
func (m *Machine) Reconfigure(now time.Duration, next Config, fx *Effects) error {
	was := &m.cfg
	next.Me, next.Cluster, next.LeaveTime, next.Trace = was.Me, was.Cluster, was.LeaveTime, was.Trace
	next.Stable, next.StoredRingSeq = was.Stable, was.StoredRingSeq
	next.Ring.PacketBytes = was.Ring.PacketBytes
	next = next.withDefaults()
	next.Session.Buffers = &m.pool
	errs := []error{next.Session.Validate(), next.validatePressure(), m.order.CheckConfig(next.Ring, next.Membership)}
	if next.MaxSessions < 0 || next.InputBytes < 0 {
		errs = append(errs, fmt.Errorf("%d sessions and %d bytes of input for each: must not be negative", next.MaxSessions, next.InputBytes))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.begin(now, fx)
	m.order.Reconfigure(now, next.Ring, next.Membership, &m.ofx)
	blocked := m.blocking()
	m.cfg = next
	m.setSessions(new(next.Session))
	m.pressureChanged(now, blocked)
	m.finish(now, forSends, fx)
	return nil
}

// pressureChanged puts new rules for slow sessions in force for those that are over their budget now; blocked says whether
// others waited for them under the old rules.
func (m *Machine) pressureChanged(now time.Duration, blocked bool) {
	switch {
	case blocked && !m.blocking():
		m.pressure.Waited += now - m.blockedSince
	case !blocked && m.blocking():
		m.blockedSince = now
		m.pressure.Waits++
	}
	for _, c := range m.conns { // in any order: timers are a heap by time and number
		if c.over && !c.closing {
			m.arm(c, m.overDeadline(c))
		}
	}
}

// SetPeers changes the addresses of the other daemons alone, as Reconfigure would: names that stand for them were looked up again.
// It reports whether they are others than before, and everything that is wrong with them; then it changes nothing.
func (m *Machine) SetPeers(now time.Duration, peers []netip.AddrPort, fx *Effects) (changed bool, err error) {
	if slices.Equal(peers, m.cfg.Peers) {
		return false, nil
	}
	next := m.cfg
	next.Peers = slices.Clone(peers)
	next.Ring = m.order.RingConfig() // windows that an operator has set stay
	next = next.withDefaults()
	if err := m.order.CheckConfig(next.Ring, next.Membership); err != nil {
		return false, err
	}
	m.begin(now, fx)
	m.order.Reconfigure(now, next.Ring, next.Membership, &m.ofx)
	m.cfg.Peers, m.cfg.Membership = next.Peers, next.Membership
	m.finish(now, forSends, fx)
	return true, nil
}

// RingConfig is what rings run with, windows changed by SetWindows included.
func (m *Machine) RingConfig() ring.Config { return m.order.RingConfig() }

// SetWindows changes the flow control windows of this daemon alone, in packets, from its next visit of the token on: how
// many all daemons together may send in a rotation, how many this one may send per visit, and how many of these after it
// has passed the token. A number below 1 keeps a window as it is. It reports everything that is wrong with the outcome,
// and then changes nothing. A later Reconfigure sets the windows that it is given.
func (m *Machine) SetWindows(now time.Duration, global, personal, accelerated int) error {
	return m.order.SetWindows(now, global, personal, accelerated)
}

// Windows are the flow control windows in force.
func (m *Machine) Windows() (global, personal, accelerated int) {
	r := m.order.RingConfig()
	return r.GlobalWindow, r.PersonalWindow, r.AcceleratedWindow
}

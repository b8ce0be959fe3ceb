// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"slices"

	"evensong/internal/proto/evs"
)

// CheckInvariants reports the first thing in the machine that must not be, or nil. It reads the whole table.
func (m *Machine) CheckInvariants() error {
	if m.checked && m.state != Exchange {
		return nil // nothing has touched configurations or table since
	}
	if err := m.checkConfigurations(); err != nil {
		return err
	}
	if m.checked {
		return nil
	}
	if err := m.checkTable(); err != nil {
		return err
	}
	m.checked = true
	return nil
}

func (m *Machine) checkConfigurations() error {
	if (m.conf == nil) != (m.state == Fresh) {
		return fmt.Errorf("state %v with configuration %v", m.state, m.conf)
	}
	if (m.came != nil) != (m.state == Transitional || m.state == Aborted) {
		return fmt.Errorf("state %v with %d reachable daemons", m.state, len(m.came))
	}
	if !slices.Contains(m.peers, m.cfg.Me) || !slices.IsSortedFunc(m.peers, evs.ProcID.Compare) {
		return fmt.Errorf("peers %v", m.peers)
	}
	for _, p := range m.peers {
		if _, ok := m.index[p]; m.conf != nil && !ok {
			return fmt.Errorf("peer %v is not in %v", p, m.conf.ID)
		}
		if m.came != nil && !m.came[p] {
			return fmt.Errorf("peer %v is out of reach", p)
		}
	}
	if m.state == Stable && m.primary != m.conf.Primary || m.state != Stable && m.primary == evs.PrimaryYes {
		return fmt.Errorf("state %v in %v, and sessions are told that primary is %v (PC-7)", m.state, m.conf, m.primary)
	}
	switch m.state {
	case Stable:
		if !slices.Equal(m.peers, m.conf.Members) {
			return fmt.Errorf("stable with peers %v of %v", m.peers, m.conf.Members)
		}
	case Transitional:
		if len(m.peers) != len(m.came) {
			return fmt.Errorf("%d peers of %d that came along from an agreed table", len(m.peers), len(m.came))
		}
	}
	if m.state != Exchange {
		if m.ex.streams != nil || m.ex.queue != nil || m.ex.left != 0 {
			return fmt.Errorf("exchange is not empty in state %v", m.state)
		}
		return nil
	}
	left, open := len(m.ex.covered), 0
	for _, c := range m.ex.covered {
		if c {
			left--
		}
	}
	for i, s := range m.ex.streams {
		if i > 0 && m.ex.streams[i-1].cover[0] >= s.cover[0] {
			return fmt.Errorf("states out of order at %d", s.cover[0])
		}
		if !s.done {
			open++
		}
	}
	if left != m.ex.left || left == 0 || open > left {
		return fmt.Errorf("exchange waits for %d daemons, %d are not covered, %d states are open", m.ex.left, left, open)
	}
	bytes := 0
	for _, q := range m.ex.queue {
		bytes += len(q.payload)
	}
	if bytes != m.ex.queueBytes || bytes > MaxQueueBytes {
		return fmt.Errorf("queue of %d bytes, %d noted", bytes, m.ex.queueBytes)
	}
	return nil
}

func (m *Machine) checkTable() error {
	// Who may be listed: all of the configuration while its table is agreed, else the table set and, after the
	// signal that aborted an exchange, those that were in it.
	allowed := func(p evs.ProcID) bool { _, ok := m.index[p]; return ok }
	if m.state == Exchange {
		allowed = func(p evs.ProcID) bool { return slices.Contains(m.peers, p) }
	}
	if g := m.routed; g != nil && m.groups[g.name] != g {
		return fmt.Errorf("messages are routed to group %q, which is gone", g.name)
	}
	memberships := 0
	for name, g := range m.groups {
		if g.name != name || !legalGroup(name) || len(g.members) == 0 {
			return fmt.Errorf("group %q under %q with %d members", g.name, name, len(g.members))
		}
		if g.signalled && m.state == Stable {
			return fmt.Errorf("group %q is signalled in state %v", name, m.state)
		}
		var locals []*local
		for i, x := range g.members {
			if i > 0 && g.members[i-1].compare(x) >= 0 {
				return fmt.Errorf("group %q: %v and %v out of order", name, g.members[i-1].Private, x.Private)
			}
			if !allowed(x.Proc) {
				return fmt.Errorf("group %q: ghost %v in state %v (GRP-12)", name, x.Private, m.state)
			}
			if m.came != nil && !m.came[x.Proc] && !g.signalled {
				return fmt.Errorf("group %q: %v is out of reach without a signal (GRP-7)", name, x.Private)
			}
			s := m.sessions[sessionKey{x.Proc, x.Session}]
			if s == nil || &s.Member != x || !slices.Contains(s.groups, g) || x.Private != privateName(x.User, x.Proc) {
				return fmt.Errorf("group %q: %v is not the session of its key", name, x.Private)
			}
			if l := m.openLocal(x); l != nil {
				locals = append(locals, l)
			}
		}
		if !slices.Equal(locals, g.locals) {
			return fmt.Errorf("group %q: %d recipients, want %d", name, len(g.locals), len(locals))
		}
		memberships += len(g.members)
	}
	for k, s := range m.sessions {
		if k != (sessionKey{s.Proc, s.Session}) || len(s.groups) == 0 {
			return fmt.Errorf("session %v under %v in %d groups", s.Private, k, len(s.groups))
		}
		for i, g := range s.groups {
			if m.groups[g.name] != g || i > 0 && s.groups[i-1].name >= g.name {
				return fmt.Errorf("session %v: group %q", s.Private, g.name)
			}
		}
		memberships -= len(s.groups)
	}
	if memberships != 0 {
		return fmt.Errorf("groups and sessions differ by %d memberships", memberships)
	}
	if len(m.local) != len(m.byUser) {
		return fmt.Errorf("%d sessions with %d names", len(m.local), len(m.byUser))
	}
	for num, l := range m.local {
		if l.num != num || m.byUser[l.user] != l || l.stamp > m.stamp {
			return fmt.Errorf("local session %d %q", num, l.user)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package groups

// Count is the number of groups of the configuration.
func (m *Machine) Count() int { return len(m.groups) }

// Size is the number of members of a group, and how many of them are open sessions of this daemon; zero when there is no
// such group.
func (m *Machine) Size(group string) (members, here int) {
	if g := m.groups[group]; g != nil {
		return len(g.members), len(g.locals)
	}
	return 0, 0
}

// GroupsOf are the names of the groups of a session of this daemon, sorted, at most limit of them, and how many there are.
func (m *Machine) GroupsOf(num uint64, limit int) (names []string, total int) {
	s := m.sessions[sessionKey{m.cfg.Me, num}]
	if s == nil {
		return nil, 0
	}
	for _, g := range s.groups[:min(limit, len(s.groups))] {
		names = append(names, g.name)
	}
	return names, len(s.groups)
}

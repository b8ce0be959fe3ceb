// SPDX-License-Identifier: Apache-2.0

package groups

import "slices"

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

// Page is the names that follow after in byte order, at most limit of them. It looks at every group once, so it costs the
// same for the first page and for the last.
func (m *Machine) Page(after string, limit int) []string {
	page := make([]string, 0, min(limit, len(m.groups))+1)
	for name := range m.groups {
		if name <= after || len(page) == limit && (limit == 0 || name > page[limit-1]) {
			continue
		}
		i, _ := slices.BinarySearch(page, name)
		page = slices.Insert(page, i, name)
		page = page[:min(len(page), limit)]
	}
	return page
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

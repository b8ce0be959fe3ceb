// SPDX-License-Identifier: Apache-2.0

package membership

import "evensong/internal/proto/evs"

// Causes are why the configuration before the present one was left. They must not be changed.
func (m *Machine) Causes() []Cause { return m.told }

// Name is the name of the daemon with this incarnation, if anything was heard of it yet.
func (m *Machine) Name(inc evs.Incarnation) (string, bool) {
	if r := m.lookup(inc); r != nil {
		return r.id.Name, true
	}
	return "", false
}

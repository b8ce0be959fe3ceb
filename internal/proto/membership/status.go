// SPDX-License-Identifier: Apache-2.0

package membership

import "evensong/internal/proto/evs"

// Cause is why the configuration before the present one was left, and because of whom; the latter is zero if it was
// nobody's doing.
func (m *Machine) Cause() (Reason, evs.ProcID) { return m.cause, m.causedBy }

// Name is the name of the daemon with this incarnation, if anything was heard of it yet.
func (m *Machine) Name(inc evs.Incarnation) (string, bool) {
	if r := m.lookup(inc); r != nil {
		return r.id.Name, true
	}
	return "", false
}

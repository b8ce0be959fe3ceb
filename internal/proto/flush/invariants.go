// SPDX-License-Identifier: Apache-2.0

package flush

import "fmt"

// CheckInvariants states what must hold between inputs. Simulator and tests call it after every input.
func (m *Machine) CheckInvariants() error {
	if len(m.order) != len(m.records) {
		return fmt.Errorf("flush: %d records in order, %d by name", len(m.order), len(m.records))
	}
	for _, r := range m.order {
		if m.records[r.name] != r {
			return fmt.Errorf("flush: the record of %s is not found by name", r.name)
		}
		if err := m.checkRecord(r); err != nil {
			return fmt.Errorf("flush: %s, %v and %v: %w", r.name, r.membership, r.state, err)
		}
	}
	return nil
}

func (m *Machine) checkRecord(r *record) error {
	changing := r.state == Authorize || r.state == Agree
	if changing != (len(r.pending) > 0) {
		return fmt.Errorf("%d views are pending", len(r.pending))
	}
	if r.membership == Joining && (r.state != Agree || r.installed.number != 0) {
		return fmt.Errorf("a newcomer that does not agree on its first view")
	}
	if !r.installed.current(m.cfg.Private) {
		return fmt.Errorf("the session is not in its own view (VS-6)")
	}
	if r.installed.shrunk() && !r.signaled {
		return fmt.Errorf("members have gone and the user has not been told")
	}
	if len(r.postponed) > 0 && r.state != Agree {
		return fmt.Errorf("%d messages are postponed", len(r.postponed))
	}
	if r.unasked && (r.membership != Leaving || r.state != Authorize) {
		return fmt.Errorf("a flush request is kept back")
	}
	after := r.installed.number
	for _, v := range r.pending {
		if v.number <= after {
			return fmt.Errorf("pending views are out of order: %d behind %d", v.number, after)
		}
		after = v.number
		for name, gone := range v.gone {
			if gone != 0 && !v.answered[name] {
				return fmt.Errorf("%v waits for %s, which has gone", v.id, name)
			}
		}
		for name := range v.answered {
			if !v.has(name) {
				return fmt.Errorf("%v was answered by %s, which is not a member", v.id, name)
			}
		}
	}
	if r.state == Agree && !r.gaveUp && r.head().complete() {
		return fmt.Errorf("all have answered for %v and it is not installed", r.head().id)
	}
	n := 0
	for _, e := range r.early {
		n += len(e.answers)
		if r.find(e.id) != nil {
			return fmt.Errorf("answers for %v are kept apart from it", e.id)
		}
	}
	if n != r.earlyN || n > maxEarly {
		return fmt.Errorf("%d early answers, counted as %d", n, r.earlyN)
	}
	return nil
}

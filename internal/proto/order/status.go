// SPDX-License-Identifier: Apache-2.0

package order

import (
	"fmt"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/ring"
)

// Configuration is the last regular configuration installed; nil before the first.
func (m *Machine) Configuration() *evs.Configuration { return m.conf }

// Stats returns a copy of the counters.
func (m *Machine) Stats() Stats { return m.stats }

// Ring is the current ring, for status; nil before the first configuration.
func (m *Machine) Ring() *ring.Machine { return m.ring }

// Membership is the machine below, for status.
func (m *Machine) Membership() *membership.Machine { return m.membership }

// CheckInvariants states what holds between inputs.
func (m *Machine) CheckInvariants() error {
	if m.ring == nil {
		return nil
	}
	if err := m.ring.CheckInvariants(); err != nil {
		return err
	}
	switch {
	case m.conf.Index(m.cfg.Me) < 0:
		return fmt.Errorf("configuration %v without myself (EVS-4)", m.conf.ID)
	case m.cursor.pos > m.ring.ARU():
		return fmt.Errorf("delivered up to %d, received up to %d (EVS-14)", m.cursor.pos, m.ring.ARU())
	case m.next == nil && !m.banned && m.ring.Phase() == ring.Recovering:
		return fmt.Errorf("current ring %v is recovering", m.conf.ID)
	}
	if m.next != nil {
		if err := m.next.ring.CheckInvariants(); err != nil {
			return err
		}
	}
	return m.membership.CheckInvariants()
}

var dropNames = [...]string{
	DropPacket: "packet", DropOwn: "own", DropForeign: "foreign", DropBanned: "banned", DropDuplicate: "duplicate",
	DropToken: "token", DropFragment: "fragment", DropWrapped: "wrapped", DropImpostor: "impostor", DropPartition: "partition",
}

// String is a word for metrics.
func (d Drop) String() string {
	if d >= DropPacket && d < dropEnd {
		return dropNames[d]
	}
	return fmt.Sprintf("Drop(%d)", uint8(d))
}

// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// Status is a picture of a ring for operators.
type Status struct {
	Accelerated bool
	Phase       Phase
	ARU         seq.Num // all received here up to
	TokenARU    seq.Num // the aru that this member last put on the token: what all are known to have, or nearly
	High        seq.Num // highest position known
	Stable      seq.Num // known to be received by everybody
	// Lagging is the index of the member that holds the token's aru down, Rotations how often the token came round
	// with the aru standing still; -1 and zero when nobody does.
	Lagging, Rotations int
	// The windows in force, in packets.
	Personal, Global, AcceleratedWindow int
	// Windows is why they are what they are.
	Windows WindowReason
	// PacketBytes is how long packets of this member may be at present, Packets why.
	PacketBytes int
	Packets     PacketReason
	Group       GroupStatus
}

// Status is the present state of the ring.
func (m *Machine) Status() Status {
	s := Status{
		Accelerated: !m.noAccel, Phase: m.phase, ARU: m.win.ARU(), TokenARU: m.putARU, High: m.win.High(), Stable: m.stable,
		Lagging:  -1,
		Personal: m.flow.personal, Global: m.flow.global, AcceleratedWindow: m.flow.accelerated, Windows: m.flow.reason,
		Group: m.Group(), PacketBytes: m.longest(&m.token),
	}
	switch {
	case m.size.larger:
		s.Packets = PacketsLarger
	case m.cfg.Larger > 0:
		s.Packets = PacketsUsual
	}
	if id := m.token.ARUID; m.n > 1 && id != packet.NoMember && int(id) < m.n && m.token.ARU < m.token.Seq {
		s.Lagging, s.Rotations = int(id), m.stuck
	}
	return s
}

// SPDX-License-Identifier: Apache-2.0

package order

import (
	"strings"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
)

// handleReach hands a question about a group address, or an answer, to the ring it is about.
func (m *Machine) handleReach(h *packet.Header, body []byte, fx *Effects) {
	p, err := packet.ParseReach(body)
	if err != nil {
		m.drop(DropPacket)
		return
	}
	r, members := m.ring, []evs.ProcID(nil)
	switch {
	case m.next != nil && p.Ring == m.next.conf.ID.New:
		r, members = m.next.ring, m.next.conf.Members
	case m.ring != nil && p.Ring == m.conf.ID.New:
		members = m.conf.Members
	default:
		m.drop(DropForeign)
		return
	}
	if int(p.Sender) >= len(members) || members[p.Sender].Inc != h.Sender {
		m.drop(DropImpostor)
		return
	}
	r.HandleReach(p, &m.rfx)
	m.ringEffects(m.now, r, fx)
}

// noteReach says what has become of a ring's group address.
func noteReach(n ring.Reach, g ring.GroupStatus, members []evs.ProcID, fx *Effects) {
	out := evs.Note{Level: evs.Info, Attrs: []evs.Attr{{Key: "group", Value: g.Addr.String()}}}
	switch n {
	case ring.ReachNone, ring.ReachAsked:
		return
	case ring.ReachAll:
		out.Text = "the group address reaches everybody; packets go there once for all"
	case ring.ReachLacks:
		out.Text, out.Level = "the group address does not reach everybody; packets go to each daemon by itself. Look for multicast snooping, a firewall or a wrong broadcast address, or make the segment unicast", evs.Warn
		out.Attrs = append(out.Attrs, evs.Attr{Key: "missing", Value: strings.Join(g.Names(members), " ")})
	}
	fx.Notes = append(fx.Notes, out)
}

// SPDX-License-Identifier: Apache-2.0

package order

import (
	"strings"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
)

// handleQuestion hands a question about a group address or the length of datagrams, or an answer, to the ring it is about.
func (m *Machine) handleQuestion(h *packet.Header, body []byte, fx *Effects) {
	p, err := packet.ParseQuestion(h.Kind, body)
	if err != nil {
		m.drop(DropPacket)
		return
	}
	if r := m.ringOf(p.Ring, int(p.Sender), h.Sender); r != nil {
		r.HandleQuestion(h.Kind, p, &m.rfx)
		m.ringEffects(m.now, r, fx)
	}
}

// ringOf is the ring with that identity, present or attempted, if inc is its member number sender. Otherwise the packet is dropped.
func (m *Machine) ringOf(id evs.RingID, sender int, inc evs.Incarnation) *ring.Machine {
	r, members := m.ring, []evs.ProcID(nil)
	switch {
	case m.next != nil && id == m.next.conf.ID.New:
		r, members = m.next.ring, m.next.conf.Members
	case m.ring != nil && id == m.conf.ID.New:
		members = m.conf.Members
	default:
		m.drop(DropForeign)
		return nil
	}
	if sender >= len(members) || members[sender].Inc != inc {
		m.drop(DropImpostor)
		return nil
	}
	return r
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

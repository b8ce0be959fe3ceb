// SPDX-License-Identifier: Apache-2.0

package order

import (
	"maps"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// partition is a cut through the cluster that an operator asked for, to see what programs make of one: packets of
// daemons in other components are ignored as if the network had lost them. It ends by itself, so that an operator who
// loses the connection cannot leave a cluster in pieces.
type partition struct {
	on         bool
	until      time.Duration
	components map[string]int // by daemon; who is not in it is in component 0
}

// Partition ignores, until the time until, everything from daemons whose component is not this daemon's. components
// has them by name of the daemon; who is not in it is in component 0. The machine keeps a copy. A partition in force is
// replaced, and renewed by the same call again.
func (m *Machine) Partition(now, until time.Duration, components map[string]int, fx *Effects) {
	renewed := m.partition.on && now < m.partition.until && maps.Equal(m.partition.components, components)
	m.partition = partition{on: true, until: until, components: maps.Clone(components)}
	if !renewed {
		m.notePartition("daemons are cut off by an operator", fx)
	}
}

// Heal ends a partition before its time.
func (m *Machine) Heal(now time.Duration, fx *Effects) {
	if m.partition.on {
		m.partition = partition{}
		m.notePartition("the cut by an operator is healed", fx)
	}
}

// Partitioned is the partition in force at now and when it ends; nil if there is none. The map must not be changed.
func (m *Machine) Partitioned(now time.Duration) (components map[string]int, until time.Duration) {
	if !m.partition.on || now >= m.partition.until {
		return nil, 0
	}
	return m.partition.components, m.partition.until
}

// isCutOff reports whether the partition keeps a packet out. The sender's name counts, so that a restart or a second
// address is no way around. Packets of somebody whose name is not known yet are kept out unless they say it.
func (m *Machine) isCutOff(now time.Duration, h *packet.Header, body []byte, fx *Effects) bool {
	p := &m.partition
	if now >= p.until {
		m.partition = partition{}
		m.notePartition("the cut by an operator has ended, its time is over", fx)
		return false
	}
	name, ok := m.membership.Name(h.Sender)
	if !ok && (h.Kind == packet.KindJoin || h.Kind == packet.KindProbe) && packet.ReadJoin(body, &m.join) == nil {
		name, ok = m.join.Procs[0].ID.Name, true
	}
	return !ok || p.components[name] != p.components[m.cfg.Me.Name]
}

func (m *Machine) notePartition(text string, fx *Effects) {
	fx.Notes = append(fx.Notes, evs.Note{Level: evs.Warn, Text: text, Attrs: []evs.Attr{{Key: "reason", Value: "monitor"}}})
}

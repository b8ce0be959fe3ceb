// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"slices"
	"strings"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// Cause is a reason why the configuration before the present one was left, and because of whom: the daemons that are
// gone or came for this reason. If nobody is gone and nobody came, it is the daemon that left the ring first, or nobody.
type Cause struct {
	Reason  Reason
	Daemons []evs.ProcID // in ring order; empty if it was nobody's doing
}

// String is the reason with the daemons' names behind it.
func (c Cause) String() string {
	if len(c.Daemons) == 0 {
		return c.Reason.String()
	}
	names := make([]string, len(c.Daemons))
	for i, d := range c.Daemons {
		names[i] = d.Name
	}
	return c.Reason.String() + " (" + strings.Join(names, " ") + ")"
}

// CausesText is what String says of all of cs.
func CausesText(cs []Cause) string {
	parts := make([]string, len(cs))
	for i, c := range cs {
		parts[i] = c.String()
	}
	return strings.Join(parts, "; ")
}

// causes says why members follow the configuration before. What made this daemon leave the ring is often only the first
// consequence: after a crash, the Join of another member that has noticed it sooner. So each daemon that is gone or came
// is judged by what is known of it here by now. Others may know less or more of it.
func (m *Machine) causes(now time.Duration, members set) (out []Cause) {
	add := func(why Reason, who evs.ProcID) {
		i := slices.IndexFunc(out, func(c Cause) bool { return c.Reason == why })
		if i < 0 {
			i, out = len(out), append(out, Cause{Reason: why})
		}
		out[i].Daemons = append(out[i].Daemons, who)
	}
	gone := m.prevConf.minus(members)
	restarted := map[string]bool{}
	switch {
	case m.isolated && !gone.empty():
		add(ReasonFailedToReceive, m.cfg.Me)
	default:
		for _, s := range m.order {
			if gone.has(s) {
				why := m.whyGone(now, m.rows[s])
				restarted[m.rows[s].id.Name] = why != ReasonMemberLeaving
				add(why, m.rows[s].id)
			}
		}
	}
	came := ReasonMerge
	if m.cause == ReasonStart {
		came = ReasonStart
	}
	for _, s := range m.order {
		// A new life of a member is told with the end of the old one.
		if r := m.rows[s]; members.has(s) && !m.prevConf.has(s) && !restarted[r.id.Name] {
			add(came, r.id)
		}
	}
	if out == nil {
		out = []Cause{{Reason: m.cause}}
		if !m.causedBy.IsZero() {
			out[0].Daemons = []evs.ProcID{m.causedBy}
		}
	}
	return out
}

// whyGone judges a member of the configuration before that is not in the present one.
func (m *Machine) whyGone(now time.Duration, r *row) Reason {
	switch {
	case r.state == packet.StateLeaving:
		return ReasonMemberLeaving
	case r.dead:
		return ReasonRestarted
	case m.deaf.has(r.slot):
		return ReasonFailedToReceive
	case r.kept:
		return ReasonRemoved
	}
	// Alive is who goes on to gather, and who is in another ring by now: it may have given up waiting for us sooner than we did.
	if moved := r.ring.Seq > m.prevRing.Seq; !moved && (r.rowAt < m.gatheredAt || now-r.rowAt > m.gatherWindow()) {
		return ReasonVanished
	}
	var alone set
	alone.add(r.slot)
	if r.heard == alone {
		return ReasonHearsNobody
	}
	// It speaks, to me or to others that say so, and yet not all of us and it reach each other.
	return ReasonUnreachable
}

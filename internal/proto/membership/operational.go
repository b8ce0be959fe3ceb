// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// tickOperational probes everybody, looks whether all members still reach each other, whether the files still say the same
// of what is primary, and whether others could join.
func (m *Machine) tickOperational(now time.Duration, fx *Effects) {
	m.refreshSelf(now)
	if r := m.unwelcome(); r != nil {
		m.enterGather(now, ReasonRemoved, r.id, set{}, nil, fx)
		return
	}
	if a, b, ok := m.outOfReach(now); ok {
		who := b
		if who == 0 {
			who = a
		}
		m.enterGather(now, ReasonUnreachable, m.rows[who].id, set{}, nil, fx)
		return
	}
	if m.changedVerdict() {
		m.enterGather(now, ReasonPrimaryRule, m.cfg.Me, set{}, nil, fx)
		return
	}
	m.tickAt = now + m.jitter(m.scaled(m.cfg.ProbeInterval))
	m.sendNow(now, fx)
	m.noteMissing(now, fx)
	m.maybeMerge(now, nil, fx)
}

// Awake says that this daemon is awake because of the token of a ring where nothing goes on, and all others will be in a moment. What is
// due soon is done now, so that it need not wake everybody for itself: half of all wake-ups of an idle ring were probes. What comes
// next is put off by as much as this was early.
func (m *Machine) Awake(now time.Duration, fx *Effects) {
	if m.state != StateOperational || m.tickAt == 0 || now < m.tickAt-m.scaled(m.cfg.ProbeInterval)*2/5 {
		return
	}
	early := max(m.tickAt-now, 0)
	m.takeCensus(now)
	if m.tickOperational(now, fx); m.state == StateOperational {
		m.tickAt += early
	}
}

// outOfReach finds two members that have not been mutual for the reach timeout. A configuration whose members do not
// all reach each other works as long as its token does, but ends in retransmissions for ever (P-11, LIVE-5).
func (m *Machine) outOfReach(now time.Duration) (a, b int, found bool) {
	mu := m.mutual(m.confSet)
	var next []apart
	old := m.apart // in the same order as the loop below, but for members whose place changed: then time starts again
	for i, s := range m.order {
		if !m.confSet.has(s) || m.confSet.subsetOf(mu[s]) {
			continue
		}
		for _, t := range m.order[i+1:] {
			if !m.confSet.has(t) || mu[s].has(t) {
				continue
			}
			since := now
			for _, o := range old {
				if o.a == s && o.b == t {
					since = o.since
					break
				}
			}
			if now-since > m.patient(m.scaled(m.cfg.ReachTimeout)) && !found {
				a, b, found = s, t, true
			}
			if len(next) < maxApart {
				next = append(next, apart{s, t, since})
			}
		}
	}
	m.apart = next
	return a, b, found
}

// maxApart bounds how many pairs are timed at once; what is beyond waits for its turn.
const maxApart = 256

// maybeMerge gathers with foreign daemons if all of them and all of us are mutual, and none is in back-off. A gathering
// one that proposes me comes at its own risk and back-off: if mine counted too, each side would make the attempts of
// the other fail. trigger is the daemon whose packet led here, or nil.
func (m *Machine) maybeMerge(now time.Duration, trigger *row, fx *Effects) bool {
	var done set
	for _, s := range m.order {
		r := m.rows[s]
		if m.confSet.has(s) || done.has(s) || !m.foreign(now, r) {
			continue
		}
		group := m.groupOf(now, r)
		done = done.union(group)
		done.add(s)
		if group.empty() {
			continue
		}
		blocked := false
		invited := r.state == packet.StateGather && !m.invited(r).empty()
		for _, t := range m.order {
			if q := m.rows[t]; group.has(t) && (!m.foreign(now, q) || !invited && now < q.backoffUntil) {
				blocked = true
				break
			}
		}
		if blocked || !m.isClique(m.confSet.union(group)) {
			continue
		}
		if trigger != nil && trigger != r && !group.has(trigger.slot) {
			trigger = nil
		}
		m.enterGather(now, ReasonMerge, r.id, group, trigger, fx)
		return true
	}
	return false
}

// foreign reports whether r is alive outside of my configuration, by news from after its install.
func (m *Machine) foreign(now time.Duration, r *row) bool {
	return !m.confSet.has(r.slot) && r.usable() && r.rowAt >= m.since && now-r.rowAt <= m.windowOf(r) && m.rows[0].heard.has(r.slot)
}

// groupOf is whom a merge with r would bring: its configuration, or if it gathers, whom it proposes together with us.
// Empty: not now.
func (m *Machine) groupOf(now time.Duration, r *row) set {
	var g set
	switch r.state {
	case packet.StateGather:
		g = m.invited(r).minus(m.confSet)
		g.add(r.slot)
	case packet.StateOperational:
		if r.ring == m.prevRing || r.ring == (evs.RingID{}) {
			return set{} // it has not noticed yet that this ring is over
		}
		g = m.configurationOf(now, r).minus(m.confSet)
	case packet.StateForming, packet.StateLeaving:
		// Busy, or not wanting to.
	default:
		panic("membership: unknown state of a row")
	}
	return g
}

// configurationOf is who is in r's configuration by what they say themselves; r says so.
func (m *Machine) configurationOf(now time.Duration, r *row) (g set) {
	for _, s := range m.order {
		if q := m.rows[s]; s != 0 && q.ring == r.ring && q.usable() && now-q.rowAt <= m.windowOf(q) {
			g.add(s)
		}
	}
	return g
}

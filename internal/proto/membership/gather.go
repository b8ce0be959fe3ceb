// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// enterGather leaves the ring, or abandons the attempt, and looks for the next membership. extra are daemons to expect
// besides those we were with; trigger, if any, is the daemon whose Join led here, which counts in this gather.
func (m *Machine) enterGather(now time.Duration, why Reason, who evs.ProcID, extra set, trigger *row, fx *Effects) {
	expected := m.confSet
	if a := m.attempt; a != nil {
		expected = a.set // who was lost before the attempt is not waited for again
		m.countFailure(now, a.set, a.heardOf, fx)
	}
	if m.state == StateOperational {
		m.cause, m.causedBy = why, who
	}
	m.transition(now, StateGather, why, who, fx)
	m.attempt = nil
	fx.Steps = append(fx.Steps, Step{Kind: StepGather, Reason: why})
	m.beginGather(now, expected.union(extra), trigger, fx)
}

// beginGather starts over within Gather.
func (m *Machine) beginGather(now time.Duration, expected set, trigger *row, fx *Effects) {
	for _, s := range m.order {
		if r := m.rows[s]; r != trigger {
			r.proposed = false
		}
	}
	m.settled, m.agreedAt, m.gatheredAt = false, never, now
	m.core, m.proposal = expected, set{}
	m.core.add(0)
	m.expected = m.core
	m.sought = m.sought.union(m.expected)
	m.tickAt = now + m.joinInterval()
	if m.refusing {
		m.proposal.add(0)
		m.limitAt = now + m.cfg.StoreRetry
		m.sendNow(now, fx)
		return
	}
	m.limitAt = now + m.gatherWindow()
	if m.hold {
		m.limitAt = now + m.patient(m.scaled(m.cfg.StartHold))
	}
	if trigger != nil {
		m.widen(trigger)
	}
	m.propose(now, fx)
}

func (m *Machine) joinInterval() time.Duration {
	d := m.brisk(m.scaled(m.cfg.JoinInterval))
	return d - d/8 + time.Duration(m.rnd.Int64N(int64(d/8)+1))
}

// countFailure keeps count of attempts with one membership that failed. progress says that I saw it come through to
// me: then the link to me is not to blame (8.4.7: the next attempt must be another one).
func (m *Machine) countFailure(now time.Duration, c set, progress bool, fx *Effects) {
	if c != m.lastFailed {
		m.lastFailed, m.failedTimes = c, 0
	}
	m.failedTimes++
	if c.len() < 2 || m.failedTimes < vetoAfter {
		return
	}
	if (progress || m.lowest(c) == 0) && m.failedTimes < changeAfter {
		return
	}
	pred := m.predecessor(c)
	m.raiseBackoff(now, pred)
	// Turbulence looks like a bad link too, so this veto stays short; the back-off limits the merges that follow.
	pred.vetoUntil = min(pred.backoffUntil, now+2*m.cfg.BackoffMin)
	fx.Notes = append(fx.Notes, Note{Kind: NoteSuspect, Reason: ReasonCommitTimeout, Peer: pred.id})
}

// predecessor is the row before me in c's ring order; c has at least one other.
func (m *Machine) predecessor(c set) *row {
	var members []int
	for _, s := range m.order {
		if c.has(s) {
			members = append(members, s)
		}
	}
	i := slices.Index(members, 0)
	return m.rows[members[(i+len(members)-1)%len(members)]]
}

// invited is the proposal that r has sent, if I am in it.
func (m *Machine) invited(r *row) set {
	if r.usable() && r.state == packet.StateGather && r.proposed && r.proposal.has(0) {
		return r.proposal
	}
	return set{}
}

// widen lets newcomers into the expected set: r, which has just spoken, if it gathers, and whom it proposes with me.
// Whether all of them can be together is for the clique to say; whether they come, for the timer.
func (m *Machine) widen(r *row) {
	if m.settled || !r.usable() || r.kept || r.state != packet.StateGather || !r.proposed {
		return
	}
	more := m.invited(r)
	more.add(r.slot)
	m.expected = m.expected.union(more)
	m.sought = m.sought.union(more)
}

// candidates are the daemons of which the proposal is cut: until settled those expected, then those that gather.
func (m *Machine) candidates(now time.Duration) set {
	var c set
	c.add(0)
	if m.isolated {
		return c
	}
	for _, s := range m.order {
		r := m.rows[s]
		if s == 0 || !r.usable() || r.kept || now < r.vetoUntil {
			continue
		}
		if !m.settled && m.expected.has(s) ||
			m.settled && r.state == packet.StateGather && now-r.rowAt <= m.gatherWindow() {
			c.add(s)
		}
	}
	return c
}

// best is what the table says I should propose. Until settled, newcomers come on top of a clique of those we were with:
// a matrix that does not yet know all about a newcomer must not make it displace a member.
func (m *Machine) best(now time.Duration) set {
	cand := m.candidates(now)
	if m.settled {
		return m.clique(cand)
	}
	c := m.clique(cand.and(m.core))
	all := cand.minus(m.core).union(c)
	mu := m.mutual(all)
	for _, s := range m.order {
		if all.has(s) && !c.has(s) && c.subsetOf(mu[s]) {
			c.add(s)
		}
	}
	return c
}

// propose works out my proposal, tells it if it is another one, and commits if all agree.
func (m *Machine) propose(now time.Duration, fx *Effects) {
	if m.refusing {
		return
	}
	m.refreshSelf(now)
	p := m.best(now)
	if m.agreedAt != never && m.proposal.subsetOf(p) && now-m.agreedAt <= m.commitTimeout(m.proposal.len()) {
		p = m.proposal // the Commit token is on its way; newcomers can merge later
	}
	if p != m.proposal {
		m.proposal, m.agreedAt = p, never
		m.sought = m.sought.union(p)
		m.sendSoon(now, m.scaled(m.cfg.JoinInterval)/4, fx)
	}
	m.maybeCommit(now, fx)
}

// maybeCommit commits if there is consensus and it is mine to do: every member of my proposal has sent me a Join in
// this gather with exactly my proposal.
func (m *Machine) maybeCommit(now time.Duration, fx *Effects) {
	for _, s := range m.order {
		if s == 0 || !m.proposal.has(s) {
			continue
		}
		if r := m.rows[s]; !r.proposed || r.proposal != m.proposal {
			m.agreedAt = never
			return
		}
	}
	if m.hold && !m.settled && !m.mayStartEarly(now) {
		return
	}
	if m.settled && now < m.courtUntil && m.isCourted(now) {
		return
	}
	if m.agreedAt == never {
		m.agreedAt = now
	}
	if m.lowest(m.proposal) == 0 {
		m.startCommit(now, fx)
	}
}

// isCourted reports whether a configuration is in reach that could take us in as we are, or somebody we were with is
// busy with an attempt that either fails soon or lets it take us in: they are given a little time, since a ring of our
// own would only have to be left again.
func (m *Machine) isCourted(now time.Duration) bool {
	var done set
	for _, s := range m.order {
		r := m.rows[s]
		if s != 0 && m.core.has(s) && r.state == packet.StateForming && now-r.rowAt <= m.gatherWindow() && m.hears(now, r) {
			return true
		}
		if r.state != packet.StateOperational || done.has(s) || s == 0 || now-r.rowAt > m.windowOf(r) || !m.hears(now, r) || r.rowAt < m.gatheredAt {
			continue
		}
		g := m.configurationOf(now, r)
		done = done.union(g)
		if m.isClique(m.proposal.union(g)) {
			return true
		}
	}
	return false
}

// mayStartEarly reports whether a daemon that has just started need not wait any longer: an established ring takes it
// in, or every configured peer speaks and all who speak are in the proposal.
func (m *Machine) mayStartEarly(now time.Duration) bool {
	rings := map[evs.RingID]int{}
	for _, s := range m.order {
		if m.proposal.has(s) {
			if rings[m.rows[s].ring]++; rings[m.rows[s].ring] > 1 {
				return true
			}
		}
	}
	for _, s := range m.order {
		if r := m.rows[s]; s != 0 && m.hears(now, r) && !m.proposal.has(s) {
			return false
		}
	}
	for _, a := range m.cfg.Peers {
		if !slices.Contains(m.ownAddrs, a) && !slices.ContainsFunc(m.order, func(s int) bool {
			return s != 0 && m.rows[s].addr == a && m.hears(now, m.rows[s])
		}) {
			return false
		}
	}
	return true
}

// tickGather repeats the Join and looks again at who is there.
func (m *Machine) tickGather(now time.Duration, fx *Effects) {
	m.tickAt = now + m.joinInterval()
	if m.refusing {
		m.tickAt = now + m.scaled(m.cfg.ProbeInterval) // only so that nobody waits for me
	}
	if m.agreedAt != never && m.lowest(m.proposal) != 0 && now-m.agreedAt > m.commitTimeout(m.proposal.len()) {
		// All agreed, and the Commit token did not reach me.
		m.agreedAt = now
		m.countFailure(now, m.proposal, false, fx)
	}
	m.propose(now, fx)
	if m.state == StateGather && now > m.sentAt {
		m.sendNow(now, fx)
	}
}

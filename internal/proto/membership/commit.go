// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// attempt is a ring to be.
type attempt struct {
	ring    evs.RingID
	set     set
	me      int            // my index in ring order
	token   *packet.Commit // as I forward it; nil until my entry is in it
	mine    packet.CommitEntry
	second  bool // token is that of the second rotation
	sent    bool // token was forwarded, and is repeated until something shows that it arrived
	heardOf bool // the token came as far as me in the rotation that was to come next, or the ring's own token did
	through bool // the ring's own token was seen
}

func (m *Machine) commitTimeout(members int) time.Duration {
	return m.patient(m.cfg.CommitTimeout + time.Duration(members)*m.cfg.TokenTimeout/25)
}

// startCommit forms the ring of my proposal, as its representative (8.3, Commit). The entries are order's to compute,
// so the token takes its first step through StepCommit.
func (m *Machine) startCommit(now time.Duration, fx *Effects) {
	top := m.known
	for _, s := range m.order {
		if m.proposal.has(s) {
			top = max(top, m.rows[s].ringSeq)
		}
	}
	m.known = top + 1
	c := &packet.Commit{Ring: evs.RingID{Seq: m.known, Rep: m.cfg.Me.Inc}, Round: 1, Accelerated: m.cfg.Accelerated}
	for _, s := range m.order {
		if m.proposal.has(s) {
			c.Entries = append(c.Entries, packet.CommitEntry{ID: m.rows[s].id, Addr: m.rows[s].addr})
		}
	}
	m.attempt = &attempt{ring: c.Ring, set: m.proposal}
	m.transition(now, StateCommit, ReasonConsensus, evs.ProcID{}, fx)
	m.armCommit(now)
	fx.Steps = append(fx.Steps, Step{Kind: StepCommit, Ring: c.Ring, Commit: c})
}

func (m *Machine) armCommit(now time.Duration) {
	m.limitAt = now + m.commitTimeout(m.attempt.set.len())
	m.tickAt = now + m.brisk(m.cfg.JoinInterval)
	m.probeAt = m.tickAt // if it takes that long, the others must know why no Joins come from me any more
}

// HandleCommit takes the Commit token, from the network or from StepCommit (from is then not looked at). mine is my
// entry as order computed it for this call; ID and Addr are filled in here. c is kept.
func (m *Machine) HandleCommit(now time.Duration, from netip.AddrPort, c *packet.Commit, mine packet.CommitEntry, fx *Effects) {
	rep := c.Entries[0].ID
	me := slices.IndexFunc(c.Entries, func(e packet.CommitEntry) bool { return e.ID == m.cfg.Me })
	if me < 0 {
		m.drop(ReasonNotMine, rep, fx)
		return
	}
	a := m.attempt
	switch {
	case m.state == StateCommit && a.ring == c.Ring:
		m.continueCommit(now, c, me, mine, fx)
	case c.Ring.Seq <= m.known:
		m.drop(ReasonStale, rep, fx) // a token of an earlier attempt (P-14), or a copy
	case c.Round == 1 && (m.state == StateGather && !m.refusing || m.state == StateCommit && a.set == m.entrySet(c) && a.me != 0):
		// In Commit, the representative has given up the attempt before and formed the same membership again.
		want := m.proposal
		if m.state == StateCommit {
			want = a.set
		}
		if members := m.entrySet(c); members != want || me == 0 || c.Entries[me].Filled {
			m.drop(ReasonNotMine, rep, fx)
			return
		}
		if m.state == StateGather {
			m.attempt = &attempt{ring: c.Ring, set: want, me: me}
			m.transition(now, StateCommit, ReasonCommitToken, rep, fx)
		} else {
			m.attempt = &attempt{ring: c.Ring, set: want, me: me}
		}
		m.known = c.Ring.Seq
		m.armCommit(now)
		m.promise(now, c, me, mine, fx)
	default:
		m.drop(ReasonWrongState, rep, fx)
	}
}

// entrySet is the membership of c; empty if it is not one that I could agree to.
func (m *Machine) entrySet(c *packet.Commit) set {
	var s set
	for i := range c.Entries {
		r := m.byInc[c.Entries[i].ID.Inc]
		if r == nil || r.id != c.Entries[i].ID || r.dead {
			return set{}
		}
		s.add(r.slot)
	}
	return s
}

// promise puts my entry into the token and passes it on. From now on nothing of the old ring changes it (8.4.8). The
// number begins to be stored now, if it is not already, so that the writes of all members overlap.
func (m *Machine) promise(now time.Duration, c *packet.Commit, me int, mine packet.CommitEntry, fx *Effects) {
	a := m.attempt
	mine.ID, mine.Addr, mine.Filled = m.cfg.Me, c.Entries[me].Addr, true
	mine.Obligation = slices.Clone(mine.Obligation)
	said := m.judge(memberIDs(c.Entries))
	mine.Rule, mine.Vouches = said.rule, said.vouches
	c.Entries[me] = mine
	a.me, a.mine, a.token = me, mine, c
	fx.Steps = append(fx.Steps, Step{Kind: StepPromise, Ring: a.ring})
	if len(c.Entries) > 1 {
		m.forward(fx)
	} else {
		a.second = true
		a.token.Round = 2
	}
	m.store(now, fx) // ends in maybeForward when done
}

// continueCommit takes the token of the attempt that I am in.
func (m *Machine) continueCommit(now time.Duration, c *packet.Commit, me int, mine packet.CommitEntry, fx *Effects) {
	a := m.attempt
	rep := c.Entries[0].ID
	if a.token == nil {
		m.promise(now, c, me, mine, fx) // from StepCommit
		return
	}
	complete := m.entrySet(c) == a.set && !slices.ContainsFunc(c.Entries, func(e packet.CommitEntry) bool { return !e.Filled })
	switch {
	case !complete || !sameEntry(&c.Entries[me], &a.mine):
		// The first rotation's token again, which I have passed on already and repeat on my timer; or not my entry.
		if complete {
			m.drop(ReasonBadToken, rep, fx)
		} else {
			m.drop(ReasonStale, rep, fx)
		}
	case me == 0 && c.Round == 1 && !a.second:
		c.Round = 2
		a.token, a.second, a.sent, a.heardOf = c, true, false, true
		m.maybeForward(now, fx)
	case me == 0 && c.Round == 2 && a.second && a.sent:
		m.recover(now, fx)
	case me != 0 && c.Round == 2 && !a.second:
		a.token, a.second, a.sent, a.heardOf = c, true, false, true
		m.maybeForward(now, fx)
	default:
		m.drop(ReasonStale, rep, fx)
	}
}

func sameEntry(a, b *packet.CommitEntry) bool {
	return a.ID == b.ID && a.OldRing == b.OldRing && a.OldARU == b.OldARU && a.OldHigh == b.OldHigh &&
		a.OldStable == b.OldStable && bytes.Equal(a.Obligation, b.Obligation) && a.Rule == b.Rule && a.Vouches == b.Vouches
}

// memberIDs are the members of a ring to be.
func memberIDs(entries []packet.CommitEntry) []evs.ProcID {
	ids := make([]evs.ProcID, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	return ids
}

// maybeForward passes the second rotation's token on when the ring's number is on stable storage (EVS-8).
func (m *Machine) maybeForward(now time.Duration, fx *Effects) {
	a := m.attempt
	if !a.second || a.sent || m.stored < a.ring.Seq {
		return
	}
	if len(a.token.Entries) == 1 {
		m.recover(now, fx)
		return
	}
	m.forward(fx)
	if a.me != 0 {
		m.recover(now, fx)
	}
}

// recover hands the ring over to order. The representative gets here when the second rotation is complete, so that no
// token of the ring exists before every member has its number stored.
func (m *Machine) recover(now time.Duration, fx *Effects) {
	a := m.attempt
	if a.me == 0 {
		a.through = true // nothing to repeat
	}
	a.heardOf = a.me == 0 // for the others the ring's own token is what must reach them next
	m.transition(now, StateRecover, ReasonAllKnown, evs.ProcID{}, fx)
	m.limitAt = now + m.cfg.RecoverTimeout
	m.tickAt = now + m.brisk(m.cfg.JoinInterval)
	m.probeAt = m.tickAt
	addrs := make([]netip.AddrPort, len(a.token.Entries))
	for i := range addrs {
		addrs[i] = m.addrOf(&a.token.Entries[i])
	}
	fx.Steps = append(fx.Steps, Step{Kind: StepRecover, Ring: a.ring, Commit: a.token, Me: a.me, Addrs: addrs, Primary: primaryOf(a.token.Entries)})
}

// addrOf is where I reach a member: as I know it by experience, else as the representative says.
func (m *Machine) addrOf(e *packet.CommitEntry) netip.AddrPort {
	if r := m.byInc[e.ID.Inc]; r != nil && r.addr.IsValid() && (r.addrDirect || !e.Addr.IsValid()) {
		return r.addr
	}
	return e.Addr
}

// forward sends the token to my successor.
func (m *Machine) forward(fx *Effects) {
	a := m.attempt
	to := m.addrOf(&a.token.Entries[(a.me+1)%len(a.token.Entries)])
	if !to.IsValid() {
		return // cannot be: a member was heard. The timeout ends the attempt.
	}
	b := packet.AppendCommit(make([]byte, packet.HeaderSize, packet.HeaderSize+12+len(a.token.Entries)*96), a.token)
	m.sealer.Seal(b, packet.KindCommit)
	fx.Sends = append(fx.Sends, packet.Send{To: []netip.AddrPort{to}, Bytes: b, Kind: packet.KindCommit})
	a.sent = true
}

// tickForming repeats the Commit token until there is a sign that it arrived, and probes as in Operational.
func (m *Machine) tickForming(now time.Duration, fx *Effects) {
	m.tickAt = now + m.brisk(m.cfg.JoinInterval)
	if a := m.attempt; a.token != nil && a.sent && !a.through {
		m.forward(fx)
	}
	if now >= m.probeAt {
		m.probeAt = now + m.jitter(m.scaled(m.cfg.ProbeInterval))
		m.sendNow(now, fx)
	}
}

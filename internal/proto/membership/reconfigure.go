// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
)

// Reconfigure changes what the machine runs with: peers, lists, voters, timers, facts and the ring variant of cfg. Who I am, the stored
// numbers and how they are stored stay as they are. It may be called in every state and causes no transition by itself
// (P-31): an attempt that is under way goes on, limits that run already end when they were to end, and only what begins
// from now on has the new times. The others are told soon. What the lists mean for the present configuration is looked at
// with the next probe (tickOperational).
//
// cfg must be valid, and CheckReconfigure must have nothing against it; it is not kept.
func (m *Machine) Reconfigure(now time.Duration, cfg Config, fx *Effects) {
	cfg.Me, cfg.StoredRingSeq, cfg.Stable, cfg.StoreAhead = m.cfg.Me, m.cfg.StoredRingSeq, m.cfg.Stable, m.cfg.StoreAhead
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	ahead := cfg.StoreAhead
	cfg = cfg.WithDefaults()
	cfg.StoreAhead = ahead // none is not the default here
	cfg.own()
	old := m.cfg
	m.cfg = cfg
	if !slices.Equal(cfg.Daemons, old.Daemons) {
		m.listedAt, m.missedIn = now, evs.RingID{} // those who are new have time to come
	}
	m.keepVoters(old.Voters)
	m.ownAddrs = slices.DeleteFunc(m.ownAddrs, func(a netip.AddrPort) bool { return !slices.Contains(cfg.Peers, a) })
	for _, s := range m.order {
		r := m.rows[s]
		r.toldTimeout = r.toldTimeout && cfg.TokenTimeout == old.TokenTimeout
		r.toldVariant = r.toldVariant && cfg.Accelerated == old.Accelerated
		if r.mine = s == 0 || m.lists(r.id.Name); r.mine {
			r.welcome()
		}
		r.tellFacts = r.tellFacts || !bytes.Equal(cfg.Facts, old.Facts)
	}
	m.keepPace(now)
	m.refreshSelf(now)
	switch m.state {
	case StateGather:
		m.tickAt = min(m.tickAt, now+m.brisk(m.scaled(cfg.JoinInterval)))
	case StateCommit, StateRecover:
		m.tickAt = min(m.tickAt, now+m.brisk(cfg.JoinInterval))
		m.probeAt = min(m.probeAt, now+m.scaled(cfg.ProbeInterval))
	case StateOperational:
		m.tickAt = min(m.tickAt, now+m.scaled(cfg.ProbeInterval))
	case StateStarting, StateLeaving, StateLeft:
		return // nothing is said yet, or any more
	default:
		panic("membership: unknown state")
	}
	m.sendSoon(now, m.scaled(cfg.JoinInterval)/4, fx)
}

// own makes cfg's slices the machine's, and peer addresses comparable.
func (c *Config) own() {
	c.Peers = slices.Clone(c.Peers)
	for i, a := range c.Peers {
		c.Peers[i] = unmap(a)
	}
	c.Listed = slices.Clone(c.Listed)
	c.Daemons = slices.Clone(c.Daemons)
	c.Facts = bytes.Clone(c.Facts)
	c.Voters = slices.Clone(c.Voters)
}

// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// never is a moment before all others.
const never = time.Duration(-1 << 62)

// maxRows bounds the table. A Join can name no more, so a daemon beyond it could not be agreed on anyway.
const maxRows = packet.MaxProcs

// set is a set of slots of the table.
type set [maxRows / 64]uint64

func (s *set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s *set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *set) del(i int)      { s[i/64] &^= 1 << (i % 64) }
func (s set) empty() bool     { return s == set{} }

func (s set) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

func (s set) union(t set) set {
	for i := range s {
		s[i] |= t[i]
	}
	return s
}

func (s set) minus(t set) set {
	for i := range s {
		s[i] &^= t[i]
	}
	return s
}

func (s set) and(t set) set {
	for i := range s {
		s[i] &= t[i]
	}
	return s
}

func (s set) subsetOf(t set) bool { return s.minus(t).empty() }

// row is what is known about one daemon. Slot 0 of the table is mine.
type row struct {
	id   evs.ProcID
	slot int

	// Content, as the daemon said it itself, by whatever way it came.
	version  uint64
	state    packet.JoinState
	ringSeq  uint64
	ring     evs.RingID
	heard    set
	rowAt    time.Duration // when the newest version came
	gatherAt time.Duration // since when the row says that the daemon gathers; meaningful in that state only

	// What I know by own experience.
	addr          netip.AddrPort
	addrDirect    bool   // a packet came from addr; otherwise it is hearsay
	directVersion uint64 // newest version that came from the daemon itself
	heardAt       time.Duration
	spokeAt       time.Duration // as heardAt, but never reset: when it last said anything to me
	proposed      bool          // it sent a Join in this gather, with proposal
	proposal      set

	// dead: a later incarnation of the name has spoken. lateWords counts what it has said since then: a delayed packet of
	// a former life may have made us believe the wrong thing.
	dead      bool
	lateWords int

	vetoUntil    time.Duration // until then I say that I do not hear it
	backoffUntil time.Duration // until then I start no merge with it
	backoffStep  int
	admittedAt   time.Duration // when it came into my configuration

	// What its last packet said of its configuration, and what follows from the lists of all (lists.go).
	timeout, probe time.Duration // token timeout and probe interval; zero: nothing came from itself yet
	listed         set           // whom it lists
	mine           bool          // I list it
	unlistedAt     time.Duration // since when nobody who counts lists it; never: somebody does
	kept           bool          // it is kept out
	told           lot           // what was said about that
	toldMe         bool          // that it does not list me

	// What was said of differences between its configuration and mine, and still holds.
	toldTimeout, toldVariant bool
	toldFacts                []byte // nil: nothing; never changed
	tellFacts                bool   // mine have changed since
}

// usable reports whether the daemon could be in a ring to come.
func (r *row) usable() bool { return !r.dead && r.state != packet.StateLeaving }

// lookup returns the row of inc, or nil.
func (m *Machine) lookup(inc evs.Incarnation) *row { return m.byInc[inc] }

// admitRow returns the row for id, made if need be; nil if there can be none. direct says that id itself has spoken,
// which is evidence that it replaces another incarnation of its name. Hearsay may be about a former life, so it counts only
// when nothing has been heard of the other one for long: behind a cut a restart may be known by hearsay alone, and without
// its row a configuration that it belongs to would look as if one could merge with it (LIVE-5).
func (m *Machine) admitRow(now time.Duration, id evs.ProcID, direct bool, fx *Effects) *row {
	if r := m.byInc[id.Inc]; r != nil {
		if r.id != id {
			return nil // an incarnation is random; two names for one is a forgery or a bug of the sender
		}
		return r
	}
	if id.Name == m.cfg.Me.Name {
		if direct && !slices.Contains(m.namesakes, id.Inc) {
			if len(m.namesakes) < maxNamesakes {
				m.namesakes = append(m.namesakes, id.Inc)
			}
			fx.Notes = append(fx.Notes, Note{Kind: NoteSameName, Reason: ReasonSameName, Peer: id})
		}
		return nil
	}
	alive := m.namesake(id)
	if alive != nil && !direct {
		if p := m.pinned(); p.has(alive.slot) || now-alive.rowAt <= m.windowOf(alive) {
			return nil
		}
	}
	slot := m.freeSlot(now)
	if slot < 0 {
		fx.Notes = append(fx.Notes, Note{Kind: NoteDrop, Reason: ReasonTableFull, Peer: id})
		return nil
	}
	if alive != nil {
		m.replace(alive)
	}
	r := &row{id: id, slot: slot, state: packet.StateOperational, rowAt: now, heardAt: never, spokeAt: never, admittedAt: never, unlistedAt: never, mine: m.lists(id.Name)}
	m.rows[slot] = r
	m.byInc[id.Inc] = r
	i, _ := slices.BinarySearchFunc(m.order, id, func(s int, id evs.ProcID) int { return m.rows[s].id.Compare(id) })
	m.order = slices.Insert(m.order, i, slot)
	return r
}

// namesake is the living row with id's name and another incarnation, or nil.
func (m *Machine) namesake(id evs.ProcID) *row {
	for _, s := range m.order {
		if r := m.rows[s]; r.id.Name == id.Name && r.id.Inc != id.Inc && !r.dead {
			return r
		}
	}
	return nil
}

// replace marks r as dead: another incarnation of its name lives (EVS-18, P-20).
func (m *Machine) replace(r *row) { r.dead, r.lateWords, r.proposed = true, 0, false }

// freeSlot finds room for a row; the one that has been silent longest makes it. -1 if all are in use for something.
func (m *Machine) freeSlot(now time.Duration) int {
	for s := 1; s < len(m.rows); s++ {
		if m.rows[s] == nil {
			return s
		}
	}
	if len(m.rows) < maxRows {
		m.rows = append(m.rows, nil)
		return len(m.rows) - 1
	}
	pinned := m.pinned()
	oldest := -1
	for s := 1; s < len(m.rows); s++ {
		if pinned.has(s) || !m.rows[s].dead && now-m.rows[s].rowAt <= m.windowOf(m.rows[s]) {
			continue
		}
		if oldest < 0 || m.rows[s].rowAt < m.rows[oldest].rowAt {
			oldest = s
		}
	}
	if oldest >= 0 {
		m.forget(oldest)
	}
	return oldest
}

func (m *Machine) forget(slot int) {
	delete(m.byInc, m.rows[slot].id.Inc)
	m.order = slices.DeleteFunc(m.order, func(s int) bool { return s == slot })
	m.rows[slot] = nil
	for _, s := range m.order {
		m.rows[s].heard.del(slot)
		m.rows[s].proposal.del(slot)
		m.rows[s].listed.del(slot)
	}
	m.prevConf.del(slot)
	m.sought.del(slot)
	m.deaf.del(slot)
	m.lastFailed.del(slot)
}

// forgetTheDead drops rows of replaced incarnations when no packet of theirs can reasonably be under way any more.
func (m *Machine) forgetTheDead(now time.Duration) {
	pinned := m.pinned()
	for s := 1; s < len(m.rows); s++ {
		if r := m.rows[s]; r != nil && r.dead && !pinned.has(s) && now-r.rowAt > deadMemory*m.cfg.TokenTimeout {
			m.forget(s)
		}
	}
}

// pinned are the slots that something besides the table refers to.
func (m *Machine) pinned() set {
	p := m.confSet.union(m.expected).union(m.proposal)
	if m.attempt != nil {
		p = p.union(m.attempt.set)
	}
	return p
}

// take copies what p says into r if it is newer than what r has. slots maps the Join's indices to slots, -1: unknown.
func (m *Machine) take(now time.Duration, r *row, p *packet.ProcInfo, slots []int) {
	if p.Version <= r.version {
		return
	}
	if p.State == packet.StateGather && (r.state != packet.StateGather || r.version == 0) {
		r.gatherAt = now
	}
	if p.State != packet.StateGather {
		r.proposed = false
	}
	r.version, r.state, r.ringSeq, r.ring, r.rowAt = p.Version, p.State, p.RingSeq, p.Ring, now
	r.heard = set{}
	for i, s := range slots {
		if s >= 0 && p.Heard.Has(i) {
			r.heard.add(s)
		}
	}
}

// hears reports whether I count r as heard. How long silence takes to mean deafness depends on how often r speaks.
func (m *Machine) hears(now time.Duration, r *row) bool {
	if !r.usable() || r.kept || now < r.vetoUntil || m.isolated {
		return false
	}
	window := m.windowOf(r)
	// Longer than a row counts as news among candidates: a daemon that dies must cease to be one before the first of us
	// ceases to hear it, or the cliques that it seems to be in would tear us apart.
	if short := m.gatherWindow() * 3 / 2; r.state == packet.StateGather && now-r.gatherAt >= short {
		window = short
	}
	return now-r.heardAt <= window
}

// refreshSelf brings my own row up to now.
func (m *Machine) refreshSelf(now time.Duration) {
	m.refreshLists(now)
	me := m.rows[0]
	me.heard = set{}
	me.heard.add(0)
	for _, s := range m.order {
		if s != 0 && m.hears(now, m.rows[s]) {
			me.heard.add(s)
		}
	}
	me.ringSeq, me.ring, me.rowAt = m.known, m.ring, now
	switch m.state {
	case StateOperational, StateStarting:
		me.state = packet.StateOperational
	case StateGather:
		me.state = packet.StateGather
		if m.refusing {
			me.state = packet.StateLeaving
		}
	case StateCommit, StateRecover:
		me.state = packet.StateForming
	case StateLeaving, StateLeft:
		me.state = packet.StateLeaving
	default:
		panic("membership: unknown state")
	}
}

// mutual returns for each slot in cand who of cand it hears and is heard by. The result is valid until the next call.
func (m *Machine) mutual(cand set) *[maxRows]set {
	mu := &m.mutualScratch
	for _, s := range m.order {
		if !cand.has(s) {
			continue
		}
		mine := m.rows[s].heard.and(cand)
		mine.add(s)
		var both set
		for _, t := range m.order {
			if mine.has(t) && (t == s || m.rows[t].heard.has(s)) {
				both.add(t)
			}
		}
		mu[s] = both
	}
	return mu
}

// clique cuts cand into mutual cliques, greedily and in ProcID order, and returns the one with me. Equal rows and
// candidates give equal cuts everywhere.
func (m *Machine) clique(cand set) set {
	cand.add(0)
	mu := m.mutual(cand)
	var done set
	for i, s := range m.order {
		if !cand.has(s) || done.has(s) {
			continue
		}
		var c set
		c.add(s)
		for _, t := range m.order[i+1:] {
			if cand.has(t) && !done.has(t) && c.subsetOf(mu[t]) {
				c.add(t)
			}
		}
		if c.has(0) {
			return c
		}
		done = done.union(c)
	}
	panic("membership: not a candidate myself")
}

// isClique reports whether all of c are mutual.
func (m *Machine) isClique(c set) bool {
	mu := m.mutual(c)
	for _, s := range m.order {
		if c.has(s) && !c.subsetOf(mu[s]) {
			return false
		}
	}
	return true
}

// lowest is the slot of the first of c in ring order.
func (m *Machine) lowest(c set) int {
	for _, s := range m.order {
		if c.has(s) {
			return s
		}
	}
	panic("membership: empty membership")
}

// ids lists c in ring order.
func (m *Machine) ids(c set) []evs.ProcID {
	var out []evs.ProcID
	for _, s := range m.order {
		if c.has(s) {
			out = append(out, m.rows[s].id)
		}
	}
	return out
}

// setOf is the set of the given daemons; ok is false if the table lacks one of them.
func (m *Machine) setOf(members []evs.ProcID) (c set, ok bool) {
	for _, id := range members {
		r := m.byInc[id.Inc]
		if r == nil || r.id != id {
			return c, false
		}
		c.add(r.slot)
	}
	return c, true
}

// sendRows sends a Join or probe with my row and all fresh ones. to nil means everybody.
func (m *Machine) sendRows(now time.Duration, kind packet.Kind, to []netip.AddrPort, fx *Effects) {
	if to == nil {
		if to = m.targets(now); len(to) == 0 {
			return
		}
	}
	me := m.rows[0]
	me.version++
	m.refreshSelf(now)
	pinned := m.pinned()
	slots := append(m.slotScratch[:0], 0)
	// Room for the fixed fields and facts first; a row costs its bytes and a bit in the rows of all others.
	room := packet.MaxDatagram - packet.SealRoom - packet.HeaderSize - 1024 - len(m.cfg.Facts)
	const fixed = 68 + maxRows/8
	for _, s := range m.order {
		r := m.rows[s]
		// Rows of replaced incarnations stay at home: others learn of the new one from itself. A row without a version
		// has no content yet.
		if s != 0 && !r.dead && r.version > 0 && (pinned.has(s) || now-r.rowAt <= m.windowOf(r)) {
			// Only some 200 daemons with names of 255 bytes come near the bound; who does not fit is told next time by others.
			if room -= fixed + len(r.id.Name); room < 0 {
				break
			}
			slots = append(slots, s)
		}
	}
	m.slotScratch = slots
	n := len(slots)
	size := (n + 7) / 8
	bitsOf := func(c set) packet.Bits {
		b := make(packet.Bits, size)
		for i, s := range slots {
			if c.has(s) {
				b.Set(i)
			}
		}
		return b
	}
	j := packet.Join{State: me.state, Accelerated: m.cfg.Accelerated, TokenTimeout: m.timeoutMillis(), ProbeInterval: millis(m.cfg.ProbeInterval),
		Facts: m.cfg.Facts, Procs: make([]packet.ProcInfo, n), Listed: make(packet.Bits, size)}
	if kind == packet.KindJoin && me.state == packet.StateGather {
		j.Proposal = bitsOf(m.proposal)
	} else {
		j.Proposal = make(packet.Bits, size)
	}
	for i, s := range slots {
		r := m.rows[s]
		if r.mine {
			j.Listed.Set(i)
		}
		j.Procs[i] = packet.ProcInfo{ID: r.id, State: r.state, Addr: r.addr, Version: r.version, RingSeq: r.ringSeq, Ring: r.ring, Heard: bitsOf(r.heard)}
	}
	j.Procs[0].Addr = netip.AddrPort{}
	b := packet.AppendJoin(make([]byte, packet.HeaderSize, packet.HeaderSize+16+n*(96+size)+len(m.cfg.Facts)), &j)
	m.sealer.Seal(b, kind)
	fx.Sends = append(fx.Sends, packet.Send{To: to, Bytes: b, Kind: kind})
}

// targets lists where Joins and probes go: every known daemon that may live, and configured addresses at which none
// is known. The result belongs to one Send.
func (m *Machine) targets(now time.Duration) []netip.AddrPort {
	clear(m.addrScratch)
	var to []netip.AddrPort
	add := func(a netip.AddrPort) {
		if _, dup := m.addrScratch[a]; !dup && a.IsValid() && !slices.Contains(m.ownAddrs, a) {
			m.addrScratch[a] = struct{}{}
			to = append(to, a)
		}
	}
	for _, s := range m.order {
		if r := m.rows[s]; s != 0 && r.usable() && !(r.kept && now-r.rowAt > m.windowOf(r)) {
			add(r.addr)
		}
	}
	for _, a := range m.cfg.Peers {
		add(a)
	}
	return to
}

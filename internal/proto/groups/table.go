// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"evensong/internal/proto/evs"
)

// change carries out a join, leave or disconnect at its place in the order.
func (m *Machine) change(sender evs.ProcID, service evs.Service, payload []byte, fx *Effects) {
	c, ok := parseChange(payload)
	if !ok {
		fx.drop(DropMalformed, sender)
		return
	}
	if service < evs.Causal {
		fx.drop(DropService, sender)
		return
	}
	if _, ok := m.index[sender]; !ok {
		fx.drop(DropSender, sender)
		return
	}
	s := m.sessions[sessionKey{sender, c.num}]
	if s != nil && s.User != string(c.user) || c.op != opDisconnect && !legalGroup(c.group) {
		fx.drop(DropName, sender)
		return
	}
	if c.op == opDisconnect {
		m.disconnect(s, sender, c.num, c.detail, fx)
		return
	}
	outcome := Done
	switch c.op {
	case opJoin:
		outcome = m.join(s, Member{Proc: sender, Session: c.num}, c.user, c.group, fx)
	case opLeave:
		outcome = m.leave(s, c.group, evs.DetailAsked, fx)
	case opEvict:
		outcome = m.evict(s, &c, fx)
	}
	if c.request != 0 {
		d := Delivery{Kind: KindAck, Request: c.request, Outcome: outcome, Group: string(c.group)}
		d.ID, _ = m.ViewID(d.Group)
		m.answer(sender, c.num, d, fx)
	}
}

// join adds a session to a group. Joining twice is ignored (client-protocol 4.1).
func (m *Machine) join(s *session, who Member, user, name []byte, fx *Effects) Outcome {
	g := m.groups[string(name)]
	if g == nil {
		g = &group{name: string(name)}
		m.groups[g.name], m.sorted = g, false
	}
	if s == nil {
		who.User = string(user)
		s = m.addSession(who)
	}
	i, found := slices.BinarySearchFunc(g.members, &s.Member, (*Member).compare)
	if found {
		return Unchanged
	}
	g.members = slices.Insert(g.members, i, &s.Member)
	s.addGroup(g)
	if l := m.openLocal(&s.Member); l != nil {
		g.addLocal(l)
	}
	m.changed(g, &s.Member, evs.CausedByJoin, evs.DetailAsked, fx)
	return Done
}

// leave takes a session out of a group and tells it so. Leaving a group one is not in is ignored (client-protocol 4.2).
func (m *Machine) leave(s *session, name []byte, why evs.Detail, fx *Effects) Outcome {
	g := m.groups[string(name)]
	if s == nil || g == nil || !m.remove(g, s) {
		return Unchanged
	}
	at := len(fx.Deliveries)
	if l := m.openLocal(&s.Member); l != nil && (l.notices || why == evs.DetailEvicted) {
		first := len(fx.sessions)
		fx.sessions = append(fx.sessions, l.num)
		fx.Deliveries = append(fx.Deliveries, Delivery{Kind: KindSelfLeave, Sessions: fx.since(first), Group: g.name, Detail: why})
	}
	had := len(fx.Deliveries) > at
	m.changed(g, &s.Member, evs.CausedByLeave, why, fx)
	if had {
		fx.Deliveries[at].ID = g.id
	}
	return Done
}

// evict is a forced leave, which only members may ask for, and which is void when the view that they saw has gone (VS-8).
func (m *Machine) evict(s *session, c *change, fx *Effects) Outcome {
	g := m.groups[string(c.group)]
	if g == nil || s == nil || !slices.Contains(g.members, &s.Member) {
		return Forbidden
	}
	if g.id != c.view {
		return Void
	}
	i := slices.IndexFunc(g.members, func(x *Member) bool { return x.Private == string(c.member) })
	if i < 0 {
		return Unchanged
	}
	x := g.members[i]
	return m.leave(m.sessions[sessionKey{x.Proc, x.Session}], c.group, evs.DetailEvicted, fx)
}

// disconnect takes a session out of all its groups, in the order of their names, and frees its name.
func (m *Machine) disconnect(s *session, sender evs.ProcID, num uint64, why evs.Detail, fx *Effects) {
	var mine *local
	if sender == m.cfg.Me {
		mine = m.local[num]
		m.Close(num) // in case the caller has not: nothing may follow a disconnect
	}
	if s != nil {
		for _, g := range slices.Clone(s.groups) {
			m.remove(g, s)
			m.changed(g, &s.Member, evs.CausedByDisconnect, why, fx)
		}
	}
	if mine != nil {
		delete(m.local, num)
		delete(m.byUser, mine.user)
		fx.Gone = append(fx.Gone, num)
	}
}

// changed makes the new view of a group from which who has gone or to which it has come.
func (m *Machine) changed(g *group, who *Member, cause evs.Cause, why evs.Detail, fx *Effects) {
	m.counter++
	g.id = viewID(m.idConf, m.conf.Representative(), m.counter)
	fx.Notes = append(fx.Notes, Note{
		Kind: NoteView, Proc: who.Proc, Group: g.name, ID: g.id, Cause: cause, Member: who.Private, Count: len(g.members),
	})
	if len(g.members) == 0 {
		delete(m.groups, g.name)
		m.sorted, m.routed = false, nil
		return
	}
	if g.signalled {
		m.interim(g, who, cause, why, fx)
		return
	}
	if hasNotices(g.locals) {
		v := &View{Group: g.name, ID: g.id, Cause: cause, Detail: why, Members: slices.Clone(g.members), Changed: who, Sets: [][]*Member{{who}}}
		m.deliverView(v, g.locals, 0, fx)
	}
	if cause == evs.CausedByJoin && m.state == Transitional && !m.came[who.Proc] {
		// The join was ordered on the old ring, by a daemon that is out of reach. The view says what the order says,
		// and it has ended already.
		m.signal(g, fx)
	}
}

// interim makes the view of a change after the group's signal, and signals again (guarantees 8.5.5, client-protocol
// 5.4). Members out of reach are still listed: the next configuration has not been agreed. Sets: who comes
// along, then one per daemon out of reach, and who joins now is alone at the end.
func (m *Machine) interim(g *group, who *Member, cause evs.Cause, why evs.Detail, fx *Effects) {
	if hasNotices(g.locals) {
		v := &View{Group: g.name, ID: g.id, Cause: evs.CausedByNetwork, Detail: why, Members: slices.Clone(g.members), Changed: who}
		var together, joined []*Member
		var apart [][]*Member
		for _, x := range g.members {
			switch {
			case cause == evs.CausedByJoin && x == who:
				joined = []*Member{x}
			case m.came[x.Proc]:
				together = append(together, x)
			case len(apart) > 0 && apart[len(apart)-1][0].Proc == x.Proc:
				apart[len(apart)-1] = append(apart[len(apart)-1], x)
			default:
				apart = append(apart, []*Member{x})
			}
		}
		if together != nil {
			v.Sets = append(v.Sets, together)
		}
		v.Sets = append(v.Sets, apart...)
		var newcomer *local
		if joined != nil {
			v.Sets = append(v.Sets, joined)
			newcomer = m.openLocal(who)
		}
		for i, l := range g.locals {
			if l == newcomer {
				m.deliverView(v, g.locals[:i], 0, fx)
				m.deliverView(v, g.locals[i:i+1], len(v.Sets)-1, fx)
				m.deliverView(v, g.locals[i+1:], 0, fx)
			}
		}
		if newcomer == nil {
			m.deliverView(v, g.locals, 0, fx)
		}
	}
	m.signal(g, fx)
}

// signal tells the local members that the group's view has ended (client-protocol 5.4, GRP-7).
func (m *Machine) signal(g *group, fx *Effects) {
	g.signalled = true
	first := len(fx.sessions)
	noteRecipients(g.locals, fx)
	if len(fx.sessions) > first {
		fx.Deliveries = append(fx.Deliveries, Delivery{Kind: KindSignal, Sessions: fx.since(first), Group: g.name, ID: g.id})
	}
}

func (m *Machine) deliverView(v *View, to []*local, own int, fx *Effects) {
	first := len(fx.sessions)
	noteRecipients(to, fx)
	if len(fx.sessions) > first {
		fx.Deliveries = append(fx.Deliveries, Delivery{
			Kind: KindView, Sessions: fx.since(first), Group: v.Group, ID: v.ID, View: v, Own: own,
		})
	}
}

func noteRecipients(to []*local, fx *Effects) {
	for _, l := range to {
		if l.notices {
			fx.sessions = append(fx.sessions, l.num)
		}
	}
}

func hasNotices(ls []*local) bool {
	return slices.ContainsFunc(ls, func(l *local) bool { return l.notices })
}

// remove takes a session out of a group; the group may be empty then. It reports whether the session was in it.
func (m *Machine) remove(g *group, s *session) bool {
	i, found := slices.BinarySearchFunc(g.members, &s.Member, (*Member).compare)
	if !found {
		return false
	}
	g.members = slices.Delete(g.members, i, i+1)
	if l := m.openLocal(&s.Member); l != nil {
		g.dropLocal(l)
	}
	j, _ := slices.BinarySearchFunc(s.groups, g.name, compareName)
	if s.groups = slices.Delete(s.groups, j, j+1); len(s.groups) == 0 {
		delete(m.sessions, sessionKey{s.Proc, s.Session})
	}
	return true
}

// restrict takes out of the table everybody who is not on a daemon of the table set. What is left are the previous
// views of the exchange. Whoever goes here was out of reach in the transitional configuration, so the group has been
// signalled: members(t) are all in the next regular configuration (EVS-7).
func (m *Machine) restrict() {
	here := make(map[evs.ProcID]bool, len(m.peers))
	for _, p := range m.peers {
		here[p] = true
	}
	for name, g := range m.groups { // order does not matter: nothing leaves the machine
		n := len(g.members)
		g.members = slices.DeleteFunc(g.members, func(x *Member) bool { return !here[x.Proc] })
		if len(g.members) < n && !g.signalled {
			panic(fmt.Sprintf("groups: %q loses members without a signal (EVS-7, GRP-7)", name))
		}
		if len(g.members) == 0 {
			delete(m.groups, name)
			m.sorted, m.routed = false, nil
		}
	}
	for k := range m.sessions {
		if !here[k.proc] {
			delete(m.sessions, k)
		}
	}
}

func (m *Machine) addSession(who Member) *session {
	who.Private = privateName(who.User, who.Proc)
	who.Short = evs.ShortPrivate(who.Private, who.User, who.Session, who.Proc.Name)
	s := &session{Member: who}
	m.sessions[sessionKey{who.Proc, who.Session}] = s
	return s
}

func (s *session) addGroup(g *group) {
	i, _ := slices.BinarySearchFunc(s.groups, g.name, compareName)
	s.groups = slices.Insert(s.groups, i, g)
}

func compareName(g *group, name string) int { return strings.Compare(g.name, name) }

// openLocal is the open session of this daemon that x is, or nil.
func (m *Machine) openLocal(x *Member) *local {
	if x.Proc != m.cfg.Me {
		return nil
	}
	if l := m.local[x.Session]; l != nil && !l.closed {
		return l
	}
	return nil
}

// addLocal makes an open session of this daemon a recipient of g. Recipients are in the order of members.
func (g *group) addLocal(l *local) {
	i, _ := slices.BinarySearchFunc(g.locals, l, (*local).compare)
	g.locals = slices.Insert(g.locals, i, l)
}

func (l *local) compare(k *local) int { return cmpMember(0, l.user, k.user, l.num, k.num) }

func (g *group) dropLocal(l *local) {
	if i := slices.Index(g.locals, l); i >= 0 {
		g.locals = slices.Delete(g.locals, i, i+1)
	}
}

// viewID makes the three words of a view's id: two name the configuration, the third is the index (client-protocol
// 5.2). rep is the representative of a regular configuration. An index beyond 32 bits goes on in the first word.
func viewID(conf evs.ConfID, rep evs.ProcID, index uint64) evs.ViewID {
	h := fnv.New64a()
	var b [8]byte
	put := func(x uint64) {
		binary.LittleEndian.PutUint64(b[:], x)
		h.Write(b[:])
	}
	put(uint64(conf.Kind))
	if index>>32 != 0 {
		put(index >> 32)
	}
	if conf.Kind == evs.Regular {
		put(uint64(rep.Rank))
		put(uint64(rep.Inc))
		put(conf.New.Seq >> 32)
		h.Write([]byte(rep.Name))
		x := h.Sum64()
		return evs.ViewID{uint32(x ^ x>>32), uint32(conf.New.Seq), uint32(index)}
	}
	// Two sides of a cut differ in the first word, which hashes where they go; the others are those of the ring that
	// they leave, with the index going on, so that ids rise at each member.
	put(conf.Old.Seq)
	put(uint64(conf.Old.Rep))
	put(conf.New.Seq)
	put(uint64(conf.New.Rep))
	x := h.Sum64()
	return evs.ViewID{uint32(x ^ x>>32), uint32(conf.Old.Seq), uint32(index)}
}

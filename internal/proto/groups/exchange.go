// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"cmp"
	"slices"
	"strings"

	"evensong/internal/proto/evs"
)

// exchange is what has come of the states for the present configuration (guarantees 8.5). It is empty outside of it.
type exchange struct {
	streams []*stream // by their first daemon
	covered []bool    // by index in the configuration: a complete state speaks for this daemon
	left    int       // how many are not covered

	// queue holds what passed the last state, in order of delivery; payloads are copies.
	queue      []queued
	queueBytes int
}

// stream is the state of one table set, as far as it has come.
type stream struct {
	cover  []uint16
	next   uint32 // part expected
	done   bool
	groups []stateGroup
}

type queued struct {
	sender  evs.ProcID
	service evs.Service
	payload []byte
}

// beginExchange sends the table, if it is on us to speak for its daemons, and waits for all states. A table set gets
// its own state through the order like any other, so that the result depends on nothing but the order.
func (m *Machine) beginExchange(fx *Effects) {
	n := len(m.conf.Members)
	m.ex = exchange{covered: make([]bool, n), left: n}
	fx.Notes = append(fx.Notes, Note{Kind: NoteExchange, Ring: m.conf.ID.New, Count: len(m.peers), Proc: m.peers[0]})
	if m.peers[0] != m.cfg.Me {
		return
	}
	cover := make([]uint16, len(m.peers))
	for i, p := range m.peers {
		cover[i] = uint16(m.index[p])
	}
	for _, p := range encodeState(m.conf.ID.New, cover, m.ownState(), m.cfg.StateBytes) {
		fx.Submits = append(fx.Submits, Submit{Service: evs.Agreed, Payload: p})
	}
}

// ownState is the table as a state: groups by name, with previous view id and whether that view has ended.
func (m *Machine) ownState() []stateGroup {
	out := make([]stateGroup, 0, len(m.groups))
	for _, name := range m.sortedGroups() {
		g := m.groups[name]
		sg := stateGroup{name: name, id: g.id, signalled: g.signalled, members: make([]stateMember, len(g.members))}
		for i, x := range g.members {
			sg.members[i] = stateMember{uint16(m.index[x.Proc]), x.Session, x.User}
		}
		out = append(out, sg)
	}
	return out
}

// abort forgets an exchange that a configuration change cut short (P-29). The states in it described daemons that may
// be together no more; the next exchange sends all anew.
func (m *Machine) abort(fx *Effects) {
	fx.Notes = append(fx.Notes, Note{Kind: NoteAbort, Ring: m.conf.ID.New, Count: m.ex.left})
	for _, q := range m.ex.queue {
		fx.drop(DropAborted, q.sender)
	}
	m.ex = exchange{}
}

// enqueue keeps a message that came before the last state.
func (m *Machine) enqueue(sender evs.ProcID, service evs.Service, payload []byte, fx *Effects) {
	if service >= evs.Causal {
		fx.Notes = append(fx.Notes, Note{Kind: NoteUnready, Proc: sender})
	}
	if m.ex.queueBytes+len(payload) > MaxQueueBytes {
		fx.drop(DropQueueFull, sender)
		return
	}
	m.ex.queueBytes += len(payload)
	m.ex.queue = append(m.ex.queue, queued{sender, service, slices.Clone(payload)})
}

// handleState takes a part of a state. The part that completes the last state ends the exchange.
func (m *Machine) handleState(sender evs.ProcID, service evs.Service, payload []byte, fx *Effects) {
	if service < evs.Causal {
		fx.drop(DropService, sender)
		return
	}
	ring, ok := parseStateRing(payload)
	if !ok {
		fx.drop(DropMalformed, sender)
		return
	}
	if m.state != Exchange || ring != m.conf.ID.New {
		fx.drop(DropStaleState, sender)
		return
	}
	from, ok := m.index[sender]
	if !ok {
		fx.drop(DropSender, sender)
		return
	}
	p, ok := parseState(payload, len(m.conf.Members))
	if !ok {
		fx.drop(DropMalformed, sender)
		return
	}
	if int(p.cover[0]) != from {
		fx.drop(DropSender, sender)
		return
	}
	if !m.addPart(&p) {
		fx.drop(DropStatePart, sender)
		return
	}
	if m.ex.left == 0 {
		m.complete(fx)
	}
}

// addPart appends a part to its stream. It reports false, and changes nothing, if the part does not follow what came
// before, or speaks for daemons that another state speaks for.
func (m *Machine) addPart(p *statePart) bool {
	i, found := slices.BinarySearchFunc(m.ex.streams, p.cover[0], func(s *stream, d uint16) int { return cmp.Compare(s.cover[0], d) })
	if !found {
		for _, s := range m.ex.streams {
			if slices.ContainsFunc(p.cover, func(d uint16) bool { return slices.Contains(s.cover, d) }) {
				return false
			}
		}
		if p.part != 0 {
			return false
		}
		m.ex.streams = slices.Insert(m.ex.streams, i, &stream{cover: p.cover})
	}
	s := m.ex.streams[i]
	if s.done || p.part != s.next || !slices.Equal(p.cover, s.cover) {
		return false
	}
	add := p.groups
	if len(s.groups) > 0 && len(add) > 0 {
		last, first := &s.groups[len(s.groups)-1], &add[0]
		switch {
		case first.name > last.name:
		case first.name == last.name && first.id == last.id && first.signalled == last.signalled &&
			last.members[len(last.members)-1].compare(first.members[0]) < 0:
			last.members = append(last.members, first.members...)
			add = add[1:]
		default:
			return false
		}
	}
	s.groups = append(s.groups, add...)
	s.next++
	if p.last {
		s.done = true
		for _, d := range s.cover {
			m.ex.covered[d] = true
			m.ex.left--
		}
	}
	return true
}

// complete makes the table of the configuration out of the states and delivers the views that it brings, in the order
// of the groups' names (guarantees 8.5.4). A group that one table set brings whole, all members of its last view
// included, keeps its view and nobody is told (client-protocol 5.2).
func (m *Machine) complete(fx *Effects) {
	ex := m.ex
	m.ex = exchange{}
	m.checkOwn(ex.streams, fx)

	type part struct {
		stateGroup
		set int
	}
	var parts []part
	for i, s := range ex.streams {
		for _, g := range s.groups {
			parts = append(parts, part{g, i})
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.set, b.set))
	})

	m.groups, m.sorted, m.routed = make(map[string]*group, len(parts)), false, nil
	m.sessions = make(map[sessionKey]*session, len(m.sessions))
	m.peers = slices.Clone(m.conf.Members)
	m.enter(Stable)
	m.tellPrimary(m.conf.Primary, fx)
	mine := uint16(m.index[m.cfg.Me])
	network := viewID(m.conf.ID, m.conf.Representative(), 1)
	for len(parts) > 0 {
		n := 1
		for n < len(parts) && parts[n].name == parts[0].name {
			n++
		}
		g := &group{name: parts[0].name, id: parts[0].id}
		m.groups[g.name] = g
		sets, own := make([][]*Member, n), -1
		for i, p := range parts[:n] {
			sets[i] = m.addMembers(g, p.members)
			if slices.Contains(ex.streams[p.set].cover, mine) {
				own = i
			}
		}
		if n > 1 {
			slices.SortFunc(g.members, (*Member).compare)
		}
		for _, x := range g.members {
			if l := m.openLocal(x); l != nil {
				g.addLocal(l)
			}
		}
		if n > 1 || parts[0].signalled {
			g.id = network
			fx.Notes = append(fx.Notes, Note{
				Kind: NoteView, Group: g.name, ID: g.id, Cause: evs.CausedByNetwork, Count: len(g.members),
			})
			if hasNotices(g.locals) {
				v := &View{Group: g.name, ID: g.id, Cause: evs.CausedByNetwork, Detail: m.why, Members: slices.Clone(g.members), Sets: sets}
				m.deliverView(v, g.locals, own, fx)
			}
		}
		parts = parts[n:]
	}
	m.why = evs.DetailNone
	fx.Ready = true
	fx.Notes = append(fx.Notes, Note{Kind: NoteReady, Ring: m.conf.ID.New, Count: len(m.groups)})
	for _, q := range ex.queue {
		m.HandleMessage(q.sender, q.service, q.payload, fx)
	}
}

// addMembers adds what one table set brings to a group and returns it.
func (m *Machine) addMembers(g *group, members []stateMember) []*Member {
	set := make([]*Member, 0, len(members))
	for _, x := range members {
		proc := m.conf.Members[x.daemon]
		s := m.sessions[sessionKey{proc, x.session}]
		if s == nil {
			s = m.addSession(Member{Proc: proc, Session: x.session, User: x.user})
		}
		s.groups = append(s.groups, g) // groups come in the order of names
		set = append(set, &s.Member)
	}
	g.members = append(g.members, set...)
	return set
}

// checkOwn compares what was sent for our table set with our table. All of the set go on with what was sent, so they
// stay equal even if one of them had gone astray; but that one has told its clients something else, hence the note.
func (m *Machine) checkOwn(streams []*stream, fx *Effects) {
	mine := uint16(m.index[m.cfg.Me])
	for _, s := range streams {
		if !slices.Contains(s.cover, mine) {
			continue
		}
		same := len(s.cover) == len(m.peers)
		for i, d := range s.cover {
			same = same && m.peers[i] == m.conf.Members[d]
		}
		same = same && slices.EqualFunc(s.groups, m.ownState(), func(a, b stateGroup) bool {
			return a.name == b.name && a.id == b.id && a.signalled == b.signalled && slices.Equal(a.members, b.members)
		})
		if !same {
			fx.Notes = append(fx.Notes, Note{Kind: NoteDiverged, Proc: m.conf.Members[s.cover[0]], Ring: m.conf.ID.New})
		}
	}
}

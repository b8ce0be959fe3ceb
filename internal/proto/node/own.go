// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/groups"
	"evensong/internal/proto/session"
)

// Sessions that speak Evensong's own dialect (docs/wire/own-dialect.md) are sessions like all others. What is different:
// the welcome, requests with answers, queries, another encoding of deliveries, and a last word before the end.

// allUnfinished bounds what all sessions together may hold of messages that have arrived only in part. A session that adds
// to it beyond that ends (session.ReasonUnfinished).
const allUnfinished = 256 << 20

// ownStream names the pieces of what a daemon sends: one body is under way at a time.
const ownStream = 1

// welcome accepts a client (own-dialect 2.4).
func (m *Machine) welcome(now time.Duration, c *conn, info *session.Info, fx *Effects) {
	m.owns++
	w := frame.OwnWelcomeInfo{
		Version: frame.OwnVersion, PingMillis: uint32(info.Ping / time.Millisecond), MessageLimit: uint32(info.MessageLimit),
		GroupsLimit: frame.MaxOwnGroups, Session: c.id, Private: info.Private,
		Short:  evs.ShortPrivate(info.Private, c.user, c.id, m.cfg.Me.Name),
		Daemon: m.cfg.Me.Name, Program: m.cfg.Program, Cluster: m.cfg.Cluster, Capabilities: info.Capabilities, Daemons: m.others(),
	}
	b := frame.AppendOwnWelcome(nil, &w)
	if wantsPrimary(c) {
		b = frame.AppendOwnPrimary(b, m.groups.Primary())
	}
	m.say(now, c, b, fx)
}

// wantsPrimary reports whether a session is told about primary configurations.
func wantsPrimary(c *conn) bool {
	return c.session.Own() && slices.Contains(c.session.Info().Capabilities, frame.OwnCapPrimary)
}

// tellPrimary tells all who want to know whether what follows belongs to a primary configuration, also those without groups:
// a group whose members all stay sees nothing else of a change of configuration.
func (m *Machine) tellPrimary(now time.Duration, p evs.Primary, fx *Effects) {
	var e session.Extent
	encoded := false
	for _, c := range m.ownSessions() {
		if !wantsPrimary(c) {
			continue
		}
		if !encoded {
			encoded = true
			m.stats.Encoded++
			e = m.arena.End(frame.AppendOwnPrimary(m.arena.Begin(frame.OwnPrimarySize), p))
		}
		if m.push(now, c, e, fx) {
			m.stats.Deliveries++
		}
	}
}

// say queues bytes that no limit sees: answers of the handshake, and last words.
func (m *Machine) say(now time.Duration, c *conn, b []byte, fx *Effects) {
	if c.queue.Bytes() == 0 {
		c.moved = now
	}
	c.queue.PushHandshake(m.arena.End(append(m.arena.Begin(len(b)), b...)))
	m.list(c, fx)
}

// tell queues an answer to an open session, within its limits.
func (m *Machine) tell(now time.Duration, c *conn, e session.Extent, fx *Effects) {
	if c.queue.Bytes() == 0 {
		c.moved = now
	}
	if v := c.queue.PushFrames(e); v != session.Queued {
		c.session.Close(now, v.Reason(), &m.sfx)
		return
	}
	m.queued(now, c, fx)
	m.list(c, fx)
}

// sayOwn queues what the session itself says. A last word follows the frame that is being written.
func (m *Machine) sayOwn(now time.Duration, c *conn, fx *Effects) {
	s := &m.sfx
	if c.open && s.Close == session.Running && len(s.Out) > 0 {
		b := s.Out
		m.tell(now, c, m.arena.End(append(m.arena.Begin(len(b)), b...)), fx)
		if s.Close == session.Running {
			s.Out = s.Out[:0]
			return
		}
		s.Out = append(s.Out[:0], s.Out[len(b):]...) // all but the last word is lost
	}
	if len(s.Out) == 0 {
		return
	}
	if s.Close != session.Running {
		if !wanted(c, s.Close) {
			c.queue.DropTail()
		}
		c.lastWord = true
	}
	m.say(now, c, s.Out, fx)
	s.Out = s.Out[:0]
}

// ownRequest carries out what only clients of the own dialect can ask for.
func (m *Machine) ownRequest(now time.Duration, c *conn, op *session.Op, fx *Effects) {
	switch op.Kind {
	case session.OpEvict:
		p, buf := m.order.Begin(c.id, evs.Agreed)
		m.order.End(p, groups.AppendEvict(buf, &groups.Change{
			Session: c.id, User: c.user, Group: string(op.Group), Member: string(op.Member), View: op.View, Request: op.Request,
		}))
		m.wake = true
	case session.OpListGroups:
		m.listGroups(now, c, op, fx)
	case session.OpListMembers:
		m.listMembers(now, c, op, fx)
	case session.OpPing:
		if c.queue.Bytes() == 0 {
			var token [8]byte
			binary.LittleEndian.PutUint64(token[:], uint64(now))
			b := frame.AppendOwnPing(m.arena.Begin(frame.OwnHeaderSize+8), token)
			m.tell(now, c, m.arena.End(b), fx)
		}
	default:
		panic("node: no request of the own dialect: " + op.Kind.String())
	}
}

// queryFlags are those of every answer.
func (m *Machine) queryFlags() (f frame.OwnQueryFlags) {
	if s := m.groups.State(); s != groups.Stable {
		f = frame.OwnQuerySettling
	}
	return f
}

// listGroups answers with a page of groups.
func (m *Machine) listGroups(now time.Duration, c *conn, op *session.Op, fx *Effects) {
	l := frame.OwnGroupList{Request: op.Request, Flags: m.queryFlags()}
	bytes := 0
	for _, name := range m.groups.GroupsAfter(string(op.Group)) {
		if ok, _ := m.maySee(c, name); !ok {
			continue
		}
		members, _ := m.groups.Size(name)
		e := frame.OwnGroupEntry{Name: name, Members: uint32(members)}
		if bytes += e.Size(); bytes > frame.OwnPage || op.Most > 0 && len(l.Groups) == op.Most {
			l.Flags |= frame.OwnQueryMore
			break
		}
		e.View, _ = m.groups.ViewID(name)
		l.Groups = append(l.Groups, e)
	}
	m.tell(now, c, m.arena.End(frame.AppendOwnGroups(m.arena.Begin(l.Size()), &l)), fx)
}

// maxPage is more members than a page can have.
const maxPage = frame.OwnPage / len("\x05#a#b")

// maySee reports whether a client may know who is in a group: a member may, others if the access rules say so.
func (m *Machine) maySee(c *conn, group string) (ok bool, by *access.Rule) {
	if ok, by = c.session.May(access.See, []byte(group)); !ok && m.groups.IsMember(c.id, group) {
		return true, nil
	}
	return ok, by
}

// listMembers answers with a page of members.
func (m *Machine) listMembers(now time.Duration, c *conn, op *session.Op, fx *Effects) {
	if ok, by := m.maySee(c, string(op.Group)); !ok {
		m.refuse(now, c, &session.Op{At: access.See, Rule: by, Group: op.Group, Request: op.Request, Frame: frame.OwnListMembers}, fx)
		return
	}
	l := frame.OwnMemberList{Request: op.Request, Flags: m.queryFlags(), First: op.First}
	n := maxPage
	if op.Most > 0 {
		n = min(n, op.Most)
	}
	page, total := m.groups.MembersFrom(string(op.Group), op.First, n)
	if total == 0 {
		l.Flags |= frame.OwnQueryNone
	}
	l.Total = uint32(total)
	l.View, _ = m.groups.ViewID(string(op.Group))
	bytes := 0
	for _, x := range page {
		if bytes += 1 + len(x.Private); bytes > frame.OwnPage {
			break
		}
		l.Members = append(l.Members, x.Private)
	}
	if int64(l.First)+int64(len(l.Members)) < int64(l.Total) {
		l.Flags |= frame.OwnQueryMore
	}
	m.tell(now, c, m.arena.End(frame.AppendOwnMembers(m.arena.Begin(l.Size()), &l)), fx)
}

// encodeOwn writes a delivery in the own dialect.
func (m *Machine) encodeOwn(d *groups.Delivery) []byte {
	switch d.Kind {
	case groups.KindData:
		buf := m.arena.Begin(frame.OwnSize(frame.OwnMessageBody(d.Sender, d.Data.Groups, len(d.Data.Body))))
		return frame.AppendOwnMessage(buf, ownStream, frame.Type(d.Data.Type), d.Data.Hint, d.Sender, d.Data.Groups, d.Data.Body)
	case groups.KindView:
		v := ownView(d)
		return frame.AppendOwnView(m.arena.Begin(v.Size()), ownStream, v)
	case groups.KindSignal:
		return frame.AppendOwnTransition(m.arena.Begin(frame.OwnTransitionSize(d.Group)), d.Group, d.ID)
	case groups.KindSelfLeave:
		return frame.AppendOwnSelfLeave(m.arena.Begin(frame.OwnSelfLeaveSize(d.Group)), d.Group, d.ID, d.Detail)
	case groups.KindAck:
		return frame.AppendOwnAck(m.arena.Begin(frame.OwnAckSize), frame.OwnAckInfo{Request: d.Request, Status: frame.OwnStatus(d.Outcome), View: d.ID})
	case groups.KindReceipt:
		return frame.AppendOwnReceipt(m.arena.Begin(frame.OwnReceiptSize), d.Request)
	}
	panic("node: impossible delivery " + d.Kind.String())
}

func ownView(d *groups.Delivery) *frame.OwnViewInfo {
	v := d.View
	f := &frame.OwnViewInfo{Group: v.Group, ID: v.ID, Cause: v.Cause, Detail: v.Detail, Members: make([]string, len(v.Members))}
	for i, x := range v.Members {
		f.Members[i] = x.Private
	}
	if v.Cause != evs.CausedByNetwork {
		f.Changed = v.Changed.Private
		return f
	}
	set := make(map[*groups.Member]uint32, len(v.Members))
	for i, s := range v.Sets {
		for _, x := range s {
			set[x] = uint32(i)
		}
	}
	f.Sets, f.Own, f.SetOf = uint32(len(v.Sets)), uint32(d.Own), make([]uint32, len(v.Members))
	for i, x := range v.Members {
		f.SetOf[i] = set[x]
	}
	return f
}

// originalNames are the destinations of a message as clients of the original see them: a name that does not fit is shown as one
// that nothing can have (docs/decisions/0006-long-names.md).
func originalNames(names [][]byte) [][]byte {
	for i := range names {
		if len(names[i]) <= frame.MaxGroupName {
			continue
		}
		out := append([][]byte(nil), names...)
		for k := i; k < len(out); k++ {
			if len(out[k]) > frame.MaxGroupName {
				h := fnv.New64a()
				h.Write(out[k])
				out[k] = fmt.Appendf(nil, "#long-%016x#", h.Sum64())
			}
		}
		return out
	}
	return names
}

// countUnfinished keeps the books of what sessions hold of messages in pieces, after c has given input.
func (m *Machine) countUnfinished(now time.Duration, c *conn, fx *Effects) {
	n := c.session.Unfinished()
	grew := n > c.unfinished
	m.unfinished += n - c.unfinished
	c.unfinished = n
	if grew && m.unfinished > m.mostUnfinished {
		c.session.Close(now, session.ReasonUnfinished, &m.sfx)
		m.perform(now, c, fx)
	}
}

// farewell tells the clients that understand it that the daemon stops.
func (m *Machine) farewell(now time.Duration, fx *Effects) {
	why := session.ReasonShutdown
	b := frame.AppendOwnClose(nil, &frame.OwnCloseInfo{Code: frame.ErrConnectionClosed, Reason: why.String(), Sentence: why.Sentence()})
	for _, c := range m.ownSessions() {
		m.say(now, c, b, fx)
	}
}

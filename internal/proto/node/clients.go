// SPDX-License-Identifier: Apache-2.0

package node

import (
	"container/heap"
	"fmt"
	"net/netip"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/groups"
	"evensong/internal/proto/session"
)

// lastBytes is how long the last bytes of a closed connection are kept for the shell to write.
const lastBytes = 2 * time.Second

// HandleAccept takes a new client connection and returns the number that it has from now on; numbers are never used
// twice. local says that it came by a Unix socket.
func (m *Machine) HandleAccept(now time.Duration, local bool, remote netip.AddrPort, fx *Effects) uint64 {
	m.begin(now, fx)
	m.lastID++
	peer := remote.Addr()
	if local {
		peer = netip.Addr{}
	}
	c := &conn{
		id:      m.lastID,
		session: session.New(m.sessions, peer, now),
		queue:   session.NewQueue(&m.pool, session.Limits{Bytes: m.cfg.SessionBytes, HardBytes: m.cfg.SessionHardBytes, Messages: m.cfg.SessionQueue}),
		peer:    remote,
		since:   now,
		moved:   now,
	}
	m.conns[c.id] = c
	m.stats.Accepted++
	// Sessions whose end waits for its place in the order count too, but apart, so that all clients can come again at once:
	// while there is no ring, a client that opens and closes in a loop would fill the memory with them (GRP-17).
	if len(m.conns) > m.cfg.MaxSessions || len(m.departed) >= m.cfg.MaxSessions {
		c.session.Close(now, session.ReasonQuota, &m.sfx)
		m.perform(now, c, fx)
	}
	m.arm(c, c.session.Deadline())
	m.finish(now, forSends, fx)
	return c.id
}

// HandleInput offers bytes that a client sent and returns how many were taken. If it took less than all, the rest must
// be offered again, with what follows, when Effects.Resumes lists the connection, which should not be read until then.
func (m *Machine) HandleInput(now time.Duration, id uint64, b []byte, fx *Effects) int {
	m.begin(now, fx)
	c := m.conns[id]
	if c == nil || c.closing {
		return len(b)
	}
	taken := 0
	for {
		n := c.session.HandleInput(now, b[taken:], m.roomNow(now, c), &m.sfx)
		taken += n
		m.pace(now, c, n)
		ops := len(m.sfx.Ops)
		m.perform(now, c, fx)
		if m.refused {
			m.refused = false
			m.relieve(now, fx)
		}
		m.countUnfinished(now, c, fx)
		// A name was decided, or a message made room necessary: go on as long as something moves.
		if c.closing || taken == len(b) || n == 0 && ops == 0 {
			break
		}
	}
	if c.closing {
		taken = len(b)
	}
	if taken < len(b) && !c.stalled {
		c.stalled = true
		m.stalled = append(m.stalled, c)
		m.stats.InputStalls++
	}
	m.arm(c, c.session.Deadline())
	m.finish(now, forSends, fx)
	return taken
}

// room is how many bytes of frames may be taken from c now.
func (m *Machine) room(c *conn) int {
	if m.blocking() {
		return 0
	}
	return min(m.cfg.InputBytes-m.order.Queued(c.id), allInputBytes-m.order.QueuedAll())
}

// resume lists the connections whose input has room again. Half the budget must be free, so that reading and
// stopping do not alternate for every message.
func (m *Machine) resume(now time.Duration, fx *Effects) {
	kept := m.stalled[:0]
	for _, c := range m.stalled {
		if !c.closing && (m.room(c) < m.cfg.InputBytes/2 || c.paced(now)) {
			kept = append(kept, c)
			continue
		}
		c.stalled = false
		if !c.closing {
			fx.Resumes = append(fx.Resumes, c.id)
		}
	}
	clear(m.stalled[len(kept):])
	m.stalled = kept
}

// HandleEnd tells that a client will say no more, though it may still read: it gets what waits for it, then Effects.Closes
// lists it.
func (m *Machine) HandleEnd(now time.Duration, id uint64, fx *Effects) {
	m.begin(now, fx)
	c := m.conns[id]
	if c == nil || c.closing {
		return
	}
	c.session.HandleClosed(now, &m.sfx)
	m.perform(now, c, fx)
	m.finish(now, forSends, fx)
}

// HandleClosed tells that a connection is gone, and that nobody takes what waits for it.
func (m *Machine) HandleClosed(now time.Duration, id uint64, fx *Effects) {
	m.begin(now, fx)
	c := m.conns[id]
	if c == nil {
		return
	}
	if !c.closing {
		c.session.HandleClosed(now, &m.sfx)
		m.perform(now, c, fx)
	}
	if m.conns[id] != nil {
		m.forget(c)
	}
	m.finish(now, forSends, fx)
}

// Output appends to dst what must be written to a connection next, at most max slices. They stay valid until
// HandleWritten or the next Output of that connection.
func (m *Machine) Output(id uint64, dst [][]byte, max int) [][]byte {
	c := m.conns[id]
	if c == nil {
		return dst
	}
	if c.queue.InFlight() {
		c.queue.Written(0)
	}
	return c.queue.Vec(dst, max)
}

// HandleWritten tells that n bytes of what Output gave were written.
func (m *Machine) HandleWritten(now time.Duration, id uint64, n int, fx *Effects) {
	c := m.conns[id]
	if c == nil || !c.queue.InFlight() {
		return
	}
	c.queue.Written(n)
	if n > 0 {
		m.progress(now, c, fx)
	}
	if c.closing && c.queue.Bytes() == 0 {
		m.forget(c)
	}
}

// perform carries out what a session asked for.
func (m *Machine) perform(now time.Duration, c *conn, fx *Effects) {
	s := &m.sfx
	for i := 0; i < len(s.Ops); i++ {
		op := &s.Ops[i]
		switch op.Kind {
		case session.OpName:
			m.decideName(now, c, op.Name)
		case session.OpEstablished:
			c.open = true
			m.groups.Open(c.id, c.user, op.Info.Membership)
			version := op.Info.Version.String()
			if c.session.Own() {
				m.welcome(now, c, op.Info, fx)
				version = op.Info.Program
			}
			attrs := []evs.Attr{{Key: "session", Value: op.Info.Private}, {Key: "version", Value: version}, {Key: "name", Value: c.session.Proved()}}
			if cert, secure := c.session.TLS(); secure {
				attrs = append(attrs, evs.Attr{Key: "certificate", Value: cert})
			}
			fx.Notes = append(fx.Notes, evs.Note{Level: evs.Debug, Text: "client connected", Attrs: attrs})
		case session.OpJoin:
			p, buf := m.order.Begin(c.id, evs.Agreed)
			m.order.End(p, groups.AppendJoinRequest(buf, change(c, op)))
			m.wake = true
		case session.OpLeave:
			p, buf := m.order.Begin(c.id, evs.Agreed)
			m.order.End(p, groups.AppendLeaveRequest(buf, change(c, op)))
			m.wake = true
		case session.OpMulticast:
			m.multicast(c, op)
		case session.OpRefused:
			m.refuse(now, c, op, fx)
		case session.OpKill:
		case session.OpEvict, session.OpListGroups, session.OpListMembers, session.OpPing:
			m.ownRequest(now, c, op, fx)
		}
	}
	m.answer(now, c, fx)
	for i := range s.Notes {
		n := &s.Notes[i]
		fx.Notes = append(fx.Notes, evs.Note{Level: evs.Warn, Text: n.Kind.String(), Attrs: []evs.Attr{{Key: "session", Value: c.session.Info().Private}, {Key: "group", Value: string(n.Group)}}})
	}
	why := s.Close
	s.Reset()
	if why != session.Running {
		m.close(now, c, why, fx)
	}
}

// answer queues what the session itself says to its client.
func (m *Machine) answer(now time.Duration, c *conn, fx *Effects) {
	if s := &m.sfx; c.session.Own() {
		m.sayOwn(now, c, fx)
	} else if len(s.Out) > 0 {
		c.queue.PushHandshake(m.arena.End(append(m.arena.Begin(len(s.Out)), s.Out...)))
		s.Out = s.Out[:0]
		m.list(c, fx)
	}
}

// change is a join or leave as the group layer wants it.
func change(c *conn, op *session.Op) *groups.Change {
	return &groups.Change{Session: c.id, User: c.user, Group: string(op.Group), Request: op.Request}
}

// multicast hands a client's message to the order.
func (m *Machine) multicast(c *conn, op *session.Op) {
	m.scope = m.scope[:0]
	for _, g := range op.Groups.All() {
		m.scope = append(m.scope, g)
	}
	for g := range op.Names.All() {
		m.scope = append(m.scope, g)
	}
	d := groups.Data{Session: c.id, Sender: c.user, Type: uint32(op.Type), Hint: op.Hint, Groups: m.scope, Body: op.Data, Request: op.Request}
	p, buf := m.order.Begin(c.id, op.Service)
	m.order.End(p, groups.AppendData(buf, &d))
	m.wake = true
}

// decideName answers a client's wish for a private name (client-protocol 2.1, rules 6 and 9).
func (m *Machine) decideName(now time.Duration, c *conn, name string) {
	if name == "" {
		for name == "" || m.names[name] != 0 {
			name = fmt.Sprintf("r%d-%d", m.rnd.IntN(9999), c.id%1000)
		}
	} else if m.names[name] != 0 {
		c.session.NameDecided(now, name, frame.ErrRejectNotUnique, &m.sfx)
		return
	}
	c.user = name
	m.names[name] = c.id
	c.session.NameDecided(now, name, 0, &m.sfx)
}

// close ends a session: no more deliveries at once; for an accepted one the disconnect takes its place in the order,
// behind everything the client has sent (GRP-10).
func (m *Machine) close(now time.Duration, c *conn, why session.Reason, fx *Effects) {
	if c.closing {
		return
	}
	c.closing = true
	m.notOver(now, c)
	m.stats.Closed[why]++
	name := c.session.Info().Private
	if c.open {
		m.groups.Close(c.id)
		p, buf := m.order.Begin(c.id, evs.Agreed)
		m.order.End(p, groups.AppendDisconnect(buf, c.id, c.user, why.Cause()))
		m.order.CloseLane(c.id)
		m.departed[c.id] = c.user
		m.wake = true
		if !c.lastWord && !wanted(c, why) {
			c.queue.Discard()
		}
		if c.session.Own() {
			m.owns--
		}
	} else if c.user != "" {
		delete(m.names, c.user)
	}
	sentence := why.Sentence()
	if more := c.session.Detail(); more != "" {
		sentence += ": " + more
	}
	level := evs.Debug
	switch why {
	case session.ReasonKill, session.ReasonGone, session.ReasonGoneEarly, session.ReasonShutdown:
	default:
		level = evs.Warn
	}
	attrs := []evs.Attr{{Key: "session", Value: name}, {Key: "reason", Value: sentence}}
	if !c.open {
		attrs = append(attrs, peerAttr(c))
	}
	fx.Notes = append(fx.Notes, evs.Note{Level: level, Text: "client connection closed", Attrs: attrs})
	fx.Closes = append(fx.Closes, Close{Session: c.id, Reason: why, Name: name})
	if c.queue.Bytes() == 0 {
		m.forget(c)
		return
	}
	c.timer = 0
	m.arm(c, now+lastBytes)
}

// wanted reports whether what waits for c is still for its client when the session ends. More than its budget is not: it would
// be kept until the client has taken it, the time for that is over, or memory is short (relieve).
func wanted(c *conn, why session.Reason) bool { return why.Wanted() && !c.queue.Over() }

// forget drops a connection that is over. Nobody writes what Output gave last, though that was not said: its memory would
// count as lent for good.
func (m *Machine) forget(c *conn) {
	c.queue.Discard()
	if c.queue.InFlight() {
		c.queue.Written(0)
	}
	m.unfinished -= c.unfinished
	delete(m.conns, c.id)
}

// list notes that c has bytes to write.
func (m *Machine) list(c *conn, fx *Effects) {
	if !c.listed {
		c.listed = true
		fx.Outputs = append(fx.Outputs, c.id)
	}
}

// advanceSessions handles the sessions whose timers are due.
func (m *Machine) advanceSessions(now time.Duration, fx *Effects) {
	for len(m.timers) > 0 && m.timers[0].at <= now {
		t := heap.Pop(&m.timers).(timer)
		c := m.conns[t.id]
		if c == nil || c.timer != t.at {
			continue
		}
		c.timer = 0
		if c.closing {
			m.forget(c)
			continue
		}
		if d := c.session.Deadline(); d != 0 && now >= d {
			c.session.Advance(now, &m.sfx)
			m.perform(now, c, fx)
		}
		if !c.closing {
			m.arm(c, c.session.Deadline())
		}
		if c.over {
			m.advanceOver(now, t.at, c, fx)
		}
	}
}

// deliver encodes a delivery at most once in each dialect and puts it into the queues of its recipients.
func (m *Machine) deliver(now time.Duration, d *groups.Delivery, fx *Effects) {
	if d.Kind == groups.KindPrimary {
		m.tellPrimary(now, d.Primary, fx)
		m.endSlow(now, fx)
		return
	}
	m.deliverIn(now, d, false, fx)
	if m.owns > 0 {
		m.deliverIn(now, d, true, fx)
	}
	m.endSlow(now, fx)
}

// deliverIn delivers to the recipients that speak one of the dialects.
func (m *Machine) deliverIn(now time.Duration, d *groups.Delivery, own bool, fx *Effects) {
	var extent session.Extent
	encoded := false
	for _, id := range d.Sessions {
		c := m.conns[id]
		if c == nil || c.closing || c.session.Own() != own || d.Kind == groups.KindData && m.leaveOut(c, d.Service) {
			continue
		}
		if d.Kind == groups.KindSelfLeave && !own && !c.session.Info().Membership {
			continue // evicted; the original has no word for that, and the client wants to hear nothing of groups
		}
		if !encoded {
			encoded = true
			m.stats.Encoded++
			extent = m.extent(d, own)
		}
		if m.push(now, c, extent, fx) {
			m.stats.Deliveries++
		}
	}
}

// push queues what is for several sessions. One whose limit it would break is noted for endSlow.
func (m *Machine) push(now time.Duration, c *conn, e session.Extent, fx *Effects) bool {
	if c.queue.Bytes() == 0 {
		c.moved = now // from here on the peer has something to take
	}
	push := c.queue.Push
	if c.session.Own() {
		push = c.queue.PushFrames
	}
	if v := push(e); v != session.Queued {
		m.slow = append(m.slow, slow{c, v.Reason()})
		return false
	}
	m.queued(now, c, fx)
	m.list(c, fx)
	return true
}

// endSlow ends the sessions that could not take what was for them.
func (m *Machine) endSlow(now time.Duration, fx *Effects) {
	for _, s := range m.slow {
		s.conn.session.Close(now, s.why, &m.sfx)
		m.perform(now, s.conn, fx)
	}
	m.slow = m.slow[:0]
	m.relieve(now, fx)
}

// extent encodes a delivery in one of the dialects.
func (m *Machine) extent(d *groups.Delivery, own bool) session.Extent {
	if e, ok := m.adopt(d, own); ok {
		m.stats.Adopted++
		return e
	}
	if own {
		return m.arena.End(m.encodeOwn(d))
	}
	return m.arena.End(m.encode(d))
}

// draft is a message that was put together in memory of the pool.
type draft struct {
	payload []byte
	memory  *session.Draft
}

// adopt encodes a large message where it lies: its head goes before its data, over names that are not needed any more. So that is
// for the last dialect in which it is encoded.
func (m *Machine) adopt(d *groups.Delivery, own bool) (e session.Extent, ok bool) {
	if len(m.drafts) == 0 || d.Kind != groups.KindData || len(d.Data.Body) == 0 || !own && m.owns > 0 {
		return e, false
	}
	body := d.Data.Body
	for _, x := range m.drafts {
		if skip := len(x.payload) - len(body); skip >= 0 && &x.payload[len(x.payload)-1] == &body[len(body)-1] {
			if own {
				m.head, ok = frame.AppendOwnMessageHead(m.head[:0], frame.Type(d.Data.Type), d.Data.Hint, d.Sender, d.Data.Groups, len(body))
			} else {
				m.head, ok = frame.AppendRegularHead(m.head[:0], frame.Type(d.Data.Type), originalSender(d), d.Data.Hint, originalNames(d.Data.Groups), len(body)), true
			}
			if !ok {
				return e, false
			}
			return m.arena.Adopt(x.memory, m.head, skip, len(x.payload))
		}
	}
	return e, false
}

// originalSender is the sender of a message as clients of the original see it.
func originalSender(d *groups.Delivery) string {
	if len(d.Data.Sender) > frame.MaxUserName || !evs.FitsOriginal(d.Data.Sender) {
		return evs.ShortPrivate(d.Sender, d.Data.Sender, d.Data.Session, d.Sender[len(d.Data.Sender)+2:])
	}
	return d.Sender
}

// encode writes a delivery as clients of the original get it.
func (m *Machine) encode(d *groups.Delivery) []byte {
	switch d.Kind {
	case groups.KindData:
		names := originalNames(d.Data.Groups)
		buf := m.arena.Begin(frame.RegularNamesSize(len(names), len(d.Data.Body)))
		return frame.AppendRegularNames(buf, frame.Type(d.Data.Type), originalSender(d), d.Data.Hint, names, d.Data.Body)
	case groups.KindView:
		v := frameView(d.View)
		return frame.AppendView(m.arena.Begin(v.Size()), v, d.Own)
	case groups.KindSignal:
		return frame.AppendTransition(m.arena.Begin(frame.TransitionSize), d.Group, d.ID)
	case groups.KindSelfLeave:
		return frame.AppendSelfLeave(m.arena.Begin(frame.HeaderSize), d.Group)
	case groups.KindAck, groups.KindReceipt, groups.KindPrimary:
	}
	panic("node: no delivery for clients of the original: " + d.Kind.String())
}

// slow is a session that must end because it does not read.
type slow struct {
	conn *conn
	why  session.Reason
}

func frameView(v *groups.View) *frame.View {
	f := &frame.View{Group: v.Group, Cause: v.Cause, ID: v.ID, Members: make([]string, len(v.Members)), Sets: make([][]string, len(v.Sets))}
	for i, x := range v.Members {
		f.Members[i] = x.Short
	}
	for i, s := range v.Sets {
		f.Sets[i] = make([]string, len(s))
		for k, x := range s {
			f.Sets[i][k] = x.Short
		}
	}
	return f
}

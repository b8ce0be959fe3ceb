// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// Some clients of some schedules speak Evensong's own dialect. They are in the same groups as the others, and the same
// checkers judge them; what only the dialect promises is judged here, under the rule OWN:
//
//   - every join and leave is answered, behind its view or self-leave and with that view's id (W27);
//   - every message with a request number has one receipt;
//   - who asks is told whether the configuration is primary (PC-7, which the checkers judge);
//   - a member is evicted in the view that the evicting one saw, or not at all (VS-8), and is told.
//
// What they do is drawn apart, so that schedules without them stay what they were.

// ownShare is how many schedules have clients of the own dialect, and how many of the clients these are then.
const (
	ownShare  = 0.4
	ownOfThem = 0.4
)

// ownState is what a client of the own dialect keeps beside what every client has.
type ownState struct {
	asm      frame.OwnAssembly
	request  uint32
	pending  map[uint32]ownAsked
	receipts map[uint32]bool // requests of messages without a receipt so far
	closed   string          // why the daemon has closed the connection
}

type ownAsked struct {
	kind  frame.OwnType
	group int
}

// ownClients decides which clients speak the own dialect, and what they do besides.
func (w *World) ownClients(begin, end time.Duration) {
	r := w.dialect
	if r.Float64() >= ownShare {
		return
	}
	for _, c := range w.clients {
		if r.Float64() < ownOfThem {
			c.own = &ownState{}
		}
	}
	for range 6 {
		w.at(begin+time.Duration(r.Int64N(int64(end-begin))), w.evict)
	}
	for range 2 {
		w.at(begin+time.Duration(r.Int64N(int64(end-begin))), w.large)
	}
}

// someOwn draws a client of the own dialect that is connected, or nil.
func (w *World) someOwn() *client {
	var list []*client
	for _, c := range w.clients {
		if c.own != nil && c.state == clientOpen {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.dialect.IntN(len(list))]
}

// evict lets a member evict another one, which speaks the own dialect too: others are not told who did it.
func (w *World) evict() {
	c := w.someOwn()
	if c == nil {
		return
	}
	g := w.dialect.IntN(len(w.groups))
	if c.views[g] == nil {
		return
	}
	var victims []string
	for _, k := range w.clients {
		if k.own != nil && k.state == clientOpen && slices.Contains(c.views[g].Members, k.sess.Name) {
			victims = append(victims, k.sess.Name)
		}
	}
	if len(victims) == 0 {
		return
	}
	w.stats.Steps["evictions asked for"]++
	request := c.ask(frame.OwnEvict, g)
	c.push(frame.AppendOwnEvict(nil, request, c.views[g].ID, w.groups[g], victims[w.dialect.IntN(len(victims))]))
}

// large lets a client send a message that clients of the original could not.
func (w *World) large() {
	c := w.someOwn()
	if c == nil {
		return
	}
	service := evs.Service(1 + w.dialect.IntN(6))
	if c.multicast([]string{w.groups[w.dialect.IntN(len(w.groups))]}, service, 144_000+w.dialect.IntN(300_000), false) != 0 {
		w.stats.Steps["messages of over 144,000 bytes"]++
	}
}

// helloOwn begins a session.
func (c *client) helloOwn() {
	c.own = &ownState{asm: frame.OwnAssembly{Limit: frame.MaxOwnBody}, pending: map[uint32]ownAsked{}, receipts: map[uint32]bool{}}
	h := frame.OwnHello{
		Membership: !c.noViews, User: c.user, Program: "sim", Capabilities: []string{frame.OwnCapEvict, frame.OwnCapReceipt},
	}
	if c.w.voting {
		h.Capabilities = append(h.Capabilities, frame.OwnCapPrimary)
	}
	c.push(frame.AppendOwnChoice(h.Append(nil), frame.AuthNull))
}

// ask notes a request, whose number it returns.
func (c *client) ask(kind frame.OwnType, group int) uint32 {
	c.own.request++
	c.own.pending[c.own.request] = ownAsked{kind, group}
	return c.own.request
}

// readOwn takes apart what has arrived. It returns how much that was.
func (c *client) readOwn(b []byte) (at int) {
	cn := c.conn
	for c.conn == cn && len(b)-at >= frame.OwnHeaderSize {
		h, fault := frame.ParseOwnHeader(b[at:])
		if fault == frame.OwnFine && !h.Type.FromDaemon() {
			fault = frame.OwnFaultType
		}
		end := at + frame.OwnHeaderSize + h.Length
		if fault == frame.OwnFine && len(b) < end {
			return at
		}
		var t frame.OwnType
		var body []byte
		done := false
		if fault == frame.OwnFine {
			t, body, done, fault = c.own.asm.Add(h, b[at+frame.OwnHeaderSize:end])
		}
		if fault == frame.OwnFine && done {
			fault = c.frameOwn(t, body)
		}
		if fault != frame.OwnFine {
			c.w.fail("PROTOCOL", "%s: malformed %v: %v", c.sess.Name, h.Type, fault)
			return len(b)
		}
		at = end
	}
	return at
}

// frameOwn notes what was received.
func (c *client) frameOwn(t frame.OwnType, body []byte) frame.OwnFault {
	switch t {
	case frame.OwnMethods:
		_, fault := frame.ParseOwnMethods(body)
		return fault
	case frame.OwnWelcome:
		w, fault := frame.ParseOwnWelcome(body)
		if fault == frame.OwnFine {
			c.accepted(w.Private)
		}
		return fault
	case frame.OwnClose:
		x, fault := frame.ParseOwnClose(body)
		c.own.closed = x.Reason
		if fault == frame.OwnFine && c.state != clientOpen {
			c.refused(x.Code)
		}
		return fault
	case frame.OwnMessage:
		m, fault := frame.ParseOwnMessage(body)
		service, ok := m.Type.Service()
		if fault == frame.OwnFine && !ok {
			fault = frame.OwnFaultService
		}
		if fault == frame.OwnFine {
			c.got(string(m.Sender), m.Groups.Strings(), service, m.Hint.MessType(), m.Data)
		}
		return fault
	case frame.OwnView:
		v, fault := frame.ParseOwnView(body)
		if fault != frame.OwnFine {
			return fault
		}
		info := &evs.TraceViewInfo{ID: v.ID, Cause: v.Cause, Members: v.Members, Sets: [][]string{{v.Changed}}, Mine: int(v.Own)}
		if v.Sets > 0 {
			info.Sets = nil
			for i := range v.Sets {
				info.Sets = append(info.Sets, v.SetMembers(i))
			}
		}
		c.gotView(v.Group, info)
		return fault
	case frame.OwnTransition:
		group, id, fault := frame.ParseOwnTransition(body)
		c.record(evs.Trace{Kind: evs.TraceSignal, Group: string(group), View: &evs.TraceViewInfo{ID: id}})
		return fault
	case frame.OwnSelfLeave:
		group, _, why, fault := frame.ParseOwnSelfLeave(body)
		if fault == frame.OwnFine {
			c.gotSelfLeaveOwn(string(group), why)
		}
		return fault
	case frame.OwnAck:
		a, fault := frame.ParseOwnAck(body)
		if fault == frame.OwnFine {
			c.gotAck(a)
		}
		return fault
	case frame.OwnReceipt:
		request, fault := frame.ParseOwnReceipt(body)
		if fault == frame.OwnFine && !c.own.receipts[request] {
			c.w.fail("OWN", "%s got a receipt %d that it does not wait for", c.sess.Name, request)
		}
		delete(c.own.receipts, request)
		return fault
	case frame.OwnPrimary:
		p, fault := frame.ParseOwnPrimary(body)
		c.record(evs.Trace{Kind: evs.TracePrimary, Primary: p})
		return fault
	case frame.OwnDaemons:
		_, fault := frame.ParseOwnDaemons(body)
		return fault
	default:
	}
	return frame.OwnFaultType
}

// gotSelfLeaveOwn is the end of a membership. One that was evicted has not asked for it; the history says that it left, so
// that the checkers know that it does not want to be a member any more.
func (c *client) gotSelfLeaveOwn(name string, why evs.Detail) {
	g := c.w.group(name)
	if g < 0 {
		return
	}
	switch {
	case why == evs.DetailEvicted && c.left[g] > 0:
		// Its own leave is on its way and will find nobody; that answer counts.
		c.views[g] = nil
	case why == evs.DetailEvicted:
		c.w.stats.Steps["members evicted"]++
		c.member[g], c.wanted[g], c.views[g] = false, false, nil
		c.record(evs.Trace{Kind: evs.TraceLeave, Group: name})
	case !c.member[g]:
		c.views[g] = nil
	}
	if !c.noViews { // else nothing has told it that it was a member, and the history has no place for the end
		c.record(evs.Trace{Kind: evs.TraceSelfLeave, Group: name})
	}
}

// gotAck judges the answer to a join, leave or evict.
func (c *client) gotAck(a frame.OwnAckInfo) {
	p, ok := c.own.pending[a.Request]
	if !ok {
		c.w.fail("OWN", "%s got an answer %d that it does not wait for", c.sess.Name, a.Request)
		return
	}
	delete(c.own.pending, a.Request)
	name := c.w.groups[p.group]
	switch p.kind {
	case frame.OwnJoin:
		if a.Status != frame.OwnDone || a.View == (evs.ViewID{}) {
			c.w.fail("OWN", "%s joined %s and is told %v, view %v", c.sess.Name, name, a.Status, a.View)
		}
		if v := c.views[p.group]; !c.noViews && (v == nil || v.ID != a.View) {
			c.w.fail("OWN", "%s joined %s in view %v and was told of it before it had that", c.sess.Name, name, a.View)
		}
	case frame.OwnLeave:
		c.left[p.group]--
		if a.Status != frame.OwnDone && a.Status != frame.OwnUnchanged {
			c.w.fail("OWN", "%s left %s and is told %v", c.sess.Name, name, a.Status)
		}
	case frame.OwnEvict:
		c.w.stats.Steps["evictions "+a.Status.String()]++
	default:
		c.w.fail("OWN", "%s is answered to a %v", c.sess.Name, p.kind)
	}
}

// owed says what answers a client still waits for.
func (c *client) owed() string {
	switch {
	case c.own == nil:
		return ""
	case len(c.own.pending) > 0:
		return "answers to joins, leaves or evictions"
	case len(c.own.receipts) > 0:
		return "receipts"
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"slices"
	"time"

	"evensong/internal/proto/evs"
)

// DaemonView is a membership message as the daemon sent it. The machine keeps its slices.
type DaemonView struct {
	Group   string
	ID      evs.ViewID
	Cause   evs.Cause
	Detail  evs.Detail
	Members []string
	// Changed is the member that joined, left or disconnected. Empty for the cause network.
	Changed string
	// Mine is this session's own VS set, for the cause network.
	Mine []string
}

// HandleView takes a membership message. The steps are those of client-protocol 8.3.
func (m *Machine) HandleView(now time.Duration, dv *DaemonView, fx *Effects) {
	r := m.records[dv.Group]
	switch {
	case !slices.Contains(dv.Members, m.cfg.Private):
		m.drop(dv.Group, "", DropViewWithoutMe, fx)
		return
	case r != nil && r.gaveUp:
		m.drop(dv.Group, "", DropGivenUp, fx)
		return
	case r != nil && (r.installed.number != 0 && r.installed.id == dv.ID || r.find(dv.ID) != nil):
		m.drop(dv.Group, "", DropViewTwice, fx)
		return
	}
	// 1. Create the record if needed; complete what early answers began.
	if r == nil {
		r = m.create(dv.Group)
	}
	r.number++
	v := newView(r.number, dv.ID, dv.Cause, dv.Members, dv.Changed)
	v.detail = dv.Detail
	if i, e := r.findEarly(dv.ID); e != nil {
		for _, name := range e.answers {
			m.answer(r, v, name, fx)
		}
		r.earlyN -= len(e.answers)
		r.early = slices.Delete(r.early, i, i+1)
	}
	// 2, 3. Who has gone, and what that does to the view that the user sees.
	leavers := r.leavers(dv)
	leavers = slices.DeleteFunc(leavers, func(name string) bool { return name == m.cfg.Private }) // it is listed, so it is here
	shrank := false
	for _, name := range leavers {
		shrank = r.installed.remove(name, r.number) || shrank
		delete(r.heard, name)
	}
	// 4. Answers for views that never came do not stay for ever.
	m.ageEarly(r, fx)
	// 5. A pending view whose member has gone without having answered cannot be completed any more. The next one
	// summarizes more than one change (VS-9).
	old := r.head()
	r.discard(leavers, v)
	// 6. The new view is the last that is pending.
	r.pending = append(r.pending, v)
	r.latest, r.latestID = make(map[string]bool, len(dv.Members)), dv.ID
	for _, name := range dv.Members {
		r.latest[name] = true
	}
	// 7. Agree on the head.
	if r.head() != old {
		m.newHead(now, r, fx)
	}
	// 8. Tell the user that somebody has gone.
	if shrank {
		m.signal(r, fx)
	}
	if len(r.pending) > maxPending {
		m.giveUp(r, ReasonTooManyViews, fx)
	}
}

// create makes the record of a group that this session is joining. The made-up view and the signal that is not to come
// see to it that nothing is delivered before the first view, and Agree that the first answers need no user.
func (m *Machine) create(group string) *record {
	r := &record{
		name: group, membership: Joining, state: Agree, signaled: true,
		installed: newView(0, evs.ViewID{}, evs.CausedByJoin, []string{m.cfg.Private}, m.cfg.Private),
		received:  map[string]bool{}, heard: map[string]bool{},
	}
	m.records[group] = r
	m.order = append(m.order, r)
	return r
}

// leavers are those of the daemon's previous view that did not come along to this one. With the cause network a member
// of both can be one of them: it was away in between.
func (r *record) leavers(dv *DaemonView) []string {
	switch dv.Cause {
	case evs.CausedByLeave, evs.CausedByDisconnect:
		return []string{dv.Changed}
	case evs.CausedByNetwork:
		var out []string
		for name := range r.latest {
			if !slices.Contains(dv.Mine, name) {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out
	case evs.CausedByJoin:
	}
	return nil
}

// discard takes leavers out of the pending views and throws away those that wait for one of them. next is the view
// behind them all.
func (r *record) discard(leavers []string, next *view) {
	kept := r.pending[:0]
	collapsed := false
	for _, v := range r.pending {
		if slices.ContainsFunc(leavers, func(name string) bool { return v.current(name) && !v.answered[name] }) {
			collapsed = true
			continue
		}
		for _, name := range leavers {
			v.remove(name, r.number)
		}
		if collapsed {
			v.cause, v.detail, v.changed, collapsed = evs.CausedByNetwork, evs.DetailNone, "", false
		}
		kept = append(kept, v)
	}
	clear(r.pending[len(kept):])
	r.pending = kept
	if collapsed {
		next.cause, next.detail, next.changed = evs.CausedByNetwork, evs.DetailNone, ""
	}
}

// newHead begins to agree on the first of the pending views.
func (m *Machine) newHead(now time.Duration, r *record, fx *Effects) {
	r.dropPostponed()
	clear(r.received)
	switch r.state {
	case Steady, Verify:
		m.transition(r, Authorize, ReasonPending, fx)
		m.ask(now, r, fx)
	case Authorize: // the request that the user has stands for the new head
	case Agree: // the user's permission stands
		m.sendOK(now, r, fx)
	default:
		panic("flush: unhandled state " + r.state.String())
	}
}

// ask asks the user to flush, or answers for it.
func (m *Machine) ask(now time.Duration, r *record, fx *Effects) {
	switch {
	case r.membership == Leaving:
		r.unasked = true
	case m.cfg.AutoFlush:
		m.transition(r, Agree, ReasonAutomatic, fx)
		m.sendOK(now, r, fx)
	default:
		fx.Events = append(fx.Events, Event{Kind: EventRequest, Group: r.name, ID: r.installed.id})
	}
}

func (m *Machine) sendOK(now time.Duration, r *record, fx *Effects) {
	if m.cfg.FlushTimeout > 0 {
		r.alarm = now + m.cfg.FlushTimeout
	}
	m.sendID(r.name, TypeFlushOK, r.head().id, fx)
}

// sendID multicasts one of the two protocol messages that are nothing but a view id. FIFO puts it behind all that this
// session sent before; it comes back to its sender, who counts it like everybody's.
func (m *Machine) sendID(group string, messType int16, id evs.ViewID, fx *Effects) {
	fx.Sends = append(fx.Sends, Send{Kind: SendMulticast, Group: group, Groups: []string{group}, Service: FIFO, Type: messType,
		Tail: appendID(nil, id)})
}

func (m *Machine) ageEarly(r *record, fx *Effects) {
	r.early = slices.DeleteFunc(r.early, func(e *early) bool {
		e.age++
		if e.age <= maxEarlyAge {
			return false
		}
		r.earlyN -= len(e.answers)
		m.drop(r.name, "", DropEarlyOld, fx)
		return true
	})
}

// answer notes that a member has finished what comes before v. This session's own answer comes back from the daemon like
// all others, so it cannot be there before it was given.
func (m *Machine) answer(r *record, v *view, name string, fx *Effects) {
	if !v.has(name) || name == m.cfg.Private && (r.state != Agree || v != r.head()) {
		m.drop(r.name, name, DropNotMember, fx)
		return
	}
	v.answered[name] = true
	r.heard[name] = true
}

// install gives the head of the pending views to the user (client-protocol 8.4).
func (m *Machine) install(now time.Duration, r *record, fx *Effects) {
	v, previous := r.pending[0], r.installed
	out := &View{Group: r.name, ID: v.id, Cause: v.cause, Detail: v.detail, Members: slices.Clone(v.members), Changed: v.changed}
	for _, name := range previous.members {
		gone := previous.gone[name]
		if v.has(name) && (gone == 0 || gone > v.number) {
			out.Came = append(out.Came, name)
		}
	}
	fx.Events = append(fx.Events, Event{Kind: EventView, Group: r.name, ID: v.id, View: out})
	m.transition(r, Verify, ReasonInstalled, fx)
	if r.membership == Joining {
		r.membership = Joined
	}
	r.installed, r.signaled = v, false
	r.pending[0] = nil
	r.pending = r.pending[1:]
	// What waited for this view is delivered last; the next head must not throw it away.
	waiting := r.postponed
	r.postponed, r.postponedBytes = nil, 0
	if len(r.pending) == 0 {
		r.pending = nil
		m.sendID(r.name, TypeFlushRecv, v.id, fx)
	} else {
		m.newHead(now, r, fx)
	}
	if v.shrunk() {
		m.signal(r, fx)
	}
	for _, msg := range waiting {
		fx.Events = append(fx.Events, Event{Kind: EventMessage, Group: r.name, ID: v.id, Message: msg})
	}
}

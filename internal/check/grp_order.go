// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"

	"evensong/internal/proto/evs"
)

// The rules about the order of messages and views: GRP-4, 9, 14.

// checkGRP4: views have places in the one order of messages.
func checkGRP4(x *index, s *sink) {
	for i := range x.inst {
		if in := &x.inst[i]; in.to > in.from {
			s.seen(1)
		}
	}
	g := x.sessionGraph(true)
	c := g.cycle()
	if c == nil || !slices.ContainsFunc(c, func(e edge) bool { return int(e.from) >= len(x.cmsgs) }) && x.sessionGraph(false).cycle() != nil {
		return // messages alone contradict each other: GRP-9
	}
	s.fail(x.cycleWindow(c), "the order of views and messages at different sessions is contradictory (cycle of %d)", len(c))
}

// checkGRP9: one sender's messages arrive in the order of sending whatever their groups, and ordered messages have one
// order at all sessions.
func checkGRP9(x *index, s *sink) {
	for i := range x.sessions {
		ss := &x.sessions[i]
		type got struct{ nth, rec int32 }
		last := map[int32]got{}
		for _, e := range ss.events {
			if e.kind != evs.TraceClientMsg {
				continue
			}
			m := &x.cmsgs[e.msg]
			if m.sender < 0 || m.service < evs.FIFO {
				continue
			}
			if l, ok := last[m.sender]; ok {
				s.seen(1)
				if m.nth < l.nth {
					s.fail(x.window(m.mcast, x.cmsgs[x.sessions[m.sender].multicast[l.nth]].mcast, l.rec, e.rec),
						"%s gets messages of %s in another order than they were sent", x.sname(int32(i)), x.sname(m.sender))
				}
			}
			last[m.sender] = got{m.nth, e.rec}
		}
	}
	if c := x.sessionGraph(true).cycle(); c == nil {
		return
	}
	if c := x.sessionGraph(false).cycle(); c != nil {
		s.fail(x.cycleWindow(c), "the orders of messages at different sessions contradict each other (cycle of %d)", len(c))
	}
}

// sessionGraph has a node per message ≥ Causal and, if wanted, per view, and an edge for each consecutive pair at each
// session; a multicast comes after what its sender had got and sent.
func (x *index) sessionGraph(views bool) *graph {
	if views && x.fullGraph != nil {
		return x.fullGraph
	}
	g := &graph{nodes: len(x.cmsgs) + len(x.views), edges: make([]edge, 0, len(x.recs))}
	for i := range x.sessions {
		last, lastSend := -1, -1
		for _, e := range x.sessions[i].events {
			v := -1
			switch e.kind {
			case evs.TraceClientMsg:
				if x.cmsgs[e.msg].causal() {
					v = int(e.msg)
				}
			case evs.TraceView:
				if views && e.view >= 0 {
					v = len(x.cmsgs) + int(e.view)
				}
			case evs.TraceMulticast:
				if m := &x.cmsgs[e.msg]; m.causal() && m.mcast == e.rec {
					if last >= 0 {
						g.add(last, int(e.msg), e.rec)
					}
					if lastSend >= 0 {
						g.add(lastSend, int(e.msg), e.rec)
					}
					lastSend = int(e.msg)
				}
			default:
			}
			if v < 0 {
				continue
			}
			if last >= 0 && last != v {
				g.add(last, v, e.rec)
			}
			last = v
		}
	}
	if views {
		x.fullGraph = g
	}
	return g
}

// cycleWindow is both ends of each edge as the session saw them.
func (x *index) cycleWindow(c []edge) []evs.Trace {
	var w []evs.Trace
	for _, e := range c {
		ss := &x.sessions[x.sessionOf[x.recs[e.rec].Session]]
		tail := int32(-1)
		for _, ev := range ss.events {
			if ev.rec == e.rec {
				break
			}
			if ev.msg == e.from || ev.view >= 0 && int(ev.view) == int(e.from)-len(x.cmsgs) && ev.kind == evs.TraceView {
				tail = ev.rec
			}
		}
		w = append(w, x.window(tail, e.rec)...)
	}
	return w
}

// checkGRP14: nothing of a new daemon configuration is delivered before its group views.
//
// At session level: for a final network view v of g, a message to g that one session got before v and another after it
// was either delivered in the new configuration too early at the one or in the wrong configuration at the other. And a
// message whose sender had installed v when it sent must come after v everywhere. Both hold for all levels. Writers that
// know the daemon configuration of a hand-over may set Conf on views and messages; then the rule is checked directly.
func checkGRP14(x *index, s *sink) {
	pre := make([]int32, len(x.cmsgs)) // record + 1 of a receipt before the view at hand
	at := make([]int32, len(x.sessions))
	for v := range x.views {
		vv := &x.views[v]
		if !vv.network() {
			continue
		}
		for _, in := range vv.installs {
			at[x.inst[in].session] = x.inst[in].ev + 1
		}
		var touched []int32
		for _, in := range vv.installs {
			ii := &x.inst[in]
			if ii.prev < 0 {
				continue
			}
			s.seen(1)
			events := x.sessions[ii.session].events
			for _, ev := range x.span(&x.inst[ii.prev]) {
				e := &events[ev]
				m := &x.cmsgs[e.msg]
				if m.sender >= 0 && at[m.sender] > 0 && at[m.sender]-1 < m.at {
					s.fail(x.window(x.srec(m.sender, at[m.sender]-1), m.mcast, e.rec, ii.rec), "%s gets %s before %s; it was sent after it",
						x.sname(ii.session), x.cmsgText(e.msg), x.viewText(int32(v)))
				}
				if !vv.maybeHalf {
					if pre[e.msg] == 0 {
						touched = append(touched, e.msg)
					}
					pre[e.msg] = e.rec + 1
				}
			}
		}
		if len(touched) > 0 {
			for _, in := range vv.installs {
				ii := &x.inst[in]
				events := x.sessions[ii.session].events
				for _, ev := range x.span(ii) {
					if e := &events[ev]; pre[e.msg] > 0 {
						s.fail(x.window(pre[e.msg]-1, ii.rec, e.rec), "%s comes before %s at one session and after it at %s", x.cmsgText(e.msg), x.viewText(int32(v)), x.sname(ii.session))
					}
				}
			}
		}
		for _, m := range touched {
			pre[m] = 0
		}
		for _, in := range vv.installs {
			at[x.inst[in].session] = 0
		}
	}
	for i := range x.sessions {
		msg := map[evs.ConfID]int32{}
		var last evs.ConfID
		for _, e := range x.sessions[i].events {
			t := &x.recs[e.rec]
			if t.Conf.Kind != evs.Regular {
				continue
			}
			switch e.kind {
			case evs.TraceClientMsg:
				if t.Conf != last {
					msg[t.Conf], last = e.rec, t.Conf
				}
			case evs.TraceView:
				if m, ok := msg[t.Conf]; ok && e.view >= 0 && x.views[e.view].network() {
					s.fail(x.window(m, e.rec), "%s gets a message of %s before a group view of it", x.sname(int32(i)), t.Conf)
				}
			default:
			}
		}
	}
}

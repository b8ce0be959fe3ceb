// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"

	"evensong/internal/proto/evs"
)

// The rules about messages of sessions: GRP-4, 6 to 11, 13 to 16, 18.

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

// passageKey names what the members of one VS set share: the view they leave, the view they enter (-1: the quiet end),
// their set in it, and for spans over several views the way in between.
type passageKey struct {
	from, to, mine int32
	way            uint64
}

// checkGRP6: members of one VS set have got the same messages in the view before, and the same before its signal.
func checkGRP6(x *index, s *sink) {
	type sums struct {
		in          int32 // the install that was left
		all, before setSum
	}
	seen := map[passageKey]sums{}
	for i := range x.inst {
		in := &x.inst[i]
		k, ok := x.passage(in)
		if !ok {
			continue
		}
		ss := &x.sessions[in.session]
		su := sums{in: int32(i)}
		count := func(events []int32, set *setSum) {
			for _, ev := range events {
				if m := &x.cmsgs[ss.events[ev].msg]; m.causal() && !m.selfDiscard {
					set.add(ss.events[ev].msg)
				}
			}
		}
		count(x.beforeSignal(in), &su.before)
		su.all = su.before
		if in.sig >= 0 {
			count(ss.bySlot[in.slot][in.sig:in.to], &su.all)
		}
		f, ok := seen[k]
		if !ok {
			seen[k] = su
			continue
		}
		s.seen(1)
		if f.all != su.all {
			x.failGRP6(s, &x.inst[f.in], in, "in that view", x.span)
		} else if f.before != su.before && x.inst[f.in].sig >= 0 && in.sig >= 0 {
			x.failGRP6(s, &x.inst[f.in], in, "before its signal", x.beforeSignal)
		}
	}
	x.lowGRP6(s)
}

// passage is the key of an install that was left for a next view, or reached the end of a quiet run.
func (x *index) passage(in *install) (passageKey, bool) {
	switch {
	case in.next >= 0:
		return passageKey{from: in.view, to: x.inst[in.next].view, mine: x.inst[in.next].mine}, true
	case in.end < 0 && x.h.Quiescent && !x.sessions[in.session].dead:
		return passageKey{from: in.view, to: -1}, true
	}
	return passageKey{}, false
}

func (x *index) failGRP6(s *sink, a, b *install, where string, span func(*install) []int32) {
	if s.full() {
		s.fail(nil, "")
		return
	}
	got := func(in *install) map[int32]int32 {
		out := map[int32]int32{}
		for _, ev := range span(in) {
			e := &x.sessions[in.session].events[ev]
			out[e.msg] = e.rec
		}
		return out
	}
	ga, gb := got(a), got(b)
	first, have, lack := int32(-1), a, b
	pick := func(from, other map[int32]int32, h, l *install) {
		for m := range from {
			if _, ok := other[m]; !ok && x.cmsgs[m].causal() && !x.cmsgs[m].selfDiscard && (first < 0 || m < first) {
				first, have, lack = m, h, l
			}
		}
	}
	pick(ga, gb, a, b)
	pick(gb, ga, b, a)
	if first < 0 {
		s.fail(x.window(a.rec, b.rec), "%s and %s, in one VS set, got different messages %s", x.sname(a.session), x.sname(b.session), where)
		return
	}
	rec := ga[first]
	if have == b {
		rec = gb[first]
	}
	next := int32(-1)
	if lack.next >= 0 {
		next = x.inst[lack.next].rec
	}
	s.fail(x.window(x.cmsgs[first].mcast, have.rec, rec, lack.rec, lack.sigRec, next), "%s got %s in %s; %s, in the same VS set, did not get it %s",
		x.sname(have.session), x.cmsgText(first), x.viewText(have.view), x.sname(lack.session), where)
}

// lowGRP6 is the part of GRP-6 for Reliable and FIFO: equal sets from one network view to the next, light views, interim
// views and the signal not counted.
func (x *index) lowGRP6(s *sink) {
	type sums struct {
		in  int32
		set setSum
	}
	seen := map[passageKey]sums{}
	boundary := func(in *install) bool { v := &x.views[in.view]; return v.network() && !v.maybeHalf }
	for i := range x.inst {
		start := &x.inst[i]
		if !boundary(start) {
			continue
		}
		su := sums{in: int32(i)}
		k := passageKey{from: start.view, to: -1}
		for in := start; ; {
			ss := &x.sessions[in.session]
			for _, ev := range x.span(in) {
				if m := &x.cmsgs[ss.events[ev].msg]; !m.causal() && !m.selfDiscard {
					su.set.add(ss.events[ev].msg)
				}
			}
			if in.next < 0 {
				if _, ok := x.passage(in); !ok {
					k.from = -1
				}
				break
			}
			in = &x.inst[in.next]
			if boundary(in) {
				k.to, k.mine = in.view, in.mine
				break
			}
			if x.views[in.view].network() {
				k.way = k.way*1000003 + uint64(in.view)<<8 + uint64(in.mine) + 1
			}
		}
		if k.from < 0 {
			continue
		}
		f, ok := seen[k]
		if !ok {
			seen[k] = su
			continue
		}
		s.seen(1)
		if f.set != su.set {
			s.fail(x.window(x.inst[f.in].rec, start.rec), "%s and %s, in one VS set, got different Reliable or FIFO messages from %s to the next network view",
				x.sname(x.inst[f.in].session), x.sname(start.session), x.viewText(start.view))
		}
	}
}

// checkGRP7: the signal comes at most once per view, names it, and is followed by a network view; what is delivered Safe
// before it reaches every member of the view that does not die.
func checkGRP7(x *index, s *sink) {
	for i := range x.sessions {
		ss := &x.sessions[i]
		view := make([]int32, len(ss.groups)) // event of the current view + 1
		sig := make([]int32, len(ss.groups))  // event of its signal + 1
		for ev, e := range ss.events {
			switch e.kind {
			case evs.TraceView:
				if sig[e.slot] > 0 && e.view >= 0 && !x.views[e.view].network() {
					s.fail(x.window(x.srec(int32(i), sig[e.slot]-1), e.rec), "at %s a signal is followed by a view caused by a %s", x.sname(int32(i)), x.views[e.view].info.Cause)
				}
				view[e.slot], sig[e.slot] = int32(ev)+1, 0
			case evs.TraceSelfLeave:
				view[e.slot], sig[e.slot] = 0, 0
			case evs.TraceSignal:
				if view[e.slot] == 0 {
					continue // GRP-1, GRP-11
				}
				s.seen(1)
				if sig[e.slot] > 0 {
					s.fail(x.window(x.srec(int32(i), view[e.slot]-1), x.srec(int32(i), sig[e.slot]-1), e.rec), "%s gets two signals in one view", x.sname(int32(i)))
				}
				if x.recs[e.rec].View != nil && e.view != ss.events[view[e.slot]-1].view {
					s.fail(x.window(x.srec(int32(i), view[e.slot]-1), e.rec), "a signal at %s names another view than the current one", x.sname(int32(i)))
				}
				sig[e.slot] = int32(ev) + 1
			default:
			}
		}
		if !x.h.Quiescent || ss.dead {
			continue
		}
		for k := range sig {
			if sig[k] > 0 {
				s.fail(x.window(x.srec(int32(i), sig[k]-1)), "a quiet run ends at %s with a signal of %s that no view follows", x.sname(int32(i)), x.groups[ss.groups[k]])
			}
		}
	}
	x.safeGRP7(s)
}

// safeGRP7 counts for each view and Safe message the receipts among the members that had the chance, and looks closer
// only where the count is short.
func (x *index) safeGRP7(s *sink) {
	count := make([]int32, len(x.cmsgs))
	promise := make([]int32, len(x.cmsgs)) // a record that gives the promise, + 1
	for v := range x.views {
		vv := &x.views[v]
		var touched []int32
		bound := 0
		for _, in := range vv.installs {
			ii := &x.inst[in]
			events := x.sessions[ii.session].events
			b := x.bound(ii)
			if b {
				bound++
			}
			for k, ev := range x.span(ii) {
				e := &events[ev]
				if x.cmsgs[e.msg].service != evs.Safe {
					continue
				}
				if count[e.msg] == 0 && promise[e.msg] == 0 {
					touched = append(touched, e.msg)
				}
				if b {
					count[e.msg]++
				}
				if promise[e.msg] == 0 {
					promise[e.msg] = -1 // touched, nothing promised yet
				}
				if ii.sig < 0 || ii.from+int32(k) < ii.sig {
					promise[e.msg] = e.rec + 1
				}
			}
		}
		for _, m := range touched {
			n, p := count[m], promise[m]
			count[m], promise[m] = 0, 0
			if p <= 0 {
				continue
			}
			s.seen(1)
			if int(n) == bound {
				continue
			}
			for _, in := range vv.installs {
				ii := &x.inst[in]
				cm := &x.cmsgs[m]
				if !x.bound(ii) || cm.selfDiscard && cm.sender == ii.session {
					continue
				}
				events := x.sessions[ii.session].events
				if !slices.ContainsFunc(x.span(ii), func(ev int32) bool { return events[ev].msg == m }) {
					s.fail(x.window(cm.mcast, p-1, ii.rec, ii.sigRec, x.srec(ii.session, ii.end)), "%s was delivered Safe before the signal in %s, and member %s goes on without it",
						x.cmsgText(m), x.viewText(int32(v)), x.sname(ii.session))
				}
			}
		}
	}
}

// address says how a message came to a session.
type address uint8

const (
	addressed     address = iota
	afterLeave            // to a group that the session has left
	backToOutside         // to its own sender, which is not a member
	notAddressed
)

// receipts walks the messages of every session and says for each how it was addressed.
func (x *index) receipts(f func(s int32, e *sevent, how address, leave int32)) {
	for i := range x.sessions {
		ss := &x.sessions[i]
		member := make([]bool, len(ss.groups))
		left := make([]int32, len(ss.groups)) // record of the self-leave + 1
		for k := range ss.events {
			e := &ss.events[k]
			switch e.kind {
			case evs.TraceJoin:
				if ss.noViews {
					member[e.slot] = true // without notices it cannot say when
				}
			case evs.TraceView:
				member[e.slot], left[e.slot] = true, 0
			case evs.TraceSelfLeave:
				member[e.slot], left[e.slot] = false, e.rec+1
			case evs.TraceClientMsg:
				m := &x.cmsgs[e.msg]
				how, leave := notAddressed, int32(-1)
				if m.sender == int32(i) {
					how = backToOutside
				}
				for _, g := range m.groups {
					if g == ss.self {
						how = addressed
						break
					}
					slot := ss.find(g)
					if slot < 0 {
						continue
					}
					if member[slot] {
						how = addressed
						break
					}
					if left[slot] > 0 {
						how, leave = afterLeave, left[slot]-1
					}
				}
				f(int32(i), e, how, leave)
			default:
			}
		}
	}
}

// checkGRP8: what a session gets was sent, to it, unchanged, and comes once.
func checkGRP8(x *index, s *sink) {
	got := make([]int32, len(x.cmsgs)) // session + 1
	rec := make([]int32, len(x.cmsgs))
	x.receipts(func(sn int32, e *sevent, how address, _ int32) {
		s.seen(1)
		m, t := &x.cmsgs[e.msg], &x.recs[e.rec]
		if got[e.msg] == sn+1 {
			s.fail(x.window(rec[e.msg], e.rec), "%s gets %s twice", x.sname(sn), x.cmsgText(e.msg))
			return
		}
		got[e.msg], rec[e.msg] = sn+1, e.rec
		if m.mcast < 0 {
			s.fail(x.window(e.rec), "%s gets a message that nobody sent", x.sname(sn))
			return
		}
		sent := &x.recs[m.mcast]
		switch {
		case t.Sender != sent.Session.Name:
			s.fail(x.window(m.mcast, e.rec), "%s gets a message as sent by %s; %s sent it", x.sname(sn), t.Sender, sent.Session.Name)
		case t.Length != sent.Length || t.Service != sent.Service || !slices.Equal(t.Groups, sent.Groups):
			s.fail(x.window(m.mcast, e.rec), "%s gets %s changed", x.sname(sn), x.cmsgText(e.msg))
		case t.Step != 0 && sent.Step > t.Step:
			s.fail(x.window(m.mcast, e.rec), "%s gets %s before it is sent", x.sname(sn), x.cmsgText(e.msg))
		case how == notAddressed:
			s.fail(x.window(m.mcast, e.rec), "%s gets a message to %v, and is in none of them", x.sname(sn), sent.Groups)
		}
	})
}

// checkGRP11: nothing of a group after the self-leave until a new join view.
func checkGRP11(x *index, s *sink) {
	x.receipts(func(sn int32, e *sevent, how address, leave int32) {
		if how == afterLeave {
			s.fail(x.window(leave, e.rec), "%s gets %s after its self-leave", x.sname(sn), x.cmsgText(e.msg))
		}
	})
	for i := range x.sessions {
		ss := &x.sessions[i]
		left := make([]int32, len(ss.groups))
		asked := make([]int, len(ss.groups)) // joins minus memberships begun
		member := make([]bool, len(ss.groups))
		for _, e := range ss.events {
			if e.slot < 0 {
				continue
			}
			switch e.kind {
			case evs.TraceJoin:
				asked[e.slot]++
			case evs.TraceView:
				if !member[e.slot] {
					if left[e.slot] > 0 && asked[e.slot] <= 0 {
						s.fail(x.window(left[e.slot]-1, e.rec), "%s gets a view of %s after its self-leave, without a new join", x.sname(int32(i)), x.groups[ss.groups[e.slot]])
					}
					asked[e.slot]--
				}
				member[e.slot], left[e.slot] = true, 0
			case evs.TraceSignal, evs.TraceSelfLeave:
				if left[e.slot] > 0 {
					s.fail(x.window(left[e.slot]-1, e.rec), "%s gets a notice of %s after its self-leave", x.sname(int32(i)), x.groups[ss.groups[e.slot]])
				}
				if e.kind == evs.TraceSelfLeave {
					s.seen(1)
					member[e.slot], left[e.slot] = false, e.rec+1
				}
			default:
			}
		}
	}
}

// checkGRP13: sending to a group makes nobody a member of it.
func checkGRP13(x *index, s *sink) {
	x.receipts(func(sn int32, e *sevent, how address, _ int32) {
		if how == backToOutside {
			s.fail(x.window(x.cmsgs[e.msg].mcast, e.rec), "%s gets its own %s back without being a member", x.sname(sn), x.cmsgText(e.msg))
		}
	})
	type ask struct {
		name  string
		group int32
	}
	asked := map[ask]bool{}
	for i := range x.sessions {
		ss := &x.sessions[i]
		joined := make([]bool, len(ss.groups))
		for _, e := range ss.events {
			switch e.kind {
			case evs.TraceJoin:
				joined[e.slot] = true
				asked[ask{ss.id.Name, ss.groups[e.slot]}] = true
			case evs.TraceMulticast:
				m := &x.cmsgs[e.msg]
				if m.receipts > 0 && slices.ContainsFunc(m.groups, func(g int32) bool {
					k := ss.find(g)
					return (k < 0 || !joined[k]) && !strings.HasPrefix(x.groups[g], "#")
				}) {
					s.seen(1)
				}
			default:
			}
		}
	}
	for v := range x.views {
		vv := &x.views[v]
		for _, name := range vv.info.Members {
			if len(x.byName[name]) > 0 && !asked[ask{name, vv.group}] {
				s.fail(x.window(vv.rec), "%s lists %s, which never asked to join", x.viewText(int32(v)), name)
			}
		}
	}
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

// checkGRP15: names. A name is "#user#daemon", is what was asked for, fits, and is one session's at a time.
func checkGRP15(x *index, s *sink) {
	type owner struct {
		daemon evs.ProcID
		name   string
	}
	byOwner := map[owner][]int32{}
	for i := range x.sessions {
		ss := &x.sessions[i]
		if ss.connect < 0 {
			continue
		}
		s.seen(1)
		t := &x.recs[ss.connect]
		user, ok := strings.CutSuffix(strings.TrimPrefix(ss.id.Name, "#"), "#"+ss.id.Daemon.Name)
		switch {
		case !ok || !strings.HasPrefix(ss.id.Name, "#") || user == "" || strings.Contains(user, "#"):
			s.fail(x.window(ss.connect), "%q is not a private name of daemon %s", ss.id.Name, ss.id.Daemon.Name)
		case t.Asked != "" && t.Asked != user:
			s.fail(x.window(ss.connect), "a client asked for the name %q and became %q", t.Asked, user)
		case x.h.MaxPrivateName > 0 && len(user) > x.h.MaxPrivateName:
			s.fail(x.window(ss.connect), "private name %q is longer than %d bytes", user, x.h.MaxPrivateName)
		}
		byOwner[owner{ss.id.Daemon, ss.id.Name}] = append(byOwner[owner{ss.id.Daemon, ss.id.Name}], int32(i))
	}
	for i := range x.sessions { // not over the map: the order of a report must not depend on it
		ss := &x.sessions[i]
		list := byOwner[owner{ss.id.Daemon, ss.id.Name}]
		if len(list) < 2 || list[0] != int32(i) {
			continue
		}
		slices.SortStableFunc(list, func(a, b int32) int { return x.before(x.sessions[a].connect, x.sessions[b].connect) })
		for k := 1; k < len(list); k++ {
			older, newer := &x.sessions[list[k-1]], &x.sessions[list[k]]
			// A session that the daemon closed learns of it late; only its own closing says when it ended.
			closed := older.gone
			if closed >= 0 && (x.recs[closed].Reason != "" || x.before(closed, newer.connect) <= 0) {
				continue
			}
			if closed < 0 && older.dead {
				continue
			}
			s.fail(x.window(older.connect, newer.connect, closed), "two live sessions of one daemon are called %s", ss.id.Name)
		}
	}
	if x.h.MaxGroupName > 0 {
		for v := range x.views {
			if name := x.groups[x.views[v].group]; len(name) > x.h.MaxGroupName {
				s.fail(x.window(x.views[v].rec), "group name %q is longer than %d bytes", name, x.h.MaxGroupName)
			}
		}
	}
}

// checkGRP10: what a dead session sent arrives as a prefix, and its disconnect view comes last.
func checkGRP10(x *index, s *sink) {
	x.skipped(func(r, m int32, window []evs.Trace) {
		if x.sessions[x.cmsgs[m].sender].dead {
			s.fail(window, "%s misses %s and gets a later one of that session, which died", x.sname(r), x.cmsgText(m))
		}
	})
	for i := range x.sessions {
		ss := &x.sessions[i]
		gone := map[string]int32{} // name -> disconnect view
		for _, e := range ss.events {
			switch e.kind {
			case evs.TraceView:
				if e.view < 0 {
					continue
				}
				t := x.recs[e.rec].View
				if t.Cause == evs.CausedByDisconnect && len(t.Sets) == 1 && len(t.Sets[0]) == 1 {
					s.seen(1)
					gone[t.Sets[0][0]] = e.rec
				}
			case evs.TraceClientMsg:
				m := &x.cmsgs[e.msg]
				if len(gone) == 0 || m.sender < 0 || m.service < evs.FIFO {
					continue
				}
				sender := &x.sessions[m.sender]
				view, ok := gone[sender.id.Name]
				if !ok {
					continue
				}
				// A later session may bear the name again; only the first bearer is surely the one that went.
				first := !slices.ContainsFunc(x.byName[sender.id.Name], func(o int32) bool {
					return o != m.sender && x.before(x.sessions[o].events[0].rec, sender.events[0].rec) < 0
				})
				if first {
					s.fail(x.window(m.mcast, view, e.rec), "%s gets %s after its sender's disconnect view", x.sname(int32(i)), x.cmsgText(e.msg))
				}
			default:
			}
		}
	}
}

// checkGRP16: a session that stays connected misses nothing that comes between messages it got.
func checkGRP16(x *index, s *sink) {
	n := x.skipped(func(r, m int32, window []evs.Trace) {
		if !x.sessions[x.cmsgs[m].sender].dead {
			s.fail(window, "%s misses %s and gets a later one of that session", x.sname(r), x.cmsgText(m))
		}
	})
	s.seen(n)
}

// skipped finds messages ≥ FIFO that a receiver should have got and did not, although it got a later one of the sender.
//
// A gap is legal when receiver and sender were parted in between, or when the message went to groups the receiver was
// not in. So a message counts as skipped only if, from some moment before it until the later message, the receiver was
// in one of its groups and saw no network view of a group that had the sender in it all the time (or both are on one daemon). The
// moment is an earlier message of the same sender, or the view in which the sender was when it sent. It returns
// how many pairs of consecutive messages it looked at.
func (x *index) skipped(f func(r, m int32, window []evs.Trace)) int {
	pairs := 0
	for r := range x.sessions {
		ss := &x.sessions[r]
		type heard struct{ nth, ev int32 } // last message ≥ FIFO got from a sender
		last := map[int32]heard{}
		since := make([]int32, len(ss.groups)) // event of the join view + 1; 0: not a member
		calm := make([]int32, len(ss.groups))  // event of the last network view, or of the join view, + 1
		for ev := range ss.events {
			e := &ss.events[ev]
			switch e.kind {
			case evs.TraceView:
				if e.view < 0 {
					continue
				}
				if since[e.slot] == 0 {
					since[e.slot], calm[e.slot] = int32(ev)+1, int32(ev)+1
				}
				if x.views[e.view].network() {
					calm[e.slot] = int32(ev) + 1
				}
			case evs.TraceSelfLeave:
				since[e.slot], calm[e.slot] = 0, 0
			case evs.TraceClientMsg:
				m := &x.cmsgs[e.msg]
				if m.sender < 0 || m.service < evs.FIFO {
					continue
				}
				l, ok := last[m.sender]
				if !ok {
					l = heard{-1, -1}
				}
				if m.nth <= l.nth {
					continue // out of order: GRP-9
				}
				last[m.sender] = heard{m.nth, int32(ev)}
				pairs++
				if m.nth == l.nth+1 {
					continue
				}
				sender := &x.sessions[m.sender]
				for _, mi := range sender.multicast[l.nth+1 : m.nth] {
					miss := &x.cmsgs[mi]
					if miss.service < evs.FIFO || miss.selfDiscard && miss.sender == int32(r) {
						continue
					}
					for _, g := range miss.groups {
						slot := ss.find(g)
						if g != ss.self && (slot < 0 || since[slot] == 0) {
							continue
						}
						from := int32(0)
						if g != ss.self {
							from = since[slot]
						}
						anchor := x.anchor(int32(r), miss, l.ev, from, int32(ev), calm)
						if anchor < 0 {
							continue
						}
						f(int32(r), mi, x.window(x.srec(int32(r), anchor), miss.mcast, m.mcast, e.rec))
						break
					}
				}
			default:
			}
		}
	}
	return pairs
}

// anchor is an event of session r, before the place of miss in the order, from which on r and the sender of miss were
// together and r was in the group (since event from-1) until now; -1 if there is none.
func (x *index) anchor(r int32, miss *clientMessage, heard, from, now int32, calm []int32) int32 {
	ss, sender := &x.sessions[r], &x.sessions[miss.sender]
	same := ss.id.Daemon == sender.id.Daemon
	if heard >= 0 && heard >= from-1 {
		if same {
			return heard
		}
		for slot := range calm {
			if calm[slot] > 0 && calm[slot]-1 < heard && x.listed(ss, slot, heard, now, sender.id.Name) {
				return heard
			}
		}
	}
	for slot := range calm {
		if calm[slot] == 0 {
			continue
		}
		// The view in which the sender was when it sent.
		theirs := sender.find(ss.groups[slot])
		if theirs < 0 {
			continue
		}
		list := sender.installs[theirs]
		n, _ := slices.BinarySearchFunc(list, miss.at, func(in, at int32) int { return int(x.inst[in].ev - at) })
		if n == 0 {
			continue
		}
		v := &x.views[x.inst[list[n-1]].view]
		if !v.network() && !miss.causal() {
			continue // FIFO may pass a join, the receiver's own included (GRP-4)
		}
		for _, in := range v.installs {
			if ii := &x.inst[in]; ii.session == r && ii.ev >= calm[slot]-1 && ii.ev >= from-1 && ii.ev < now && x.listed(ss, slot, ii.ev, now, sender.id.Name) {
				return ii.ev
			}
		}
	}
	return -1
}

// listed reports whether every view that a session had in a slot between two of its events lists a name. Had the named
// one left and come back in between, a separation in the meantime would not show.
func (x *index) listed(ss *session, slot int, from, to int32, name string) bool {
	list := ss.installs[slot]
	n, _ := slices.BinarySearchFunc(list, to, func(in, at int32) int { return int(x.inst[in].ev - at) })
	for _, in := range slices.Backward(list[:n]) {
		if !x.views[x.inst[in].view].lists(name) {
			return false
		}
		if x.inst[in].ev <= from {
			return true
		}
	}
	return false
}

// checkGRP18: a self-discard message is for everybody but the session that sent it.
func checkGRP18(x *index, s *sink) {
	for i := range x.sessions {
		for _, e := range x.sessions[i].events {
			if e.kind != evs.TraceClientMsg || !x.cmsgs[e.msg].selfDiscard {
				continue
			}
			s.seen(1)
			if m := &x.cmsgs[e.msg]; m.sender == int32(i) {
				s.fail(x.window(m.mcast, e.rec), "%s gets its own self-discard message", x.sname(int32(i)))
			}
		}
	}
	// Among the others it is like any message: equal sets in a VS set (GRP-6, which leaves these out).
	type tally struct {
		installs []int32
		got      map[int32]int32 // message -> receipts
	}
	var keys []passageKey
	sets := map[passageKey]*tally{}
	for i := range x.inst {
		in := &x.inst[i]
		k, ok := x.passage(in)
		if !ok {
			continue
		}
		t := sets[k]
		if t == nil {
			t = &tally{}
			sets[k] = t
			keys = append(keys, k)
		}
		t.installs = append(t.installs, int32(i))
		events := x.sessions[in.session].events
		for _, ev := range x.span(in) {
			if m := &x.cmsgs[events[ev].msg]; m.selfDiscard && m.causal() && m.sender != in.session {
				if t.got == nil {
					t.got = map[int32]int32{}
				}
				t.got[events[ev].msg]++
			}
		}
	}
	for _, k := range keys {
		t := sets[k]
		msgs := make([]int32, 0, len(t.got))
		for m := range t.got {
			msgs = append(msgs, m)
		}
		slices.Sort(msgs)
		for _, m := range msgs {
			want := len(t.installs)
			for _, in := range t.installs {
				if x.inst[in].session == x.cmsgs[m].sender {
					want--
				}
			}
			if int(t.got[m]) != want {
				s.fail(x.window(x.cmsgs[m].mcast, x.cmsgs[m].first), "self-discard %s to a VS set of %d others in %s was got by %d", x.cmsgText(m), want, x.viewText(k.from), t.got[m])
			}
		}
	}
}

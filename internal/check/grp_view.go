// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"

	"evensong/internal/proto/evs"
)

// The rules about views: GRP-1, 2, 3, 5, 12, and the history's own form.

// checkTrace: what the other checkers rely on. A violation here means that the writer of the history is broken, and the
// other verdicts are worth little.
func checkTrace(x *index, s *sink) {
	for i := range x.recs {
		t := &x.recs[i]
		switch {
		case t.Kind < evs.TraceStart || t.Kind > evs.TraceVSSelfLeave:
			s.fail(x.window(int32(i)), "a record of unknown kind %d", t.Kind)
		case (t.Kind == evs.TraceView || t.Kind == evs.TraceVSView) && t.View == nil:
			s.fail(x.window(int32(i)), "a view without content")
		case t.Kind == evs.TraceConf && len(t.Members) == 0:
			s.fail(x.window(int32(i)), "a configuration without members")
		case t.Kind < evs.TraceConnect && t.Proc.IsZero(), t.Kind >= evs.TraceConnect && t.Session == (evs.SessionID{}):
			s.fail(x.window(int32(i)), "a record of nobody")
		}
	}
	s.seen(len(x.recs))
	for i := range x.cmsgs {
		if m := &x.cmsgs[i]; m.resent >= 0 {
			s.fail(x.window(m.mcast, m.resent), "two multicasts with one digest: messages cannot be told apart")
		}
	}
	for i := range x.sessions {
		ss := &x.sessions[i]
		last := int32(-1)
		for _, e := range ss.events {
			if ss.gone >= 0 && e.rec > ss.gone {
				s.fail(x.window(ss.gone, e.rec), "%s has records after its disconnect", x.sname(int32(i)))
				break
			}
			if e.kind != evs.TraceMulticast {
				continue
			}
			if last >= 0 && x.recs[e.rec].Number <= x.recs[last].Number {
				s.fail(x.window(last, e.rec), "%s numbers its multicasts out of order", x.sname(int32(i)))
			}
			last = e.rec
		}
	}
}

// checkGRP1 is the automaton of one session and group: asked to join, views that contain it, self-leave. What comes
// after a self-leave is GRP-11's.
func checkGRP1(x *index, s *sink) {
	for i := range x.sessions {
		ss := &x.sessions[i]
		type state struct {
			asked, periods int
			member, left   bool
		}
		st := make([]state, len(ss.groups))
		for _, e := range ss.events {
			if e.slot < 0 {
				continue
			}
			g := &st[e.slot]
			name := x.groups[ss.groups[e.slot]]
			switch e.kind {
			case evs.TraceJoin:
				g.asked++
			case evs.TraceView:
				if e.view < 0 {
					continue
				}
				s.seen(1)
				t := x.recs[e.rec].View
				if !g.member && g.asked <= g.periods && !g.left {
					s.fail(x.window(e.rec), "%s gets a view of %s without having asked to join", x.sname(int32(i)), name)
				}
				if !slices.Contains(t.Members, ss.id.Name) {
					s.fail(x.window(e.rec), "%s gets a view of %s that does not contain it", x.sname(int32(i)), name)
				}
				if !g.member {
					g.member = true
					g.periods++
					own := t.Cause == evs.CausedByJoin && len(t.Sets) == 1 && slices.Equal(t.Sets[0], []string{ss.id.Name})
					if !own && t.Cause != evs.CausedByNetwork {
						s.fail(x.window(e.rec), "the first view of %s at %s is not that of its own join", name, x.sname(int32(i)))
					}
				}
			case evs.TraceSignal:
				if !g.member && !g.left {
					s.fail(x.window(e.rec), "%s gets a signal of %s without being a member", x.sname(int32(i)), name)
				}
			case evs.TraceSelfLeave:
				if !g.member && !g.left {
					s.fail(x.window(e.rec), "%s gets a self-leave of %s without being a member", x.sname(int32(i)), name)
				}
				g.member, g.left = false, true
			default:
			}
		}
	}
}

// checkGRP2: one id, one member list in one order, one cause.
func checkGRP2(x *index, s *sink) {
	for v := range x.views {
		vv := &x.views[v]
		for _, in := range vv.installs {
			rec := x.inst[in].rec
			if rec == vv.rec {
				continue
			}
			s.seen(1)
			t := x.recs[rec].View
			switch {
			case !slices.Equal(t.Members, vv.info.Members):
				s.fail(x.window(vv.rec, rec), "%s has different members at two sessions", x.viewText(int32(v)))
			case t.Cause != vv.info.Cause:
				s.fail(x.window(vv.rec, rec), "%s has different causes at two sessions", x.viewText(int32(v)))
			}
		}
	}
}

// checkGRP3: ids are never used twice for a group and rise at each member.
//
// The first word is a fingerprint and has no order. The second is the low half of a ring sequence and must not fall (in
// 32-bit serial arithmetic); the third is an index and must rise while the first two stay. Interim views belong to
// transitional configurations, so for them only the index is compared.
func checkGRP3(x *index, s *sink) {
	for v := range x.views {
		vv := &x.views[v]
		bySession := map[string]int32{}
		for _, in := range vv.installs {
			s.seen(1)
			name := x.sessions[x.inst[in].session].id.Name
			if other, ok := bySession[name]; ok {
				s.fail(x.window(x.inst[other].rec, x.inst[in].rec), "%s is installed twice under the name %s: its id is used again", x.viewText(int32(v)), name)
			}
			bySession[name] = in
		}
	}
	for i := range x.sessions {
		ss := &x.sessions[i]
		last := make([]int32, len(ss.groups)) // event + 1
		for ev, e := range ss.events {
			if e.kind != evs.TraceView || e.view < 0 {
				continue
			}
			before := last[e.slot] - 1
			last[e.slot] = int32(ev) + 1
			if before < 0 {
				continue
			}
			u, v := &x.views[ss.events[before].view], &x.views[e.view]
			ok := true
			switch {
			case u.id == v.id: // found above
			case u.id[0] == v.id[0] && u.id[1] == v.id[1]:
				ok = int32(v.id[2]-u.id[2]) > 0
			case !u.maybeHalf && !v.maybeHalf:
				ok = int32(v.id[1]-u.id[1]) >= 0
			}
			if !ok {
				s.fail(x.window(ss.events[before].rec, e.rec), "%s follows %s at %s: ids must rise", x.viewText(e.view), x.viewText(ss.events[before].view), x.sname(int32(i)))
			}
		}
	}
}

// checkGRP5: the VS sets of a network view partition its members by where they come from; those of other views hold the
// one member concerned.
func checkGRP5(x *index, s *sink) {
	for v := range x.views {
		vv := &x.views[v]
		s.seen(1)
		if !vv.network() {
			x.lightView(s, int32(v))
			continue
		}
		setOf := map[string]int{}
		double := false
		for k, set := range vv.info.Sets {
			for _, name := range set {
				_, twice := setOf[name]
				double = double || twice
				setOf[name] = k
			}
		}
		missing := len(setOf) != len(vv.info.Members)
		for _, m := range vv.info.Members {
			if _, ok := setOf[m]; !ok {
				missing = true
			}
		}
		if double || missing {
			s.fail(x.window(vv.rec), "the VS sets of %s do not partition its members", x.viewText(int32(v)))
			continue
		}
		type origin struct{ view, daemon int32 }
		bySet := map[int]int32{}      // set -> an install that has a previous view
		byFrom := map[origin]int32{}  // previous view and daemon -> an install
		byPrev := map[int32][]int32{} // previous view -> one install per set
		for _, in := range vv.installs {
			ii := &x.inst[in]
			t := x.recs[ii.rec].View
			ss := &x.sessions[ii.session]
			if ii.rec != vv.rec && !slices.EqualFunc(t.Sets, vv.info.Sets, slices.Equal[[]string]) {
				s.fail(x.window(vv.rec, ii.rec), "%s has different VS sets at two sessions", x.viewText(int32(v)))
				continue
			}
			if t.Mine < 0 || t.Mine >= len(t.Sets) || !slices.Contains(t.Sets[t.Mine], ss.id.Name) {
				s.fail(x.window(ii.rec), "%s marks a VS set as that of %s which does not contain it", x.viewText(int32(v)), x.sname(ii.session))
				continue
			}
			if o, ok := bySet[t.Mine]; ok {
				if x.prevView(o) != x.prevView(in) {
					s.fail(x.window(x.prevRec(o), x.inst[o].rec, x.prevRec(in), ii.rec), "%s and %s are in one VS set of %s but come from different views",
						x.sname(x.inst[o].session), x.sname(ii.session), x.viewText(int32(v)))
				}
			} else {
				bySet[t.Mine] = in
				if ii.prev >= 0 {
					byPrev[x.prevView(in)] = append(byPrev[x.prevView(in)], in)
				}
			}
			if ii.prev < 0 || ss.proc < 0 {
				continue
			}
			from := origin{x.prevView(in), ss.proc}
			if o, ok := byFrom[from]; !ok {
				byFrom[from] = in
			} else if x.inst[o].mine != ii.mine {
				s.fail(x.window(x.inst[o].rec, ii.rec), "%s and %s come from one view on one daemon but are in different VS sets of %s",
					x.sname(x.inst[o].session), x.sname(ii.session), x.viewText(int32(v)))
			}
		}
		for _, in := range vv.installs {
			for _, o := range byPrev[x.prevView(in)] {
				a, b := &x.inst[o], &x.inst[in]
				if a.prev >= 0 && b.prev >= 0 && a.mine != b.mine && x.wentTogether(a, b) {
					s.fail(x.window(x.prevRec(o), a.rec, x.prevRec(in), b.rec), "%s and %s went together to %s but are in different VS sets",
						x.sname(a.session), x.sname(b.session), x.viewText(int32(v)))
				}
			}
		}
	}
}

func (x *index) prevView(in int32) int32 {
	if p := x.inst[in].prev; p >= 0 {
		return x.inst[p].view
	}
	return -1
}

func (x *index) prevRec(in int32) int32 {
	if p := x.inst[in].prev; p >= 0 {
		return x.inst[p].rec
	}
	return -1
}

// wentTogether reports whether the daemons of two sessions passed through the same rings between their previous view
// and this one. It needs daemon-level records, and views whose second word names a ring; otherwise it says no.
func (x *index) wentTogether(a, b *install) bool {
	way := func(in *install) []int32 {
		ss := &x.sessions[in.session]
		u, v := &x.views[x.inst[in.prev].view], &x.views[in.view]
		if ss.proc < 0 || u.maybeHalf || v.maybeHalf {
			return nil
		}
		from, to := -1, -1
		list := x.procs[ss.proc].stays
		for k, si := range list {
			word := uint32(x.rings[x.stays[si].ring].id.Seq)
			if word == u.id[1] {
				from = k
			}
			if word == v.id[1] {
				to = k
			}
		}
		if from < 0 || to <= from {
			return nil
		}
		var out []int32
		for _, si := range list[from : to+1] {
			out = append(out, x.stays[si].ring)
		}
		return out
	}
	wa := way(a)
	return wa != nil && slices.Equal(wa, way(b))
}

// lightView checks a view caused by a join, leave or disconnect: one set with the one member concerned, and that member
// is the whole difference to the view before.
func (x *index) lightView(s *sink, v int32) {
	vv := &x.views[v]
	if len(vv.info.Sets) != 1 || len(vv.info.Sets[0]) != 1 {
		s.fail(x.window(vv.rec), "%s, caused by a %s, must have one set with the one member concerned", x.viewText(v), vv.info.Cause)
		return
	}
	who := vv.info.Sets[0][0]
	if joins := vv.info.Cause == evs.CausedByJoin; joins != vv.lists(who) {
		s.fail(x.window(vv.rec), "%s is caused by a %s of %s, and its member list says otherwise", x.viewText(v), vv.info.Cause, who)
		return
	}
	without := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(n string) bool { return n == who })
	}
	for _, in := range vv.installs {
		p := x.inst[in].prev
		if p < 0 {
			continue
		}
		if u := &x.views[x.inst[p].view]; !slices.Equal(without(u.info.Members), without(vv.info.Members)) {
			s.fail(x.window(x.inst[p].rec, x.inst[in].rec), "%s, caused by a %s of %s, changes other members too", x.viewText(v), vv.info.Cause, who)
		}
		break // all who come from the same view say the same, by GRP-2
	}
}

// checkGRP12: when all is quiet, every view lists exactly the sessions that are connected and joined.
func checkGRP12(x *index, s *sink) {
	type member struct {
		session int32
		conf    int32 // its daemon's last regular configuration; -1 without daemon-level records
	}
	truth := map[int32][]member{}
	type last struct{ session, view int32 }
	var lasts []last
	for i := range x.sessions {
		ss := &x.sessions[i]
		if ss.dead {
			continue
		}
		c := int32(-1)
		if ss.proc >= 0 && len(x.procs[ss.proc].stays) > 0 {
			c = x.stays[x.procs[ss.proc].stays[len(x.procs[ss.proc].stays)-1]].conf
		}
		wants := make([]bool, len(ss.groups))
		cur := make([]int32, len(ss.groups))
		for k := range cur {
			cur[k] = -1
		}
		for ev, e := range ss.events {
			switch e.kind {
			case evs.TraceJoin:
				wants[e.slot] = true
			case evs.TraceLeave:
				wants[e.slot] = false
			case evs.TraceView:
				cur[e.slot] = int32(ev)
			case evs.TraceSelfLeave:
				cur[e.slot] = -1
			default:
			}
		}
		for k, g := range ss.groups {
			if wants[k] {
				truth[g] = append(truth[g], member{int32(i), c})
			}
			switch {
			case cur[k] >= 0:
				lasts = append(lasts, last{int32(i), ss.events[cur[k]].view})
				if !wants[k] {
					s.fail(x.window(ss.events[cur[k]].rec), "%s left %s and is still in a view of it", x.sname(int32(i)), x.groups[g])
				}
			case wants[k] && !ss.noViews:
				s.fail(x.window(ss.connect), "%s joined %s and has no view of it", x.sname(int32(i)), x.groups[g])
			}
		}
	}
	for _, l := range lasts {
		if l.view < 0 {
			continue
		}
		s.seen(1)
		v := &x.views[l.view]
		var want []string
		var conf int32 = -1
		for _, m := range truth[v.group] {
			if m.session == l.session {
				conf = m.conf
			}
		}
		for _, m := range truth[v.group] {
			if m.conf == conf {
				want = append(want, x.sessions[m.session].id.Name)
			}
		}
		have := slices.Clone(v.info.Members)
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			s.fail(x.window(x.lastInstall(l.session, l.view)), "the last view of %s at %s lists %v; connected and joined are %v", x.groups[v.group], x.sname(l.session), have, want)
		}
	}
}

// lastInstall is the record with which a session last installed a view, -1 if it never did.
func (x *index) lastInstall(s, v int32) int32 {
	for _, in := range slices.Backward(x.views[v].installs) {
		if x.inst[in].session == s {
			return x.inst[in].rec
		}
	}
	return -1
}

// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"

	"evensong/internal/proto/evs"
)

// The rules about what members of a view and of a VS set share: GRP-6, 7, 18.

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
				if m := &x.cmsgs[ss.events[ev].msg]; !m.causal() && !m.selfDiscard && !(x.h.Lossy && m.service == evs.Unreliable) {
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

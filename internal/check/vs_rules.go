// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"evensong/internal/proto/evs"
)

// The rules of guarantees, section 5. They judge what users of view synchrony saw, not the daemon's views underneath.

// checkVS1: a message is delivered in the view in which it was sent.
func checkVS1(x *index, s *sink) {
	v := x.vs()
	for _, rec := range v.resent {
		s.fail(x.window(v.casts[x.recs[rec].Digest], rec), "two multicasts with one digest: messages cannot be told apart")
	}
	for i := range v.stays {
		st := &v.stays[i]
		for _, rec := range st.events {
			t := &x.recs[rec]
			if t.Kind != evs.TraceVSMessage {
				continue
			}
			s.seen(1)
			cast, ok := v.casts[t.Digest]
			if !ok {
				s.fail(x.window(rec), "%s delivers a message that nobody sent", v.text(st))
				continue
			}
			if sent := x.recs[cast].View; sent == nil || sent.ID != st.info.ID {
				s.fail(x.window(cast, st.rec, rec), "%s delivers a message that was sent in another view", v.text(st))
			}
			if c := &x.recs[cast]; !vsAddressed(c, v.name(st)) || c.Group != t.Group {
				s.fail(x.window(cast, rec), "%s delivers a message that was not for it", v.text(st))
			}
		}
	}
}

// checkVS2: those that go from one view to the next together delivered the same messages in it, each once.
func checkVS2(x *index, s *sink) {
	v := x.vs()
	for i := range v.stays {
		for _, rec := range v.stays[i].twice {
			s.fail(x.window(v.stays[i].got[x.recs[rec].Digest], rec), "%s delivers a message twice", v.text(&v.stays[i]))
		}
	}
	for _, class := range v.together(x.h.Quiescent) {
		if len(class) < 2 {
			continue
		}
		for _, a := range class {
			sa := &v.stays[a]
			for _, rec := range sa.events {
				t := &x.recs[rec]
				if t.Kind != evs.TraceVSMessage {
					continue
				}
				s.seen(1)
				cast, ok := v.casts[t.Digest]
				if !ok {
					continue // VS-1
				}
				for _, b := range class {
					sb := &v.stays[b]
					if _, has := sb.got[t.Digest]; !has && vsAddressed(&x.recs[cast], v.name(sb)) {
						s.fail(x.window(cast, rec, sb.rec), "%s delivers a message and %s, which comes along with it, does not", v.text(sa), v.text(sb))
					}
				}
			}
		}
	}
}

// checkVS3 is the automaton view, flush request, answer, next view of each member; at most one signal is in it. And a
// view is installed only when all its members that were in the group have answered: whoever came along to it has, also
// if it never gets to see it. Those that did not come along were not asked about my view.
func checkVS3(x *index, s *sink) {
	v := x.vs()
	for i := range v.stays {
		st := &v.stays[i]
		asked, answered, signal := int32(-1), int32(-1), int32(-1)
		for _, rec := range st.events {
			switch x.recs[rec].Kind {
			case evs.TraceVSFlushRequest:
				if asked >= 0 {
					s.fail(x.window(asked, rec), "%s is asked twice to flush", v.text(st))
				}
				asked = rec
			case evs.TraceVSFlushOK:
				if asked < 0 || answered >= 0 {
					s.fail(x.window(st.rec, answered, rec), "%s flushes without being asked", v.text(st))
				}
				answered = rec
			case evs.TraceVSSignal:
				if signal >= 0 {
					s.fail(x.window(signal, rec), "%s gets two transitional signals", v.text(st))
				}
				signal = rec
			}
		}
		if st.next < 0 {
			continue
		}
		s.seen(1)
		if answered < 0 {
			s.fail(x.window(st.rec, v.stays[st.next].rec), "%s gets the next view without having flushed", v.text(st))
		}
	}
	// By view of a group: who has it, and in which stay.
	type view struct {
		group string
		id    evs.ViewID
	}
	in := map[view]map[string]int32{}
	for i := range v.stays {
		st := &v.stays[i]
		k := view{v.members[st.member].group, st.info.ID}
		if in[k] == nil {
			in[k] = map[string]int32{}
		}
		in[k][v.name(st)] = int32(i)
	}
	for i := range v.stays {
		st := &v.stays[i]
		if st.prev < 0 {
			continue
		}
		prev := &v.stays[st.prev]
		for _, name := range st.came() {
			o, ok := in[view{v.members[st.member].group, prev.info.ID}][name]
			if ok && !slices.ContainsFunc(v.stays[o].events, func(rec int32) bool { return x.recs[rec].Kind == evs.TraceVSFlushOK }) {
				s.fail(x.window(prev.rec, v.stays[o].rec, st.rec), "%s: %s came along and has not flushed", v.text(st), name)
			}
		}
	}
}

// checkVS4: nothing is sent between the answer and the next view, nor without a view.
func checkVS4(x *index, s *sink) {
	v := x.vs()
	for _, rec := range v.loose {
		if t := &x.recs[rec]; t.Kind == evs.TraceVSMulticast {
			s.fail(x.window(rec), "%s sends to %s without a view of it", t.Session.Name, t.Group)
		}
	}
	for i := range v.stays {
		answered := int32(-1)
		for _, rec := range v.stays[i].events {
			switch x.recs[rec].Kind {
			case evs.TraceVSFlushOK:
				answered = rec
				s.seen(1)
			case evs.TraceVSMulticast:
				if answered >= 0 {
					s.fail(x.window(answered, rec), "%s sends after it has flushed", v.text(&v.stays[i]))
				}
			}
		}
	}
}

// checkVS5: nothing of anybody outside the view is seen, and nothing before the first view or after the self-leave.
func checkVS5(x *index, s *sink) {
	v := x.vs()
	for _, rec := range v.loose {
		if t := &x.recs[rec]; t.Kind == evs.TraceVSMessage {
			s.fail(x.window(rec), "%s delivers a message of %s without a view of it", t.Session.Name, t.Group)
		}
	}
	for i := range v.stays {
		st := &v.stays[i]
		for _, rec := range st.events {
			t := &x.recs[rec]
			if t.Kind != evs.TraceVSMessage {
				continue
			}
			s.seen(1)
			if !slices.Contains(st.info.Members, t.Sender) {
				s.fail(x.window(st.rec, rec), "%s delivers a message of %s, which is not in it", v.text(st), t.Sender)
			}
		}
	}
}

// checkVS6: a member is in its views, and delivers what it sent in one before the next.
func checkVS6(x *index, s *sink) {
	v := x.vs()
	for i := range v.stays {
		st := &v.stays[i]
		s.seen(1)
		if !slices.Contains(st.info.Members, v.name(st)) {
			s.fail(x.window(st.rec), "%s is not a member of it", v.text(st))
		}
		if st.next < 0 && (!x.h.Quiescent || st.left >= 0 || v.members[st.member].gone) {
			continue
		}
		for _, rec := range st.events {
			t := &x.recs[rec]
			if t.Kind != evs.TraceVSMulticast || !vsAddressed(t, v.name(st)) {
				continue
			}
			s.seen(1)
			if _, has := st.got[t.Digest]; !has {
				s.fail(x.window(rec), "%s does not deliver its own message", v.text(st))
			}
		}
	}
}

// checkVS7: the transitional set that comes with a view holds exactly the members that came from the same previous view
// together; all of them see the same set.
func checkVS7(x *index, s *sink) {
	v := x.vs()
	type install struct {
		group string
		id    evs.ViewID
	}
	of := map[install][]int32{}
	var order []install
	for i := range v.stays {
		k := install{v.members[v.stays[i].member].group, v.stays[i].info.ID}
		if of[k] == nil {
			order = append(order, k)
		}
		of[k] = append(of[k], int32(i))
	}
	from := func(st *vsStay) (id evs.ViewID, members []string) {
		if st.prev < 0 {
			return evs.ViewID{}, []string{v.name(st)}
		}
		return v.stays[st.prev].info.ID, v.stays[st.prev].info.Members
	}
	for _, k := range order {
		for _, a := range of[k] {
			sa := &v.stays[a]
			s.seen(1)
			idA, before := from(sa)
			came := sa.came()
			if !slices.Contains(came, v.name(sa)) {
				s.fail(x.window(sa.rec), "%s did not come along with itself: %v", v.text(sa), came)
			}
			for _, name := range came {
				if !slices.Contains(before, name) || !slices.Contains(sa.info.Members, name) {
					s.fail(x.window(sa.rec), "%s came with %s, which is not in both views", v.text(sa), name)
				}
			}
			for _, b := range of[k] {
				sb := &v.stays[b]
				if a == b || sa.prev < 0 || sb.prev < 0 {
					if a != b && slices.Contains(came, v.name(sb)) {
						s.fail(x.window(sa.rec, sb.rec), "%s came with %s, which had no view before", v.text(sa), v.name(sb))
					}
					continue
				}
				idB, _ := from(sb)
				switch has := slices.Contains(came, v.name(sb)); {
				case has && idA != idB:
					s.fail(x.window(sa.rec, sb.rec), "%s came with %s, which came from another view", v.text(sa), v.name(sb))
				case has && !slices.Equal(slices.Sorted(slices.Values(came)), slices.Sorted(slices.Values(sb.came()))):
					s.fail(x.window(sa.rec, sb.rec), "%s and %s came together with different members", v.text(sa), v.text(sb))
				case !has && slices.Contains(sb.came(), v.name(sa)):
					s.fail(x.window(sa.rec, sb.rec), "%s did not come with %s, which says it came with it", v.text(sa), v.name(sb))
				}
			}
		}
	}
}

// checkVS9: a view that says it is one join, leave or disconnect is exactly that, seen from the view before, because one
// that follows a discarded view says network; and views come in one order at all members.
func checkVS9(x *index, s *sink) {
	v := x.vs()
	type pair struct {
		group string
		a, b  evs.ViewID
	}
	behind := map[pair]int32{} // a before b: the record of b
	for i := range v.stays {
		st := &v.stays[i]
		group := v.members[st.member].group
		if st.prev < 0 {
			continue
		}
		s.seen(1)
		prev := &v.stays[st.prev]
		joined, gone := missing(st.info.Members, prev.info.Members), missing(prev.info.Members, st.info.Members)
		ok := true
		switch st.info.Cause {
		case evs.CausedByJoin:
			ok = len(joined) == 1 && len(gone) == 0
		case evs.CausedByLeave, evs.CausedByDisconnect:
			ok = len(joined) == 0 && len(gone) == 1
		case evs.CausedByNetwork:
		}
		if !ok {
			s.fail(x.window(prev.rec, st.rec), "%s has the cause %v; new are %v, gone %v", v.text(st), st.info.Cause, joined, gone)
		}
		behind[pair{group, prev.info.ID, st.info.ID}] = st.rec
		if rec, other := behind[pair{group, st.info.ID, prev.info.ID}]; other {
			s.fail(x.window(prev.rec, st.rec, rec), "%s comes behind view %x; at another member it is the other way round", v.text(st), prev.info.ID)
		}
	}
	// Equal ids are equal views.
	first := map[pair]int32{}
	for i := range v.stays {
		st := &v.stays[i]
		k := pair{group: v.members[st.member].group, a: st.info.ID}
		f, ok := first[k]
		if !ok {
			first[k] = int32(i)
			continue
		}
		o := &v.stays[f]
		if !slices.Equal(o.info.Members, st.info.Members) {
			s.fail(x.window(o.rec, st.rec), "%s and %s have different members", v.text(o), v.text(st))
		}
		// The cause depends on what was discarded, so it is the same for those that came together.
		if o.prev >= 0 && st.prev >= 0 && o.info.Cause != st.info.Cause && slices.Contains(o.came(), v.name(st)) {
			s.fail(x.window(o.rec, st.rec), "%s has the cause %v, and %s the cause %v", v.text(o), o.info.Cause, v.text(st), st.info.Cause)
		}
	}
}

// missing are the names of a that are not in b.
func missing(a, b []string) (out []string) {
	for _, n := range a {
		if !slices.Contains(b, n) {
			out = append(out, n)
		}
	}
	return out
}

// FlushBounded is VS-8: each flush request is followed within bound by the next view, by the end of the membership or by
// the end of the session. It takes a bound and reads times, as the liveness rules do. A request so late that the history
// ends before its bound is not judged; end is the time at which the history ends.
func FlushBounded(h *History, end, bound int64) []Violation {
	type key struct {
		session evs.SessionID
		group   string
	}
	var out []Violation
	open := map[key]*evs.Trace{}
	var order []key
	late := func(asked *evs.Trace, at int64) {
		if at-asked.At > bound {
			out = append(out, Violation{"VS-8", fmt.Sprintf("%s waits more than %d ns for the view behind a flush request", asked.Session.Name, bound), []evs.Trace{*asked}})
		}
	}
	for i := range h.Records {
		t := &h.Records[i]
		k := key{t.Session, t.Group}
		switch t.Kind {
		case evs.TraceVSFlushRequest:
			if open[k] == nil {
				order = append(order, k)
			}
			open[k] = t
		case evs.TraceVSView, evs.TraceVSSelfLeave:
			if asked := open[k]; asked != nil {
				late(asked, t.At)
				open[k] = nil
			}
		case evs.TraceDisconnect:
			for _, o := range order {
				if o.session == t.Session && open[o] != nil {
					late(open[o], t.At)
					open[o] = nil
				}
			}
		}
	}
	for _, k := range order {
		if asked := open[k]; asked != nil {
			late(asked, end)
			open[k] = nil
		}
	}
	return out
}

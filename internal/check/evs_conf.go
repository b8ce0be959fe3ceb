// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"

	"evensong/internal/proto/evs"
)

// The rules about configurations: EVS-4 to EVS-8, EVS-16, EVS-18.

// checkEVS4: whoever installs a configuration is in it, with its own incarnation.
func checkEVS4(x *index, s *sink) {
	x.installs(func(p, ev int32, t *evs.Trace) {
		s.seen(1)
		if !slices.Contains(t.Members, t.Proc) {
			s.fail(x.window(x.rec(p, ev)), "%s installs %s, which does not contain it", t.Proc, t.Conf)
		}
	})
}

// installs calls f for each TraceConf, process by process.
func (x *index) installs(f func(p, ev int32, t *evs.Trace)) {
	for p := range x.procs {
		for i, e := range x.procs[p].events {
			if e.kind == evs.TraceConf {
				f(int32(p), int32(i), &x.recs[e.rec])
			}
		}
	}
}

// checkEVS5: one identifier, one membership in one ring order, one use per process.
func checkEVS5(x *index, s *sink) {
	installed := map[[2]int32]int32{} // process, configuration -> record
	x.installs(func(p, ev int32, t *evs.Trace) {
		e := x.procs[p].events[ev]
		c := &x.confs[e.conf]
		if key := [2]int32{p, e.conf}; installed[key] != 0 {
			s.fail(x.window(installed[key]-1, e.rec), "%s installs %s twice", t.Proc, t.Conf)
		} else {
			installed[key] = e.rec + 1
		}
		if e.rec == c.rec {
			return
		}
		s.seen(1)
		first := &x.recs[c.rec]
		if !slices.Equal(first.Members, t.Members) {
			s.fail(x.window(c.rec, e.rec), "%s has different members at %s and %s", t.Conf, first.Proc, t.Proc)
		} else if len(first.Origins) > 0 && len(t.Origins) > 0 && !slices.Equal(first.Origins, t.Origins) {
			s.fail(x.window(c.rec, e.rec), "%s has different origins at %s and %s", t.Conf, first.Proc, t.Proc)
		}
	})
}

// checkEVS6 is the automaton of one incarnation: start, singleton regular configuration, then transitional and regular
// by turns; sends in a regular configuration, deliveries in the current one, nothing of another ring between the two
// halves of a change, nothing after the end.
func checkEVS6(x *index, s *sink) {
	for p := range x.procs {
		pr := &x.procs[p]
		if !pr.recs {
			continue
		}
		const none = int32(-1)
		cur, curEv, regular := none, none, none // current configuration, its event, the last regular one
		started, ended := false, false
		for i, e := range pr.events {
			t := &x.recs[e.rec]
			bad := func(format string, args ...any) {
				s.fail(x.window(x.rec(int32(p), curEv), e.rec), "at %s: "+format, append([]any{pr.id}, args...)...)
			}
			if ended {
				bad("a record after the incarnation ended")
				break
			}
			if !started && e.kind != evs.TraceStart {
				bad("a record before the start of the incarnation")
			}
			transitional := cur != none && x.confs[cur].id.Kind == evs.Transitional
			switch e.kind {
			case evs.TraceStart:
				if started {
					bad("the incarnation starts twice")
				}
			case evs.TraceConf:
				s.seen(1)
				id := t.Conf
				switch {
				case id.Kind == evs.Regular && cur == none:
					if len(t.Members) != 1 || t.Members[0] != pr.id {
						bad("the first configuration %s is not a singleton of its own", id)
					}
				case id.Kind == evs.Regular && !transitional:
					bad("regular %s installed without a transitional configuration before it", id)
				case id.Kind == evs.Regular && x.confs[cur].id.New != id.New:
					bad("regular %s follows transitional %s", id, x.confs[cur].id)
				case id.Kind == evs.Transitional && (cur == none || regular == none || transitional):
					bad("transitional %s does not follow a regular configuration", id)
				case id.Kind == evs.Transitional && x.confs[regular].id.New != id.Old:
					bad("transitional %s follows regular %s", id, x.confs[regular].id)
				case id.Kind != evs.Regular && id.Kind != evs.Transitional:
					bad("configuration %s of unknown kind", id)
				}
				cur, curEv = e.conf, int32(i)
				if id.Kind == evs.Regular {
					regular = e.conf
				}
			case evs.TraceSend:
				if e.conf != cur || transitional {
					bad("sends outside its current regular configuration")
				}
			case evs.TraceDeliver:
				if e.conf != cur {
					bad("delivers outside its current configuration")
				}
			case evs.TraceToken, evs.TraceTokenLost:
				if transitional {
					bad("a token between the two halves of a configuration change")
				}
			case evs.TraceFail, evs.TraceStop:
				ended = true
			default:
			}
			started = true
		}
		if x.h.Quiescent && !ended && cur != none && x.confs[cur].id.Kind == evs.Transitional {
			s.fail(x.window(x.rec(int32(p), curEv)), "%s ends a quiet run in a transitional configuration", pr.id)
		}
	}
}

// checkEVS7: the transitional configuration between a and b holds exactly those who go directly from a to b.
func checkEVS7(x *index, s *sink) {
	for i := range x.stays {
		st := &x.stays[i]
		if st.tconf < 0 {
			continue
		}
		s.seen(1)
		t := &x.confs[st.tconf]
		trec := x.rec(st.proc, st.trans)
		members := x.procsOf(x.recs[trec].Members)
		a := &x.confs[st.conf]
		bi, ok := x.confOf[evs.RegularID(t.id.New)]
		if !ok {
			continue
		}
		b := &x.confs[bi]
		for _, q := range members {
			if a.rec >= 0 && !slices.Contains(a.members, q) {
				s.fail(x.window(a.rec, trec), "%s is in %s but not in the configuration it leaves", x.name(q), t.id)
			}
			if b.rec >= 0 && !slices.Contains(b.members, q) {
				s.fail(x.window(trec, b.rec), "%s is in %s but not in the next regular configuration", x.name(q), t.id)
			}
		}
		if b.rec < 0 {
			continue
		}
		// Everybody who installed b.
		for _, si := range x.rings[b.ring].stays {
			to := &x.stays[si]
			direct := false
			if to.prev >= 0 {
				from := &x.stays[to.prev]
				direct = from.ring == st.ring && from.tconf >= 0
			}
			if direct != slices.Contains(members, to.proc) {
				word := "came another way but is listed in"
				if direct {
					word = "went the same way but is missing from"
				}
				s.fail(x.window(trec, x.rec(to.proc, to.first)), "%s %s the transitional configuration %s of %s", x.name(to.proc), word, t.id, x.name(st.proc))
			}
		}
		// The regular configuration says where each member came from; it must say the same.
		origins := x.recs[b.rec].Origins
		if len(origins) != len(b.members) {
			continue
		}
		for j, q := range b.members {
			if (origins[j] == t.id.Old) != slices.Contains(members, q) {
				s.fail(x.window(trec, b.rec), "the origins of %s and the members of %s disagree about %s", b.id, t.id, x.name(q))
			}
		}
	}
}

func (x *index) procsOf(ids []evs.ProcID) []int32 {
	out := make([]int32, 0, len(ids))
	for _, id := range ids {
		if p, ok := x.procOf[id]; ok {
			out = append(out, int32(p))
		}
	}
	return out
}

// checkEVS8: ring sequences of a name only grow, over all its lives, and are on stable storage before the ring is
// installed.
func checkEVS8(x *index, s *sink) {
	for n, lives := range x.lives {
		volatile := x.volatile(x.names[n])
		var last, stored uint64
		lastRec, storedRec := int32(-1), int32(-1)
		for _, p := range lives {
			if volatile {
				last, stored, lastRec, storedRec = 0, 0, -1, -1
			}
			for _, e := range x.procs[p].events {
				t := &x.recs[e.rec]
				switch {
				case e.kind == evs.TraceStore:
					if t.Number > stored {
						stored, storedRec = t.Number, e.rec
					}
				case e.kind == evs.TraceConf && t.Conf.Kind == evs.Regular:
					s.seen(1)
					seq := t.Conf.New.Seq
					if lastRec >= 0 && seq <= last {
						s.fail(x.window(lastRec, e.rec), "%s installs ring sequence %d after %d", t.Proc, seq, last)
					}
					if !volatile && stored < seq {
						s.fail(x.window(storedRec, e.rec), "%s installs ring sequence %d before it is on stable storage (stored: %d)", t.Proc, seq, stored)
					}
					last, lastRec = max(last, seq), e.rec
				}
			}
		}
	}
}

// checkEVS16: a Safe delivery in a regular configuration proves that every member installed it. Members of which the
// history has no record at all are not judged, here and in EVS-15: their file may be lost.
func checkEVS16(x *index, s *sink) {
	done := make([]bool, len(x.confs))
	for i := range x.stays {
		st := &x.stays[i]
		if done[st.conf] {
			continue
		}
		rec := x.firstSafe(st)
		if rec < 0 {
			continue
		}
		done[st.conf] = true
		s.seen(1)
		for _, q := range x.confs[st.conf].members {
			if x.procs[q].recs && x.stayOn(st.ring, q) < 0 {
				s.fail(x.window(x.rec(st.proc, st.first), rec), "%s delivers a Safe message in %s, which %s never installed",
					x.name(st.proc), x.confs[st.conf].id, x.name(q))
			}
		}
	}
}

// firstSafe is the record of the first Safe delivery in the regular part of a stay, -1 if there is none.
func (x *index) firstSafe(st *stay) int32 {
	end := st.end
	if st.trans >= 0 {
		end = st.trans
	}
	for _, e := range x.procs[st.proc].events[st.first:end] {
		if e.kind == evs.TraceDeliver && x.msgs[e.msg].service == evs.Safe {
			return e.rec
		}
	}
	return -1
}

// checkEVS18: a restart is a new process to everybody.
func checkEVS18(x *index, s *sink) {
	for n, lives := range x.lives {
		var last uint64
		lastRec := int32(-1)
		for k, p := range lives {
			pr := &x.procs[p]
			if k > 0 {
				s.seen(1)
			}
			for j, si := range pr.stays {
				st := &x.stays[si]
				rec := x.rec(st.proc, st.first)
				seq := x.confs[st.conf].id.New.Seq
				if j == 0 {
					if m := x.confs[st.conf].members; len(m) != 1 || m[0] != int32(p) {
						s.fail(x.window(pr.start, rec), "the first configuration of %s is not a singleton of its own", pr.id)
					}
					if lastRec >= 0 && seq <= last && !x.volatile(x.names[n]) {
						s.fail(x.window(lastRec, rec), "%s begins with ring sequence %d; an earlier life had installed %d", pr.id, seq, last)
					}
				}
				if seq > last {
					last, lastRec = seq, rec
				}
			}
			if k == 0 {
				continue
			}
			for _, e := range pr.events {
				if e.kind != evs.TraceDeliver {
					continue
				}
				if o := x.recs[e.rec].Origin; o.Name == pr.id.Name && o != pr.id {
					s.fail(x.window(pr.start, e.rec), "%s delivers a message of %s, an earlier life", pr.id, o)
				}
			}
		}
	}
	for c := range x.confs {
		m := x.confs[c].members
		byName := make(map[string]int32, len(m))
		for _, q := range m {
			if other, ok := byName[x.procs[q].id.Name]; ok {
				s.fail(x.window(x.confs[c].rec), "%s holds two lives of one name, %s and %s", x.confs[c].id, x.name(other), x.name(q))
			}
			byName[x.procs[q].id.Name] = q
		}
	}
	// Whoever knew the old life meets the new one outside its transitional set.
	for i := range x.stays {
		st := &x.stays[i]
		if st.next < 0 || st.tconf < 0 {
			continue
		}
		old := x.confs[st.conf].members
		for _, q := range x.confs[st.next].members {
			if slices.Contains(old, q) || !slices.ContainsFunc(old, func(o int32) bool { return x.procs[o].id.Name == x.procs[q].id.Name }) {
				continue
			}
			s.seen(1)
			if x.isMember(st.tconf, q) {
				s.fail(x.window(x.rec(st.proc, st.first), x.rec(st.proc, st.trans)), "%s takes %s, a new life of a member of %s, along in %s",
					x.name(st.proc), x.name(q), x.confs[st.conf].id, x.confs[st.tconf].id)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"

	"evensong/internal/proto/evs"
)

// checkPC7: what configurations say of being primary. All members say the same of one configuration; a transitional one is
// never primary; and any two primary ones have the name of a daemon in common, so that they cannot exist side by side
// without it having left the one for the other. That holds through one change of the list of daemons; a history with several
// must be cut between them. Sessions that are told have it told when it changes, and at a quiet end know what holds.
func checkPC7(x *index, s *sink) {
	type primary struct {
		names []string // sorted
		rec   int32
	}
	var list []primary
	last := map[evs.ProcID]*evs.Trace{}
	x.installs(func(p, ev int32, t *evs.Trace) {
		e := x.procs[p].events[ev]
		last[t.Proc] = t
		if t.Primary != evs.PrimaryUnclaimed {
			s.seen(1)
		}
		first := x.confs[e.conf].rec
		switch {
		case x.recs[first].Primary != t.Primary:
			s.fail(x.window(first, e.rec), "whether %s is primary is %v at %s and %v at %s", t.Conf, x.recs[first].Primary, x.recs[first].Proc, t.Primary, t.Proc)
		case t.Conf.Kind == evs.Transitional && t.Primary == evs.PrimaryYes:
			s.fail(x.window(e.rec), "%s has transitional %s as primary", t.Proc, t.Conf)
		case t.Primary == evs.PrimaryYes && e.rec == first:
			var names []string
			for _, m := range t.Members {
				names = append(names, m.Name)
			}
			slices.Sort(names)
			if !slices.ContainsFunc(list, func(o primary) bool { return slices.Equal(o.names, names) }) {
				list = append(list, primary{names, e.rec})
			}
		}
	})
	for i, a := range list {
		for _, b := range list[:i] {
			if s.full() {
				return
			}
			if !slices.ContainsFunc(a.names, func(n string) bool { _, in := slices.BinarySearch(b.names, n); return in }) {
				s.fail(x.window(b.rec, a.rec), "%s and %s are both primary and have no daemon in common", x.recs[b.rec].Conf, x.recs[a.rec].Conf)
			}
		}
	}
	x.checkTold(last, s)
}

// checkTold: sessions hear of each change once, and at a quiet end know what holds at their daemon. last is the last
// configuration of each daemon.
func (x *index) checkTold(last map[evs.ProcID]*evs.Trace, s *sink) {
	type state struct {
		rec  int32
		told evs.Primary
		gone bool
	}
	sessions := map[evs.SessionID]*state{}
	var order []evs.SessionID
	for i := range x.recs {
		t := &x.recs[i]
		switch t.Kind {
		case evs.TracePrimary:
			st := sessions[t.Session]
			if st == nil {
				st = &state{}
				sessions[t.Session] = st
				order = append(order, t.Session)
			} else if st.told == t.Primary {
				s.fail(x.window(st.rec, int32(i)), "%s is told twice that primary is %v", sessionText(t.Session), t.Primary)
			}
			st.rec, st.told = int32(i), t.Primary
		case evs.TraceDisconnect:
			if st := sessions[t.Session]; st != nil {
				st.gone = true
			}
		default:
		}
	}
	if !x.h.Quiescent {
		return
	}
	for _, id := range order {
		st, conf := sessions[id], last[id.Daemon]
		p, known := x.procOf[id.Daemon]
		if st.gone || conf == nil || !known || x.procs[p].dead {
			continue
		}
		if conf.Conf.Kind == evs.Regular && conf.Primary != st.told {
			s.fail(x.window(st.rec), "%s ends with primary %v, and its daemon's configuration has %v", sessionText(id), st.told, conf.Primary)
		}
	}
}

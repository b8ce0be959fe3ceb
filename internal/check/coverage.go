// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"

	"evensong/internal/proto/evs"
)

// coverage counts the situations that make the rules interesting: a run in which they did not happen proves little.
func (x *index) coverage() []Counter {
	var out []Counter
	add := func(name string, n int) { out = append(out, Counter{name, int64(n)}) }

	var deliveries, safeTrans, safeReg, early, outside, holes, lost, tokens, stores int
	for i := range x.stays {
		st := &x.stays[i]
		events := x.procs[st.proc].events
		// From the end: a message below Causal is early if a lower place is delivered later.
		lowest := int32(len(x.rings[st.ring].msgs))
		for ev := st.end - 1; ev > st.first; ev-- {
			e := &events[ev]
			if e.kind != evs.TraceDeliver || x.msgs[e.msg].ring != st.ring {
				continue
			}
			m := &x.msgs[e.msg]
			deliveries++
			if !m.causal() && lowest < m.ord {
				early++
			}
			lowest = min(lowest, m.ord)
			if m.service == evs.Safe {
				if st.inTrans(ev) {
					safeTrans++
				} else {
					safeReg++
				}
			}
			if st.inTrans(ev) && m.sender >= 0 && !x.isMember(st.tconf, m.sender) {
				outside++
			}
		}
		if st.tconf >= 0 {
			for _, ord := range st.suspects {
				if st.pos[ord] == 0 {
					holes++
				}
			}
		}
	}
	var merges, merges3, splits, fails, stops int
	for r := range x.rings {
		from := map[int32]bool{}
		for _, si := range x.rings[r].stays {
			if p := x.stays[si].prev; p >= 0 {
				from[x.stays[p].ring] = true
			}
		}
		if len(from) >= 2 {
			merges++
		}
		if len(from) >= 3 {
			merges3++
		}
		to := map[int32]bool{}
		for _, si := range x.rings[r].stays {
			if n := x.stays[si].next; n >= 0 {
				to[n] = true
			}
		}
		if len(to) >= 2 {
			splits++
		}
	}
	for p := range x.procs {
		for _, e := range x.procs[p].events {
			switch e.kind {
			case evs.TraceFail:
				fails++
			case evs.TraceStop:
				stops++
			case evs.TraceToken:
				tokens++
			case evs.TraceTokenLost:
				lost++
			case evs.TraceStore:
				stores++
			default:
			}
		}
	}
	var restarts, fast int
	for _, lives := range x.lives {
		for k := 1; k < len(lives); k++ {
			restarts++
			end, start := x.procs[lives[k-1]].ends, x.procs[lives[k]].start
			if end >= 0 && start >= 0 && x.h.TokenTimeout > 0 && x.recs[start].At-x.recs[end].At < x.h.TokenTimeout {
				fast++
			}
		}
	}
	add("daemon deliveries", deliveries)
	add("safe deliveries in regular configurations", safeReg)
	add("safe deliveries in transitional configurations", safeTrans)
	add("early Reliable or FIFO deliveries", early)
	add("deliveries after the signal from a sender outside the transitional set", outside)
	add("ordered messages passed over after the signal", holes)
	add("merges", merges)
	add("merges of three or more components", merges3)
	add("partitions", splits)
	add("crashes", fails)
	add("orderly stops", stops)
	add("restarts", restarts)
	add("restarts inside the token timeout", fast)
	add("tokens accepted", tokens)
	add("tokens lost", lost)
	add("stable writes", stores)

	var multi, private, discard, open, receipts int
	for i := range x.cmsgs {
		m := &x.cmsgs[i]
		receipts += int(m.receipts)
		if m.receipts == 0 {
			continue
		}
		if len(m.groups) > 1 {
			multi++
		}
		for _, g := range m.groups {
			if strings.HasPrefix(x.groups[g], "#") {
				private++
				break
			}
		}
		if m.selfDiscard {
			discard++
		}
		if m.sender >= 0 {
			ss := &x.sessions[m.sender]
			for _, g := range m.groups {
				if ss.find(g) < 0 && g != ss.self {
					open++
					break
				}
			}
		}
	}
	var signals, selfLeaves, closed int
	for i := range x.sessions {
		for _, e := range x.sessions[i].events {
			switch e.kind {
			case evs.TraceSignal:
				signals++
			case evs.TraceSelfLeave:
				selfLeaves++
			case evs.TraceDisconnect:
				if x.recs[e.rec].Reason != "" {
					closed++
				}
			default:
			}
		}
	}
	var network, half, sets int
	causes := [evs.CausedByNetwork + 1]int{}
	for v := range x.views {
		if c := x.views[v].info.Cause; c <= evs.CausedByNetwork {
			causes[c]++
		}
		if x.views[v].network() {
			network++
			if len(x.views[v].info.Sets) > 1 {
				sets++
			}
		}
		if x.views[v].maybeHalf {
			half++
		}
	}
	add("messages to sessions", receipts)
	add("views", len(x.views))
	add("views by join", causes[evs.CausedByJoin])
	add("views by leave", causes[evs.CausedByLeave])
	add("views by disconnect", causes[evs.CausedByDisconnect])
	add("views by network", network)
	add("network views with several VS sets", sets)
	add("interim views", half)
	add("signals", signals)
	add("self-leaves", selfLeaves)
	add("multi-group messages", multi)
	add("private messages", private)
	add("self-discard messages", discard)
	add("open-group messages", open)
	add("sessions closed by a daemon", closed)
	return out
}

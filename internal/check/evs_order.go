// SPDX-License-Identifier: Apache-2.0

package check

import (
	"evensong/internal/proto/evs"
)

// The rules about order, safety of delivery and the token: EVS-13, 14, 15, 17, 19, 20.

// checkEVS13: one order of all ordered messages and configurations, the same everywhere.
func checkEVS13(x *index, s *sink) {
	for i := range x.stays {
		st := &x.stays[i]
		if st.maxOrd >= 0 {
			s.seen(1)
		}
	}
	if x.fastOrder() {
		return
	}
	g, evOf := x.orderGraph()
	c := g.cycle()
	if c == nil {
		return
	}
	// Each edge of the cycle is two neighboring events of one process; print both.
	var w []evs.Trace
	for _, e := range c {
		w = append(w, x.window(evOf(e), e.rec)...)
	}
	s.fail(w, "the orders of deliveries and configurations at different processes contradict each other (cycle of %d)", len(c))
}

// fastOrder decides almost every history without the graph. If every process delivers the ordered messages of a ring in
// rising place, sends after what it has delivered, each transitional configuration falls into one gap of its ring's
// order for all who install it, and the regular configurations themselves form no cycle, then place within ring and
// order of rings are the function ord that the rule asks for.
func (x *index) fastOrder() bool {
	type gap struct{ before, after int32 }
	gaps := map[int32]gap{} // transitional configuration -> highest place before it, lowest after it
	g := graph{nodes: len(x.confs)}
	for p := range x.procs {
		for _, e := range x.procs[p].events {
			if e.kind == evs.TraceSend {
				if m := &x.msgs[e.msg]; m.causal() && m.cause >= m.ord {
					return false
				}
			}
		}
	}
	for i := range x.stays {
		st := &x.stays[i]
		if !st.increasing {
			return false
		}
		if st.next >= 0 {
			g.add(int(st.conf), int(st.next), x.rec(st.proc, st.end))
		}
		if st.tconf < 0 {
			continue
		}
		gp, ok := gaps[st.tconf]
		if !ok {
			gp = gap{-1, int32(len(x.rings[st.ring].msgs))}
		}
		events := x.procs[st.proc].events
		for ev := st.trans; ev > st.first; ev-- {
			if e := &events[ev]; e.kind == evs.TraceDeliver && x.msgs[e.msg].causal() {
				gp.before = max(gp.before, x.msgs[e.msg].ord)
				break
			}
		}
		for ev := st.trans; ev < st.end; ev++ {
			if e := &events[ev]; e.kind == evs.TraceDeliver && x.msgs[e.msg].causal() {
				gp.after = min(gp.after, x.msgs[e.msg].ord)
				break
			}
		}
		if gp.before >= gp.after {
			return false
		}
		gaps[st.tconf] = gp
	}
	// A delivery of a wrong ring, or a configuration out of turn, is not covered by the argument.
	for p := range x.procs {
		cur, stays := int32(-1), 0
		for _, e := range x.procs[p].events {
			switch e.kind {
			case evs.TraceConf:
				c := &x.confs[e.conf]
				if c.id.Kind == evs.Transitional {
					if stays == 0 || x.stays[x.procs[p].stays[stays-1]].tconf != e.conf {
						return false
					}
				} else {
					stays++
				}
				cur = c.ring
			case evs.TraceDeliver:
				if x.msgs[e.msg].ring != cur {
					return false
				}
			default:
			}
		}
	}
	return g.cycle() == nil
}

// orderGraph has a node per message ≥ Causal and per configuration, and an edge for each consecutive pair of them at
// each process; a send comes after what its sender had delivered and sent. The function gives the record at which the
// tail of an edge was seen.
func (x *index) orderGraph() (*graph, func(edge) int32) {
	g := &graph{nodes: len(x.msgs) + len(x.confs)}
	for p := range x.procs {
		last, lastSend := -1, -1
		for _, e := range x.procs[p].events {
			switch e.kind {
			case evs.TraceConf:
				v := len(x.msgs) + int(e.conf)
				if last >= 0 {
					g.add(last, v, e.rec)
				}
				last = v
			case evs.TraceDeliver:
				if !x.msgs[e.msg].causal() {
					continue
				}
				if last >= 0 && last != int(e.msg) {
					g.add(last, int(e.msg), e.rec)
				}
				last = int(e.msg)
			case evs.TraceSend:
				if !x.msgs[e.msg].causal() {
					continue
				}
				if last >= 0 && last != int(e.msg) {
					g.add(last, int(e.msg), e.rec)
				}
				if lastSend >= 0 && lastSend != int(e.msg) {
					g.add(lastSend, int(e.msg), e.rec)
				}
				lastSend = int(e.msg)
			default:
			}
		}
	}
	evOf := func(e edge) int32 {
		// The tail was seen at the same process at or before e.rec: the last record of it there.
		p := x.procOf[x.recs[e.rec].Proc]
		found := int32(-1)
		for _, ev := range x.procs[p].events {
			if ev.rec == e.rec {
				break
			}
			switch {
			case int(e.from) >= len(x.msgs):
				if ev.kind == evs.TraceConf && int(ev.conf) == int(e.from)-len(x.msgs) {
					found = ev.rec
				}
			case ev.msg == e.from && (ev.kind == evs.TraceDeliver || ev.kind == evs.TraceSend):
				found = ev.rec
			}
		}
		return found
	}
	return g, evOf
}

// checkEVS14: no ordered message is passed over, except after the signal one of a sender who does not come along.
func checkEVS14(x *index, s *sink) {
	for i := range x.stays {
		st := &x.stays[i]
		maxReg, maxTrans := int32(-1), int32(-1)
		var regRec, transRec int32
		events := x.procs[st.proc].events
		for ev := st.first; ev < st.end; ev++ {
			e := &events[ev]
			if e.kind != evs.TraceDeliver || !x.msgs[e.msg].agreed() || x.msgs[e.msg].ring != st.ring {
				continue
			}
			s.seen(1)
			if ord := x.msgs[e.msg].ord; st.inTrans(ev) {
				if ord > maxTrans {
					maxTrans, transRec = ord, e.rec
				}
			} else if ord > maxReg {
				maxReg, regRec = ord, e.rec
			}
		}
		msgs := x.rings[st.ring].msgs
		for ord := int32(0); ord < max(maxReg, maxTrans); ord++ {
			if st.pos[ord] != 0 {
				continue
			}
			m := &x.msgs[msgs[ord]]
			if !m.agreed() || m.delivered < 0 {
				continue
			}
			switch {
			case ord < maxReg:
				s.fail(x.window(m.send, m.delivered, regRec), "%s delivers past %s in its regular configuration", x.name(st.proc), x.msgText(msgs[ord]))
			case x.isMember(st.tconf, m.sender):
				s.fail(x.window(m.send, m.delivered, x.rec(st.proc, st.trans), transRec), "%s delivers past %s, whose sender %s is in its transitional configuration",
					x.name(st.proc), x.msgText(msgs[ord]), x.name(m.sender))
			}
		}
	}
}

// checkEVS15: a Safe message reaches every member of the configuration in which it was delivered, or they fail.
func checkEVS15(x *index, s *sink) {
	x.safe(s, func(*stay, int32, int32) bool { return true })
}

// checkEVS17: the signal stands between the two promises. A Safe message delivered before it promises all of the regular
// configuration, so a member outside the transitional set that goes on without it shows that the signal came too late.
func checkEVS17(x *index, s *sink) {
	x.safe(s, func(st *stay, ev, q int32) bool {
		return !st.inTrans(ev) && st.tconf >= 0 && !x.isMember(st.tconf, q)
	})
}

// safe reports a violation for each Safe delivery that a member q neither delivers nor dies before delivering, if counts
// agrees. The same promise of the same message in the same configuration is examined once.
func (x *index) safe(s *sink, counts func(st *stay, ev, q int32) bool) {
	judged := make([]int32, len(x.msgs)) // 1 + configuration judged last; members of one configuration come in one run or few
	for r := range x.rings {
		for _, si := range x.rings[r].stays {
			st := &x.stays[si]
			events := x.procs[st.proc].events
			for ev := st.first; ev < st.end; ev++ {
				e := &events[ev]
				if e.kind != evs.TraceDeliver {
					continue
				}
				m := &x.msgs[e.msg]
				if m.service != evs.Safe || m.ring != st.ring {
					continue
				}
				c := st.conf
				if st.inTrans(ev) {
					c = st.tconf
				}
				if judged[e.msg] == c+1 {
					continue
				}
				judged[e.msg] = c + 1
				s.seen(1)
				for _, q := range x.confs[c].members {
					lack := x.stayOn(st.ring, q)
					if lack >= 0 && x.stays[lack].has(m.ord) {
						continue
					}
					if lack >= 0 && x.stays[lack].next < 0 || lack < 0 {
						// It has not gone on: it may be dead, or only late.
						if x.procs[q].dead || !x.procs[q].recs || !x.h.Quiescent {
							continue
						}
					}
					if !counts(st, ev, q) {
						continue
					}
					var on int32 = -1
					if lack >= 0 {
						on = x.rec(q, x.stays[lack].end)
					}
					s.fail(x.window(m.send, x.rec(st.proc, st.trans), e.rec, on), "%s delivers %s in %s; member %s goes on without it",
						x.name(st.proc), x.msgText(e.msg), x.confs[c].id, x.name(q))
				}
			}
		}
	}
}

// checkEVS19: in a regular configuration one process is never ahead on another way, only farther on the same way.
func checkEVS19(x *index, s *sink) {
	for r := range x.rings {
		// The longest sequence is the one to compare with.
		var longest []int32
		owner := int32(-1)
		seqs := make([][]int32, len(x.rings[r].stays))
		for k, si := range x.rings[r].stays {
			st := &x.stays[si]
			end := st.end
			if st.trans >= 0 {
				end = st.trans
			}
			var q []int32
			for _, e := range x.procs[st.proc].events[st.first:end] {
				if e.kind == evs.TraceDeliver && x.msgs[e.msg].agreed() {
					q = append(q, e.rec)
				}
			}
			seqs[k] = q
			if owner < 0 || len(q) > len(longest) {
				longest, owner = q, st.proc
			}
		}
		for k, q := range seqs {
			p := x.stays[x.rings[r].stays[k]].proc
			if p == owner || len(q) == 0 {
				continue
			}
			s.seen(1)
			for i := range q {
				a, b := &x.recs[longest[i]], &x.recs[q[i]]
				if a.Seq != b.Seq || a.Index != b.Index || a.Digest != b.Digest {
					s.fail(x.window(longest[i], q[i]), "ordered message number %d of %s differs at %s and %s", i+1, x.rings[r].id, x.name(owner), x.name(p))
					break
				}
			}
		}
	}
}

// checkEVS20: a token is acted upon once, by one process, and not by one that has declared it lost.
func checkEVS20(x *index, s *sink) {
	taken := make([]hops, len(x.rings))
	lost, last := make([]int32, len(x.rings)), make([]int32, len(x.rings)) // by ring: record plus one
	for p := range x.procs {
		clear(lost)
		clear(last)
		for _, e := range x.procs[p].events {
			switch e.kind {
			case evs.TraceToken:
				s.seen(1)
				r := x.confs[e.conf].ring
				num := x.recs[e.rec].Number
				if other := taken[r].swap(num, e.rec+1); other != 0 {
					s.fail(x.window(other-1, e.rec), "token %d of ring %s is acted upon by %s and by %s", num, x.rings[r].id, x.recs[other-1].Proc, x.recs[e.rec].Proc)
				}
				if l := lost[r]; l != 0 {
					s.fail(x.window(l-1, e.rec), "%s acts on the token of ring %s after it declared it lost", x.recs[e.rec].Proc, x.rings[r].id)
				}
				if prev := last[r]; prev != 0 && num < x.recs[prev-1].Number {
					s.fail(x.window(prev-1, e.rec), "%s accepts token %d of ring %s after %d", x.recs[e.rec].Proc, num, x.rings[r].id, x.recs[prev-1].Number)
				}
				last[r] = e.rec + 1
			case evs.TraceTokenLost:
				lost[x.confs[e.conf].ring] = e.rec + 1
			default:
			}
		}
	}
}

// hops remembers who accepted which token of one ring: in a slice, because tokens count up from one, and in a map what a
// strange history has beyond.
type hops struct {
	low  []int32
	high map[uint64]int32
}

// swap notes rec for token num and returns what was noted before; zero: nothing.
func (h *hops) swap(num uint64, rec int32) (old int32) {
	const dense = 1 << 20
	if num >= dense {
		if h.high == nil {
			h.high = map[uint64]int32{}
		}
		old, h.high[num] = h.high[num], rec
		return old
	}
	for uint64(len(h.low)) <= num {
		h.low = append(h.low, 0)
	}
	old, h.low[num] = h.low[num], rec
	return old
}

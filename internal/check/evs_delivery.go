// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"evensong/internal/proto/evs"
)

// The rules about which messages are delivered: EVS-1, 2, 3, 9, 10, 11, 12.

func place(seq uint64, index uint32) string { return fmt.Sprintf("%d.%d", seq, index) }

// unmatched finds where a message that was delivered without a send of its identity may have come from. It is made only
// when such a delivery exists.
type unmatched map[[3]uint64]int32 // digest, seq, index -> message with a send

// sentElsewhere is a message with the same content and place that was sent on another ring, -1 if there is none: then
// the delivery is in the wrong configuration (EVS-3) rather than made up (EVS-1).
func (x *index) sentElsewhere(t *evs.Trace) int32 {
	if x.unmatch == nil {
		x.unmatch = unmatched{}
		for i := range x.msgs {
			if m := &x.msgs[i]; m.send >= 0 {
				x.unmatch[[3]uint64{x.recs[m.send].Digest, m.seq, uint64(m.index)}] = int32(i)
			}
		}
	}
	if m, ok := x.unmatch[[3]uint64{t.Digest, t.Seq, uint64(t.Index)}]; ok && x.procs[x.msgs[m].sender].id == t.Origin {
		return m
	}
	return -1
}

// deliveries calls f for each TraceDeliver, process by process.
func (x *index) deliveries(f func(p, ev int32, e *event)) {
	for p := range x.procs {
		events := x.procs[p].events
		for i := range events {
			if events[i].kind == evs.TraceDeliver {
				f(int32(p), int32(i), &events[i])
			}
		}
	}
}

// checkEVS1: what is delivered was sent, by the named sender, with that content, and before.
func checkEVS1(x *index, s *sink) {
	x.deliveries(func(p, ev int32, e *event) {
		s.seen(1)
		t, m := &x.recs[e.rec], &x.msgs[e.msg]
		if m.send < 0 {
			if x.sentElsewhere(t) < 0 {
				s.fail(x.window(e.rec), "%s delivers %s, which nobody sent", t.Proc, x.msgText(e.msg))
			}
			return
		}
		sent := &x.recs[m.send]
		switch {
		case t.Origin != sent.Proc:
			s.fail(x.window(m.send, e.rec), "%s delivers %s as sent by %s; %s sent it", t.Proc, x.msgText(e.msg), t.Origin, sent.Proc)
		case t.Digest != sent.Digest || t.Length != sent.Length || t.Service != sent.Service:
			s.fail(x.window(m.send, e.rec), "%s delivers %s changed", t.Proc, x.msgText(e.msg))
		case m.sender == p && m.sendAt > ev, t.Step != 0 && sent.Step > t.Step:
			s.fail(x.window(m.send, e.rec), "%s delivers %s before it is sent", t.Proc, x.msgText(e.msg))
		}
	})
}

// checkEVS2: an incarnation delivers a message once, and a message is sent once.
func checkEVS2(x *index, s *sink) {
	for i := range x.msgs {
		if m := &x.msgs[i]; m.resent >= 0 {
			s.fail(x.window(m.send, m.resent), "%s is sent twice", x.msgText(int32(i)))
		}
	}
	for p := range x.procs {
		pr := &x.procs[p]
		var last uint64
		lastRec := int32(-1)
		again := map[int32]int32{} // deliveries outside any stay of their ring: rare, and wrong already
		cur := -1
		for i := range pr.events {
			e := &pr.events[i]
			switch e.kind {
			case evs.TraceConf:
				if cur+1 < len(pr.stays) && x.stays[pr.stays[cur+1]].first == int32(i) {
					cur++
					lastRec = -1 // the counter may be one per ring
				}
			case evs.TraceSend:
				n := x.recs[e.rec].Number
				if lastRec >= 0 && n <= last {
					s.fail(x.window(lastRec, e.rec), "%s sends its message number %d after number %d", pr.id, n, last)
				}
				last, lastRec = n, e.rec
			case evs.TraceDeliver:
				s.seen(1)
				m := &x.msgs[e.msg]
				var first int32
				if cur >= 0 && x.stays[pr.stays[cur]].ring == m.ring {
					first = x.rec(int32(p), x.stays[pr.stays[cur]].pos[m.ord]-1)
				} else if r, ok := again[e.msg]; ok {
					first = r
				} else if st := x.stayOn(m.ring, int32(p)); st >= 0 && x.stays[st].has(m.ord) && x.stays[st].pos[m.ord]-1 < int32(i) {
					first = x.rec(int32(p), x.stays[st].pos[m.ord]-1)
				} else {
					again[e.msg], first = e.rec, e.rec
				}
				if first != e.rec {
					s.fail(x.window(first, e.rec), "%s delivers %s twice", pr.id, x.msgText(e.msg))
				}
			default:
			}
		}
	}
}

// checkEVS3: a message is delivered in its own regular configuration or in the transitional one that follows.
func checkEVS3(x *index, s *sink) {
	for p := range x.procs {
		pr := &x.procs[p]
		cur := int32(-1)
		for i := range pr.events {
			e := &pr.events[i]
			switch e.kind {
			case evs.TraceConf:
				cur = e.conf
			case evs.TraceDeliver:
				s.seen(1)
				m, t := &x.msgs[e.msg], &x.recs[e.rec]
				wrong := cur < 0 || m.ring != x.confs[cur].ring
				from := x.rings[m.ring].id
				if !wrong && m.send < 0 {
					if o := x.sentElsewhere(t); o >= 0 {
						wrong, from = true, x.rings[x.msgs[o].ring].id
					}
				}
				if wrong {
					in := "no configuration"
					if cur >= 0 {
						in = x.confs[cur].id.String()
					}
					s.fail(x.window(m.send, e.rec), "%s delivers a message of ring %s in %s", pr.id, from, in)
				}
			default:
			}
		}
	}
}

// checkEVS9: who goes on to another regular configuration has delivered its own messages before.
func checkEVS9(x *index, s *sink) {
	for i := range x.stays {
		st := &x.stays[i]
		if st.next < 0 && (!x.h.Quiescent || x.procs[st.proc].dead) {
			continue
		}
		for _, m := range x.rings[st.ring].by[st.proc] {
			s.seen(1)
			if !st.has(x.msgs[m].ord) {
				s.fail(x.window(x.msgs[m].send, x.rec(st.proc, st.end)), "%s never delivers its own %s", x.name(st.proc), x.msgText(m))
			}
		}
	}
}

// setSum is an order-independent digest of a set of messages. Equal sets have equal sums; that unequal ones have too is
// as likely as a collision of 64-bit hashes.
type setSum struct {
	sum   uint64
	count int
}

func (a *setSum) add(m int32) {
	z := (uint64(m) + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	a.sum += z ^ z>>31
	a.count++
}

// passage is what one process delivered on its way out of a regular configuration.
type passage struct {
	stay                int32
	partial             bool   // died between the signal and the next regular configuration
	regular, trans, low setSum // ≥ Causal before the signal, ≥ Causal after it, below Causal in both
}

// checkEVS10: who passes together from one configuration to the next has delivered the same.
func checkEVS10(x *index, s *sink) {
	// The way out is named by the transitional configuration; at the end of a quiet run by the ring itself.
	type way struct{ tconf, ring int32 }
	first := map[way]passage{}
	before := func(st *stay, m *message) bool { return m.causal() && !st.inTrans(st.pos[m.ord]-1) }
	after := func(st *stay, m *message) bool { return m.causal() && st.inTrans(st.pos[m.ord]-1) }
	for i := range x.stays {
		st := &x.stays[i]
		if st.tconf < 0 && (st.next >= 0 || !x.h.Quiescent || x.procs[st.proc].dead) {
			continue
		}
		ps := passage{stay: int32(i), partial: st.tconf >= 0 && st.next < 0}
		events := x.procs[st.proc].events
		for ev := st.first; ev < st.end; ev++ {
			e := &events[ev]
			if e.kind != evs.TraceDeliver {
				continue
			}
			m := &x.msgs[e.msg]
			if m.ring != st.ring || st.pos[m.ord] != ev+1 {
				continue
			}
			switch {
			case !m.causal():
				ps.low.add(e.msg)
			case st.inTrans(ev):
				ps.trans.add(e.msg)
			default:
				ps.regular.add(e.msg)
			}
		}
		w := way{st.tconf, st.ring}
		f, ok := first[w]
		if !ok || f.partial {
			first[w] = ps
		}
		if !ok {
			continue
		}
		s.seen(1)
		if f.regular != ps.regular {
			x.failEVS10(s, f, ps, "before the signal", before)
		}
		if f.partial || ps.partial {
			continue
		}
		if f.trans != ps.trans {
			x.failEVS10(s, f, ps, "after the signal", after)
		}
		if f.low != ps.low {
			x.failEVS10(s, f, ps, "in the regular configuration and the transitional one together", func(_ *stay, m *message) bool { return !m.causal() })
		}
	}
}

// failEVS10 finds the first message in which two passages differ. in says whether a delivery counts.
func (x *index) failEVS10(s *sink, a, b passage, where string, in func(*stay, *message) bool) {
	sa, sb := &x.stays[a.stay], &x.stays[b.stay]
	if s.full() {
		s.fail(nil, "")
		return
	}
	for _, mi := range x.rings[sa.ring].msgs {
		m := &x.msgs[mi]
		ina, inb := sa.has(m.ord) && in(sa, m), sb.has(m.ord) && in(sb, m)
		if ina == inb {
			continue
		}
		have, lack := sa, sb
		if inb {
			have, lack = sb, sa
		}
		s.fail(x.window(m.send, x.rec(have.proc, have.pos[m.ord]-1), x.rec(lack.proc, lack.trans), x.rec(lack.proc, lack.end)),
			"%s delivers %s %s; %s, which goes the same way, does not", x.name(have.proc), x.msgText(mi), where, x.name(lack.proc))
		return
	}
	s.fail(x.window(x.rec(sa.proc, sa.trans), x.rec(sb.proc, sb.trans)), "%s and %s, which go the same way, deliver different sets %s", x.name(sa.proc), x.name(sb.proc), where)
}

// checkEVS11: a message of level FIFO or above comes after everything its sender had sent before it in the
// configuration, Reliable messages included (the last clause of the rule).
func checkEVS11(x *index, s *sink) {
	for i := range x.stays {
		st := &x.stays[i]
		done := map[int32]int32{} // sender -> length of the prefix known to be delivered
		var cachedSender, cachedDone int32 = -1, 0
		events := x.procs[st.proc].events
		for ev := st.first; ev < st.end; ev++ {
			e := &events[ev]
			if e.kind != evs.TraceDeliver {
				continue
			}
			m := &x.msgs[e.msg]
			if m.service < evs.FIFO || m.nth < 0 || m.ring != st.ring {
				continue
			}
			if m.sender != cachedSender {
				if cachedSender >= 0 {
					done[cachedSender] = cachedDone
				}
				cachedSender, cachedDone = m.sender, done[m.sender]
			}
			if m.nth > 0 {
				s.seen(1)
			}
			list := x.rings[st.ring].by[m.sender]
			for cachedDone < m.nth {
				before := &x.msgs[list[cachedDone]]
				if pos := st.pos[before.ord]; pos == 0 || pos > ev+1 {
					rec := int32(-1)
					if pos > 0 {
						rec = x.rec(st.proc, pos-1)
					}
					s.fail(x.window(before.send, m.send, e.rec, rec), "%s delivers %s without its sender's earlier %s",
						x.name(st.proc), x.msgText(e.msg), x.msgText(list[cachedDone]))
				}
				cachedDone++
			}
		}
	}
}

// checkEVS12: a message comes after every message that its sender had delivered when it sent it.
//
// The sender's delivered messages are places in the ring's order, the highest of them m.cause. At a receiver only those
// can be wrong that it left out or took after a higher place: its suspects, of which a healthy process has none.
func checkEVS12(x *index, s *sink) {
	for i := range x.stays {
		st := &x.stays[i]
		msgs := x.rings[st.ring].msgs
		events := x.procs[st.proc].events
		for ev := st.first; ev < st.end; ev++ {
			e := &events[ev]
			if e.kind != evs.TraceDeliver {
				continue
			}
			m := &x.msgs[e.msg]
			if !m.causal() || m.cause < 0 || m.ring != st.ring {
				continue
			}
			s.seen(1)
			if len(st.suspects) == 0 && m.ord > m.cause {
				continue
			}
			if s.full() {
				return // the search is not linear any more, and the verdict is known
			}
			from := x.stayOn(m.ring, m.sender)
			if from < 0 {
				continue
			}
			sender := &x.stays[from]
			broken := func(ord int32) bool {
				c := &x.msgs[msgs[ord]]
				if !c.causal() || sender.pos[ord] == 0 || sender.pos[ord]-1 > m.sendAt {
					return false // not a cause
				}
				if st.pos[ord] != 0 && st.pos[ord]-1 <= ev {
					return false
				}
				later := int32(-1)
				if st.pos[ord] != 0 {
					later = x.rec(st.proc, st.pos[ord]-1)
				}
				s.fail(x.window(x.rec(sender.proc, sender.pos[ord]-1), m.send, e.rec, later), "%s delivers %s without %s, which %s had delivered when it sent it",
					x.name(st.proc), x.msgText(e.msg), x.msgText(msgs[ord]), x.name(sender.proc))
				return true
			}
			found := false
			for _, ord := range st.suspects {
				if ord > m.cause {
					break
				}
				if found = broken(ord); found {
					break
				}
			}
			for ord := m.ord; ord <= m.cause && !found; ord++ { // a sender whose own order is broken
				found = broken(ord)
			}
		}
	}
}

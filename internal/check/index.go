// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"slices"

	"evensong/internal/proto/evs"
)

// index is the history arranged for the checkers: names become small integers, deliveries are joined to sends, and each
// process's life is cut into stays. It is built once and then only read.
type index struct {
	h    *History
	recs []evs.Trace

	// Daemon level.
	procs   []proc
	procOf  map[evs.ProcID]int
	confs   []conf
	confOf  map[evs.ConfID]int
	rings   []ring
	ringOf  map[evs.RingID]int
	msgs    []message
	stays   []stay
	names   []string  // configured names of daemons, sorted
	lives   [][]int   // by name: its incarnations in order of their start
	nameOf  []int     // proc -> name
	unmatch unmatched // see sentElsewhere

	// Session level.
	*sessionIndex

	vsLevel *vsIndex // built by vs
}

// proc is one incarnation of a daemon.
type proc struct {
	id     evs.ProcID
	events []event
	stays  []int32
	dead   bool // has a fail or stop record
	ends   int32
	start  int32 // its TraceStart record, -1 if none
	recs   bool  // has daemon-level records at all
}

// event is a daemon-level record of a process.
type event struct {
	kind evs.TraceKind
	rec  int32
	conf int32 // the configuration the record names; -1 if it names none
	msg  int32 // sends and deliveries: the message; else -1
}

// conf is a configuration as the first record of it tells.
type conf struct {
	id      evs.ConfID
	members []int32
	rec     int32 // first TraceConf; -1 if nobody installed it
	ring    int32 // ring of a regular configuration, old ring of a transitional one
}

// ring is the order of one regular configuration.
type ring struct {
	id    evs.RingID
	conf  int32   // its regular configuration
	msgs  []int32 // all messages sent or delivered, by (seq, index)
	stays []int32
	// bySeq finds the first message of a seq; the others of the packet are chained. Positions beyond what the history
	// can hold, which only a broken record has, are in far, so that a wild number costs no memory.
	bySeq []int32
	far   map[uint64]int32
	by    map[int32][]int32 // sender -> its messages in the order of sending
}

// message is one daemon-level message: a place in a ring's order.
type message struct {
	seq       uint64
	ring      int32
	ord       int32 // place in ring.msgs
	index     uint32
	next      int32 // next message of the same packet, -1
	send      int32 // first TraceSend, -1 if none
	sendAt    int32 // its place in the sender's events
	sender    int32 // by the send, else by the first delivery
	nth       int32 // place among the sender's messages of the ring
	cause     int32 // highest ord of the messages ≥ Causal that the sender had delivered in this ring; -1
	resent    int32 // a second TraceSend with this id; -1
	delivered int32 // a record of a delivery, -1 if nobody delivered it
	service   evs.Service
}

func (m *message) causal() bool { return m.service >= evs.Causal }
func (m *message) agreed() bool { return m.service >= evs.Agreed }

// stay is a process's time on one ring: its regular configuration and the transitional one that follows.
type stay struct {
	proc, ring int32
	first      int32   // event of the regular installation
	trans      int32   // event of the transitional installation; -1
	end        int32   // event of the next regular installation, or the number of events
	conf       int32   // regular configuration
	tconf      int32   // transitional configuration; -1
	next       int32   // next regular configuration; -1
	prev       int32   // stay before; -1
	pos        []int32 // by ord: 1 + event of the first delivery; 0 if not delivered
	maxOrd     int32   // highest ord delivered of messages ≥ Causal; -1
	increasing bool    // those were delivered in rising order
	suspects   []int32 // rising: ords of messages ≥ Causal below maxOrd that were not delivered, or after a higher one
}

func (st *stay) has(ord int32) bool { return st.pos[ord] != 0 }

// inTrans reports whether the event lies after the signal.
func (st *stay) inTrans(ev int32) bool { return st.trans >= 0 && ev > st.trans }

func newIndex(h *History) *index {
	x := &index{
		h: h, recs: h.Records,
		procOf: map[evs.ProcID]int{}, confOf: map[evs.ConfID]int{}, ringOf: map[evs.RingID]int{},
	}
	x.readDaemons()
	x.orderRings()
	x.cutStays()
	x.orderLives()
	x.sessionIndex = newSessionIndex(x)
	return x
}

func (x *index) has(n need) bool {
	switch n {
	case needNothing:
		return true
	case needConfs:
		return len(x.confs) > 0
	case needTokens:
		return slices.ContainsFunc(x.procs, func(p proc) bool {
			return slices.ContainsFunc(p.events, func(e event) bool { return e.kind == evs.TraceToken })
		})
	case needSessions:
		return len(x.sessions) > 0
	case needViews:
		return len(x.views) > 0
	case needQuietSessions:
		return len(x.sessions) > 0 && x.h.Quiescent
	case needVS:
		return slices.ContainsFunc(x.recs, func(t evs.Trace) bool { return isVS(t.Kind) })
	}
	panic("check: unknown need")
}

func (x *index) proc(id evs.ProcID) int {
	if p, ok := x.procOf[id]; ok {
		return p
	}
	p := len(x.procs)
	x.procOf[id] = p
	x.procs = append(x.procs, proc{id: id, ends: -1, start: -1})
	return p
}

func (x *index) ring(id evs.RingID) int {
	if r, ok := x.ringOf[id]; ok {
		return r
	}
	r := len(x.rings)
	x.ringOf[id] = r
	x.rings = append(x.rings, ring{id: id, conf: -1, by: map[int32][]int32{}})
	c := x.conf(evs.RegularID(id))
	x.rings[r].conf = int32(c)
	return r
}

func (x *index) conf(id evs.ConfID) int {
	if c, ok := x.confOf[id]; ok {
		return c
	}
	c := len(x.confs)
	x.confOf[id] = c
	x.confs = append(x.confs, conf{id: id, rec: -1, ring: -1})
	r := x.ring(id.Reg())
	x.confs[c].ring = int32(r)
	return c
}

// messageAt finds or makes the message at a place of a ring.
func (x *index) messageAt(r int32, seq uint64, idx uint32) int32 {
	rg := &x.rings[r]
	first := int32(-1)
	if seq < uint64(4*len(x.recs)+1024) {
		if seq >= uint64(len(rg.bySeq)) {
			rg.bySeq = append(rg.bySeq, make([]int32, int(seq)+1-len(rg.bySeq))...)
		}
		first = rg.bySeq[seq] - 1
	} else if m, ok := rg.far[seq]; ok {
		first = m
	}
	last := int32(-1)
	for m := first; m >= 0; m = x.msgs[m].next {
		if x.msgs[m].index == idx {
			return m
		}
		last = m
	}
	m := int32(len(x.msgs))
	x.msgs = append(x.msgs, message{
		seq: seq, ring: r, index: idx, next: -1, send: -1, sendAt: -1, sender: -1, nth: -1, cause: -1, resent: -1, delivered: -1,
	})
	rg.msgs = append(rg.msgs, m)
	switch {
	case last >= 0:
		x.msgs[last].next = m
	case seq < uint64(len(rg.bySeq)):
		rg.bySeq[seq] = m + 1
	default:
		if rg.far == nil {
			rg.far = map[uint64]int32{}
		}
		rg.far[seq] = m
	}
	return m
}

// readDaemons is the pass over the daemon-level records.
func (x *index) readDaemons() {
	var lastID evs.ProcID
	var lastConfID evs.ConfID
	lastProc, lastConf := -1, -1
	for i := range x.recs {
		t := &x.recs[i]
		if t.Kind >= evs.TraceConnect || t.Kind == 0 {
			continue
		}
		if lastProc < 0 || t.Proc != lastID {
			lastProc, lastID = x.proc(t.Proc), t.Proc
		}
		e := event{kind: t.Kind, rec: int32(i), conf: -1, msg: -1}
		switch t.Kind {
		case evs.TraceConf, evs.TraceSend, evs.TraceDeliver, evs.TraceToken, evs.TraceTokenLost:
			if lastConf < 0 || t.Conf != lastConfID {
				lastConf, lastConfID = x.conf(t.Conf), t.Conf
			}
			e.conf = int32(lastConf)
		default:
		}
		p := &x.procs[lastProc]
		p.recs = true
		switch t.Kind {
		case evs.TraceConf:
			c := &x.confs[e.conf]
			if c.rec < 0 {
				c.rec = e.rec
				members := make([]int32, len(t.Members))
				for j, m := range t.Members {
					members[j] = int32(x.proc(m))
				}
				x.confs[e.conf].members = members
				p = &x.procs[lastProc] // proc may have grown the slice
			}
		case evs.TraceSend:
			e.msg = x.messageAt(x.confs[e.conf].ring, t.Seq, t.Index)
			m := &x.msgs[e.msg]
			if m.send < 0 {
				m.send, m.sendAt, m.sender, m.service = e.rec, int32(len(p.events)), int32(lastProc), t.Service
			} else if m.resent < 0 {
				m.resent = e.rec
			}
		case evs.TraceDeliver:
			r := x.confs[e.conf].ring
			if !t.Ring.IsZero() && t.Ring != x.rings[r].id {
				r = int32(x.ring(t.Ring))
				p = &x.procs[lastProc]
			}
			e.msg = x.messageAt(r, t.Seq, t.Index)
			m := &x.msgs[e.msg]
			if m.delivered < 0 {
				m.delivered = e.rec
				if m.send < 0 {
					m.sender, m.service = int32(x.proc(t.Origin)), t.Service
					p = &x.procs[lastProc]
				}
			}
		case evs.TraceStart:
			if p.start < 0 {
				p.start = e.rec
			}
		case evs.TraceFail, evs.TraceStop:
			p.dead, p.ends = true, e.rec
		default:
		}
		p.events = append(p.events, e)
	}
}

// orderRings sorts each ring's messages and gives every message its place.
func (x *index) orderRings() {
	for r := range x.rings {
		rg := &x.rings[r]
		less := func(a, b int32) int {
			ma, mb := &x.msgs[a], &x.msgs[b]
			if c := cmp.Compare(ma.seq, mb.seq); c != 0 {
				return c
			}
			return cmp.Compare(ma.index, mb.index)
		}
		if !slices.IsSortedFunc(rg.msgs, less) {
			slices.SortFunc(rg.msgs, less)
		}
		for ord, m := range rg.msgs {
			x.msgs[m].ord = int32(ord)
		}
	}
	// A sender's own order is the order of its send records, which its counter must follow (EVS-2).
	for p := range x.procs {
		for _, e := range x.procs[p].events {
			if e.kind != evs.TraceSend || x.msgs[e.msg].send != e.rec {
				continue
			}
			rg := &x.rings[x.msgs[e.msg].ring]
			list := rg.by[int32(p)]
			x.msgs[e.msg].nth = int32(len(list))
			rg.by[int32(p)] = append(list, e.msg)
		}
	}
}

// cutStays cuts each process's events into its times on rings and notes where it delivered what.
func (x *index) cutStays() {
	for p := range x.procs {
		pr := &x.procs[p]
		cur := int32(-1)
		for i, e := range pr.events {
			switch e.kind {
			case evs.TraceConf:
				c := &x.confs[e.conf]
				if c.id.Kind == evs.Transitional {
					if cur >= 0 && x.stays[cur].trans < 0 {
						x.stays[cur].trans, x.stays[cur].tconf = int32(i), e.conf
					}
					continue
				}
				if cur >= 0 {
					x.stays[cur].end, x.stays[cur].next = int32(i), e.conf
				}
				n := int32(len(x.stays))
				x.stays = append(x.stays, stay{
					proc: int32(p), ring: c.ring, first: int32(i), trans: -1, end: int32(len(pr.events)), conf: e.conf,
					tconf: -1, next: -1, prev: cur, pos: make([]int32, len(x.rings[c.ring].msgs)), maxOrd: -1, increasing: true,
				})
				pr.stays = append(pr.stays, n)
				x.rings[c.ring].stays = append(x.rings[c.ring].stays, n)
				cur = n
			case evs.TraceSend:
				if m := &x.msgs[e.msg]; cur >= 0 && m.send == e.rec && m.ring == x.stays[cur].ring {
					m.cause = x.stays[cur].maxOrd
				}
			case evs.TraceDeliver:
				if cur < 0 {
					continue
				}
				st, m := &x.stays[cur], &x.msgs[e.msg]
				if m.ring != st.ring || st.pos[m.ord] != 0 {
					continue
				}
				st.pos[m.ord] = int32(i) + 1
				if m.causal() {
					if m.ord < st.maxOrd {
						st.increasing = false
						st.suspects = append(st.suspects, m.ord)
					}
					st.maxOrd = max(st.maxOrd, m.ord)
				}
			default:
			}
		}
	}
	for i := range x.stays {
		st := &x.stays[i]
		msgs := x.rings[st.ring].msgs
		for ord := int32(0); ord < st.maxOrd; ord++ {
			if st.pos[ord] == 0 && x.msgs[msgs[ord]].causal() {
				st.suspects = append(st.suspects, ord)
			}
		}
		slices.Sort(st.suspects)
	}
}

// orderLives lists the incarnations of each name in the order of their starts.
func (x *index) orderLives() {
	byName := map[string][]int{}
	for p := range x.procs {
		if x.procs[p].recs {
			byName[x.procs[p].id.Name] = append(byName[x.procs[p].id.Name], p)
		}
	}
	x.nameOf = make([]int, len(x.procs))
	for name := range byName {
		x.names = append(x.names, name)
	}
	slices.Sort(x.names)
	for n, name := range x.names {
		lives := byName[name]
		slices.SortStableFunc(lives, func(a, b int) int { return x.before(x.procs[a].events[0].rec, x.procs[b].events[0].rec) })
		x.lives = append(x.lives, lives)
		for _, p := range lives {
			x.nameOf[p] = n
		}
	}
}

// before orders two records of different processes as well as the history can: by global step where both have one, by
// time where both have one, by their place in the list.
func (x *index) before(a, b int32) int {
	ta, tb := &x.recs[a], &x.recs[b]
	if ta.Step != 0 && tb.Step != 0 && ta.Step != tb.Step {
		return cmp.Compare(ta.Step, tb.Step)
	}
	if ta.At != 0 && tb.At != 0 && ta.At != tb.At {
		return cmp.Compare(ta.At, tb.At)
	}
	return cmp.Compare(a, b)
}

// volatile reports whether a daemon name runs without stable state.
func (x *index) volatile(name string) bool { return x.h.Volatile["*"] || x.h.Volatile[name] }

// window copies the records with the given numbers, leaving out negative ones.
func (x *index) window(recs ...int32) []evs.Trace {
	var out []evs.Trace
	for _, r := range recs {
		if r >= 0 {
			out = append(out, x.recs[r])
		}
	}
	return out
}

// stayOn is q's stay on a ring, the first if a broken history has several; -1 if it never installed it.
func (x *index) stayOn(r, q int32) int32 {
	for _, s := range x.rings[r].stays {
		if x.stays[s].proc == q {
			return s
		}
	}
	return -1
}

// rec is the record of a process's event.
func (x *index) rec(p, ev int32) int32 {
	if evs := x.procs[p].events; ev >= 0 && int(ev) < len(evs) {
		return evs[ev].rec
	}
	return -1
}

// name is a process in the words of a report.
func (x *index) name(p int32) string { return x.procs[p].id.String() }

func (x *index) isMember(c, p int32) bool { return slices.Contains(x.confs[c].members, p) }

// msgText names a message in a report.
func (x *index) msgText(m int32) string {
	mm := &x.msgs[m]
	return mm.service.String() + " message " + place(mm.seq, mm.index) + " of ring " + x.rings[mm.ring].id.String()
}

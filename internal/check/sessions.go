// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"evensong/internal/proto/evs"
)

// sessionIndex is the session level of an index.
type sessionIndex struct {
	sessions  []session
	sessionOf map[evs.SessionID]int
	groups    []string // ordinary groups and private names alike: destinations
	groupOf   map[string]int32
	views     []view
	viewOf    map[viewKey]int32
	cmsgs     []clientMessage
	cmsgOf    map[uint64]int32 // by digest, which is unique per message
	byName    map[string][]int32
	inst      []install
	fullGraph *graph
}

// session is one client connection.
type session struct {
	id        evs.SessionID
	proc      int32 // its daemon if that has daemon-level records, else -1
	events    []sevent
	groups    []int32 // groups it ever met, in order of first contact; a slot is an index here
	self      int32   // its private name as a destination
	noViews   bool
	connect   int32 // record, -1 if none
	gone      int32 // disconnect record, -1 if none
	dead      bool  // disconnected, or its daemon failed or stopped
	multicast []int32
	bySlot    [][]int32 // by slot: events of the messages to that group
	installs  [][]int32 // by slot: the session's installs, in order
}

// sevent is a record of a session.
type sevent struct {
	kind evs.TraceKind
	rec  int32
	msg  int32 // multicasts and messages: the message; -1
	view int32 // views, and signals that name a known one; -1
	slot int32 // join, leave, view, signal, self-leave: which group; -1
}

// clientMessage is one message as clients see it.
type clientMessage struct {
	mcast       int32 // TraceMulticast, -1 if nobody sent it
	sender      int32 // session; -1
	at          int32 // place in the sender's events
	nth         int32 // place in the sender's multicasts
	first       int32 // first TraceClientMsg, -1
	receipts    int32 // how many sessions got it
	resent      int32 // second TraceMulticast with the same digest, -1
	groups      []int32
	number      uint64
	service     evs.Service
	selfDiscard bool
}

func (m *clientMessage) causal() bool { return m.service >= evs.Causal }

type viewKey struct {
	group int32
	id    evs.ViewID
}

// view is one group view as the first record of it tells.
type view struct {
	viewKey
	rec       int32
	info      *evs.TraceViewInfo
	installs  []int32 // indexes of sessionIndex.inst
	maybeHalf bool    // may be an interim view: a session got the signal as the next ordered event of the group
}

// install is one session's installation of a view, and its time in it.
type install struct {
	view, session, slot int32
	ev, rec             int32 // the view's event in the session, and its record
	prev, next          int32 // installs before and after in the same membership; -1
	end                 int32 // event of the next view or of the self-leave; -1 if neither came
	mine                int32 // its VS set
	from, to            int32 // range in session.bySlot[slot] of the messages to the group in this view
	sig, sigRec         int32 // the same index at which the signal came, and its record; -1
}

func (v *view) network() bool { return v.info.Cause == evs.CausedByNetwork }

func newSessionIndex(x *index) *sessionIndex {
	si := &sessionIndex{
		sessionOf: map[evs.SessionID]int{}, groupOf: map[string]int32{}, viewOf: map[viewKey]int32{},
		cmsgOf: map[uint64]int32{}, byName: map[string][]int32{},
	}
	var lastID evs.SessionID
	last := -1
	for i := range x.recs {
		t := &x.recs[i]
		if t.Kind < evs.TraceConnect || t.Kind > evs.TraceSelfLeave {
			continue
		}
		if last < 0 || t.Session != lastID {
			last, lastID = si.session(x, t.Session), t.Session
		}
		ss := &si.sessions[last]
		e := sevent{kind: t.Kind, rec: int32(i), msg: -1, view: -1, slot: -1}
		switch t.Kind {
		case evs.TraceConnect:
			if ss.connect < 0 {
				ss.connect = e.rec
			}
			ss.noViews = ss.noViews || t.NoViews
		case evs.TraceDisconnect:
			if ss.gone < 0 {
				ss.gone, ss.dead = e.rec, true
			}
		case evs.TraceJoin, evs.TraceLeave, evs.TraceSelfLeave:
			e.slot = ss.slot(si.group(t.Group))
		case evs.TraceMulticast:
			e.msg = si.message(t.Digest)
			m := &si.cmsgs[e.msg]
			if m.mcast >= 0 {
				if m.resent < 0 {
					m.resent = e.rec
				}
				break
			}
			m.mcast, m.sender, m.at, m.nth = e.rec, int32(last), int32(len(ss.events)), int32(len(ss.multicast))
			m.number, m.service, m.selfDiscard = t.Number, t.Service, t.SelfDiscard
			m.groups = si.destinations(t.Groups)
			ss.multicast = append(ss.multicast, e.msg)
		case evs.TraceClientMsg:
			e.msg = si.message(t.Digest)
			m := &si.cmsgs[e.msg]
			if m.first < 0 {
				m.first = e.rec
			}
			m.receipts++
			if m.mcast < 0 && m.groups == nil {
				// The multicast may come later in a merged list, and then overwrites this; or it never comes.
				m.groups, m.service = si.destinations(t.Groups), t.Service
			}
		case evs.TraceView:
			g := si.group(t.Group)
			e.slot = ss.slot(g)
			if t.View == nil {
				break
			}
			key := viewKey{g, t.View.ID}
			v, ok := si.viewOf[key]
			if !ok {
				v = int32(len(si.views))
				si.viewOf[key] = v
				si.views = append(si.views, view{viewKey: key, rec: e.rec, info: t.View})
			}
			e.view = v
		case evs.TraceSignal:
			g := si.group(t.Group)
			e.slot = ss.slot(g)
			if t.View != nil {
				if v, ok := si.viewOf[viewKey{g, t.View.ID}]; ok {
					e.view = v
				}
			}
		default:
		}
		ss.events = append(ss.events, e)
	}
	for i := range si.sessions {
		ss := &si.sessions[i]
		if ss.proc >= 0 && x.procs[ss.proc].dead {
			ss.dead = true
		}
		si.link(x, int32(i))
	}
	return si
}

func (si *sessionIndex) session(x *index, id evs.SessionID) int {
	if s, ok := si.sessionOf[id]; ok {
		return s
	}
	s := len(si.sessions)
	si.sessionOf[id] = s
	p := int32(-1)
	if q, ok := x.procOf[id.Daemon]; ok {
		p = int32(q)
	}
	si.sessions = append(si.sessions, session{id: id, proc: p, connect: -1, gone: -1, self: si.group(id.Name)})
	si.byName[id.Name] = append(si.byName[id.Name], int32(s))
	return s
}

func (si *sessionIndex) group(name string) int32 {
	if g, ok := si.groupOf[name]; ok {
		return g
	}
	g := int32(len(si.groups))
	si.groupOf[name] = g
	si.groups = append(si.groups, name)
	return g
}

func (si *sessionIndex) destinations(names []string) []int32 {
	out := make([]int32, len(names))
	for i, n := range names {
		out[i] = si.group(n)
	}
	return out
}

func (si *sessionIndex) message(digest uint64) int32 {
	if m, ok := si.cmsgOf[digest]; ok {
		return m
	}
	m := int32(len(si.cmsgs))
	si.cmsgOf[digest] = m
	si.cmsgs = append(si.cmsgs, clientMessage{mcast: -1, sender: -1, at: -1, nth: -1, first: -1, resent: -1})
	return m
}

// slot is the session's own small number for a group.
func (ss *session) slot(g int32) int32 {
	for i, h := range ss.groups {
		if h == g {
			return int32(i)
		}
	}
	ss.groups = append(ss.groups, g)
	return int32(len(ss.groups) - 1)
}

// find is slot for readers: -1 if the session never met the group.
func (ss *session) find(g int32) int32 {
	for i, h := range ss.groups {
		if h == g {
			return int32(i)
		}
	}
	return -1
}

// link notes for each view who installed it, from where and until when, sorts each session's messages by group, and
// finds the views that may be interim ones: those after which some session's next ordered event of the group is the
// signal that ends them.
func (si *sessionIndex) link(x *index, s int32) {
	ss := &si.sessions[s]
	ss.bySlot = make([][]int32, len(ss.groups))
	ss.installs = make([][]int32, len(ss.groups))
	cur := make([]int32, len(ss.groups))  // current install
	fresh := make([]bool, len(ss.groups)) // nothing ordered since the view
	for i := range cur {
		cur[i] = -1
	}
	end := func(slot, ev int32) {
		if c := cur[slot]; c >= 0 {
			in := &si.inst[c]
			in.end, in.to = ev, int32(len(ss.bySlot[slot]))
			cur[slot] = -1
		}
	}
	for i, e := range ss.events {
		switch e.kind {
		case evs.TraceView:
			if e.view < 0 {
				continue
			}
			prev := cur[e.slot]
			end(e.slot, int32(i))
			n := int32(len(si.inst))
			si.inst = append(si.inst, install{
				view: e.view, session: s, slot: e.slot, ev: int32(i), rec: e.rec, prev: prev, next: -1, end: -1,
				mine: int32(x.recs[e.rec].View.Mine), from: int32(len(ss.bySlot[e.slot])), sig: -1, sigRec: -1,
			})
			if prev >= 0 {
				si.inst[prev].next = n
			}
			si.views[e.view].installs = append(si.views[e.view].installs, n)
			ss.installs[e.slot] = append(ss.installs[e.slot], n)
			cur[e.slot], fresh[e.slot] = n, true
		case evs.TraceSelfLeave:
			end(e.slot, int32(i))
		case evs.TraceSignal:
			if c := cur[e.slot]; c >= 0 {
				if v := &si.views[si.inst[c].view]; fresh[e.slot] && v.network() {
					v.maybeHalf = true
				}
				if si.inst[c].sig < 0 {
					si.inst[c].sig, si.inst[c].sigRec = int32(len(ss.bySlot[e.slot])), e.rec
				}
			}
			fresh[e.slot] = false
		case evs.TraceClientMsg:
			m := &si.cmsgs[e.msg]
			for _, g := range m.groups {
				if k := ss.find(g); k >= 0 {
					ss.bySlot[k] = append(ss.bySlot[k], int32(i))
					fresh[k] = fresh[k] && !m.causal()
				}
			}
		default:
		}
	}
	for slot, c := range cur {
		if c >= 0 {
			si.inst[c].to = int32(len(ss.bySlot[slot]))
		}
	}
}

// span is the events of an install's session at which it got messages to the group, from the view to the next one.
func (si *sessionIndex) span(in *install) []int32 {
	return si.sessions[in.session].bySlot[in.slot][in.from:in.to]
}

// beforeSignal is the part of the span before the signal; all of it if there was none.
func (si *sessionIndex) beforeSignal(in *install) []int32 {
	if in.sig < 0 {
		return si.span(in)
	}
	return si.sessions[in.session].bySlot[in.slot][in.from:in.sig]
}

// bound reports whether what is missing in the install's span is missing for good: the session went on to another view
// or left, or it is alive at the end of a quiet run.
func (x *index) bound(in *install) bool {
	return in.end >= 0 || x.h.Quiescent && !x.sessions[in.session].dead
}

func (v *view) lists(name string) bool { return slices.Contains(v.info.Members, name) }

// sname is a session in the words of a report.
func (si *sessionIndex) sname(s int32) string { return sessionText(si.sessions[s].id) }

// srec is the record of a session's event.
func (si *sessionIndex) srec(s, ev int32) int32 {
	if list := si.sessions[s].events; ev >= 0 && int(ev) < len(list) {
		return list[ev].rec
	}
	return -1
}

// cmsgText names a client message in a report.
func (x *index) cmsgText(m int32) string {
	cm := &x.cmsgs[m]
	if cm.mcast >= 0 {
		return fmt.Sprintf("%s message #%d of %s (digest %x)", cm.service, cm.number, x.sname(cm.sender), x.recs[cm.mcast].Digest)
	}
	return fmt.Sprintf("%s message with digest %x", cm.service, x.recs[cm.first].Digest)
}

// viewText names a view in a report.
func (x *index) viewText(v int32) string {
	vv := &x.views[v]
	return fmt.Sprintf("view %x of %s", vv.id, x.groups[vv.group])
}

// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"

	"evensong/internal/proto/evs"
)

// The rules about what one session gets: GRP-8, 10, 11, 13, 15, 16.

// address says how a message came to a session.
type address uint8

const (
	addressed     address = iota
	afterLeave            // to a group that the session has left
	backToOutside         // to its own sender, which is not a member
	notAddressed
)

// receipts walks the messages of every session and says for each how it was addressed.
func (x *index) receipts(f func(s int32, e *sevent, how address, leave int32)) {
	for i := range x.sessions {
		ss := &x.sessions[i]
		member := make([]bool, len(ss.groups))
		left := make([]int32, len(ss.groups)) // record of the self-leave + 1
		for k := range ss.events {
			e := &ss.events[k]
			switch e.kind {
			case evs.TraceJoin:
				if ss.noViews {
					member[e.slot] = true // without notices it cannot say when
				}
			case evs.TraceView:
				member[e.slot], left[e.slot] = true, 0
			case evs.TraceSelfLeave:
				member[e.slot], left[e.slot] = false, e.rec+1
			case evs.TraceClientMsg:
				m := &x.cmsgs[e.msg]
				how, leave := notAddressed, int32(-1)
				if m.sender == int32(i) {
					how = backToOutside
				}
				for _, g := range m.groups {
					if g == ss.self {
						how = addressed
						break
					}
					slot := ss.find(g)
					if slot < 0 {
						continue
					}
					if member[slot] {
						how = addressed
						break
					}
					if left[slot] > 0 {
						how, leave = afterLeave, left[slot]-1
					}
				}
				f(int32(i), e, how, leave)
			default:
			}
		}
	}
}

// checkGRP8: what a session gets was sent, to it, unchanged, and comes once.
func checkGRP8(x *index, s *sink) {
	got := make([]int32, len(x.cmsgs)) // session + 1
	rec := make([]int32, len(x.cmsgs))
	x.receipts(func(sn int32, e *sevent, how address, _ int32) {
		s.seen(1)
		m, t := &x.cmsgs[e.msg], &x.recs[e.rec]
		if got[e.msg] == sn+1 {
			s.fail(x.window(rec[e.msg], e.rec), "%s gets %s twice", x.sname(sn), x.cmsgText(e.msg))
			return
		}
		got[e.msg], rec[e.msg] = sn+1, e.rec
		if m.mcast < 0 {
			s.fail(x.window(e.rec), "%s gets a message that nobody sent", x.sname(sn))
			return
		}
		sent := &x.recs[m.mcast]
		switch {
		case t.Sender != sent.Session.Name:
			s.fail(x.window(m.mcast, e.rec), "%s gets a message as sent by %s; %s sent it", x.sname(sn), t.Sender, sent.Session.Name)
		case t.Length != sent.Length || t.Service != sent.Service || !slices.Equal(t.Groups, sent.Groups):
			s.fail(x.window(m.mcast, e.rec), "%s gets %s changed", x.sname(sn), x.cmsgText(e.msg))
		case t.Step != 0 && sent.Step > t.Step:
			s.fail(x.window(m.mcast, e.rec), "%s gets %s before it is sent", x.sname(sn), x.cmsgText(e.msg))
		case how == notAddressed:
			s.fail(x.window(m.mcast, e.rec), "%s gets a message to %v, and is in none of them", x.sname(sn), sent.Groups)
		}
	})
}

// checkGRP11: nothing of a group after the self-leave until a new join view.
func checkGRP11(x *index, s *sink) {
	x.receipts(func(sn int32, e *sevent, how address, leave int32) {
		if how == afterLeave {
			s.fail(x.window(leave, e.rec), "%s gets %s after its self-leave", x.sname(sn), x.cmsgText(e.msg))
		}
	})
	for i := range x.sessions {
		ss := &x.sessions[i]
		left := make([]int32, len(ss.groups))
		asked := make([]int, len(ss.groups)) // joins minus memberships begun
		member := make([]bool, len(ss.groups))
		for _, e := range ss.events {
			if e.slot < 0 {
				continue
			}
			switch e.kind {
			case evs.TraceJoin:
				asked[e.slot]++
			case evs.TraceView:
				if !member[e.slot] {
					if left[e.slot] > 0 && asked[e.slot] <= 0 {
						s.fail(x.window(left[e.slot]-1, e.rec), "%s gets a view of %s after its self-leave, without a new join", x.sname(int32(i)), x.groups[ss.groups[e.slot]])
					}
					asked[e.slot]--
				}
				member[e.slot], left[e.slot] = true, 0
			case evs.TraceSignal, evs.TraceSelfLeave:
				if left[e.slot] > 0 {
					s.fail(x.window(left[e.slot]-1, e.rec), "%s gets a notice of %s after its self-leave", x.sname(int32(i)), x.groups[ss.groups[e.slot]])
				}
				if e.kind == evs.TraceSelfLeave {
					s.seen(1)
					member[e.slot], left[e.slot] = false, e.rec+1
				}
			default:
			}
		}
	}
}

// checkGRP13: sending to a group makes nobody a member of it.
func checkGRP13(x *index, s *sink) {
	x.receipts(func(sn int32, e *sevent, how address, _ int32) {
		if how == backToOutside {
			s.fail(x.window(x.cmsgs[e.msg].mcast, e.rec), "%s gets its own %s back without being a member", x.sname(sn), x.cmsgText(e.msg))
		}
	})
	type ask struct {
		name  string
		group int32
	}
	asked := map[ask]bool{}
	for i := range x.sessions {
		ss := &x.sessions[i]
		joined := make([]bool, len(ss.groups))
		for _, e := range ss.events {
			switch e.kind {
			case evs.TraceJoin:
				joined[e.slot] = true
				asked[ask{ss.id.Name, ss.groups[e.slot]}] = true
			case evs.TraceMulticast:
				m := &x.cmsgs[e.msg]
				if m.receipts > 0 && slices.ContainsFunc(m.groups, func(g int32) bool {
					k := ss.find(g)
					return (k < 0 || !joined[k]) && !strings.HasPrefix(x.groups[g], "#")
				}) {
					s.seen(1)
				}
			default:
			}
		}
	}
	for v := range x.views {
		vv := &x.views[v]
		for _, name := range vv.info.Members {
			if len(x.byName[name]) > 0 && !asked[ask{name, vv.group}] {
				s.fail(x.window(vv.rec), "%s lists %s, which never asked to join", x.viewText(int32(v)), name)
			}
		}
	}
}

// checkGRP15: names. A name is "#user#daemon", is what was asked for, fits, and is one session's at a time.
func checkGRP15(x *index, s *sink) {
	type owner struct {
		daemon evs.ProcID
		name   string
	}
	byOwner := map[owner][]int32{}
	for i := range x.sessions {
		ss := &x.sessions[i]
		if ss.connect < 0 {
			continue
		}
		s.seen(1)
		t := &x.recs[ss.connect]
		user, ok := strings.CutSuffix(strings.TrimPrefix(ss.id.Name, "#"), "#"+ss.id.Daemon.Name)
		switch {
		case !ok || !strings.HasPrefix(ss.id.Name, "#") || user == "" || strings.Contains(user, "#"):
			s.fail(x.window(ss.connect), "%q is not a private name of daemon %s", ss.id.Name, ss.id.Daemon.Name)
		case t.Asked != "" && t.Asked != user:
			s.fail(x.window(ss.connect), "a client asked for the name %q and became %q", t.Asked, user)
		case x.h.MaxPrivateName > 0 && len(user) > x.h.MaxPrivateName:
			s.fail(x.window(ss.connect), "private name %q is longer than %d bytes", user, x.h.MaxPrivateName)
		}
		byOwner[owner{ss.id.Daemon, ss.id.Name}] = append(byOwner[owner{ss.id.Daemon, ss.id.Name}], int32(i))
	}
	for i := range x.sessions { // not over the map: the order of a report must not depend on it
		ss := &x.sessions[i]
		list := byOwner[owner{ss.id.Daemon, ss.id.Name}]
		if len(list) < 2 || list[0] != int32(i) {
			continue
		}
		slices.SortStableFunc(list, func(a, b int32) int { return x.before(x.sessions[a].connect, x.sessions[b].connect) })
		for k := 1; k < len(list); k++ {
			older, newer := &x.sessions[list[k-1]], &x.sessions[list[k]]
			// A session that the daemon closed learns of it late; only its own closing says when it ended.
			closed := older.gone
			if closed >= 0 && (x.recs[closed].Reason != "" || x.before(closed, newer.connect) <= 0) {
				continue
			}
			if closed < 0 && older.dead {
				continue
			}
			s.fail(x.window(older.connect, newer.connect, closed), "two live sessions of one daemon are called %s", ss.id.Name)
		}
	}
	if x.h.MaxGroupName > 0 {
		for v := range x.views {
			if name := x.groups[x.views[v].group]; len(name) > x.h.MaxGroupName {
				s.fail(x.window(x.views[v].rec), "group name %q is longer than %d bytes", name, x.h.MaxGroupName)
			}
		}
	}
}

// checkGRP10: what a dead session sent arrives as a prefix, and its disconnect view comes last.
func checkGRP10(x *index, s *sink) {
	x.skipped(func(r, m int32, window []evs.Trace) {
		if x.sessions[x.cmsgs[m].sender].dead {
			s.fail(window, "%s misses %s and gets a later one of that session, which died", x.sname(r), x.cmsgText(m))
		}
	})
	for i := range x.sessions {
		ss := &x.sessions[i]
		gone := map[string]int32{} // name -> disconnect view
		for _, e := range ss.events {
			switch e.kind {
			case evs.TraceView:
				if e.view < 0 {
					continue
				}
				t := x.recs[e.rec].View
				if t.Cause == evs.CausedByDisconnect && len(t.Sets) == 1 && len(t.Sets[0]) == 1 {
					s.seen(1)
					gone[t.Sets[0][0]] = e.rec
				}
			case evs.TraceClientMsg:
				m := &x.cmsgs[e.msg]
				if len(gone) == 0 || m.sender < 0 || m.service < evs.FIFO {
					continue
				}
				sender := &x.sessions[m.sender]
				view, ok := gone[sender.id.Name]
				if !ok {
					continue
				}
				// A later session may bear the name again; only the first bearer is surely the one that went.
				first := !slices.ContainsFunc(x.byName[sender.id.Name], func(o int32) bool {
					return o != m.sender && x.before(x.sessions[o].events[0].rec, sender.events[0].rec) < 0
				})
				if first {
					s.fail(x.window(m.mcast, view, e.rec), "%s gets %s after its sender's disconnect view", x.sname(int32(i)), x.cmsgText(e.msg))
				}
			default:
			}
		}
	}
}

// checkGRP16: a session that stays connected misses nothing that comes between messages it got.
func checkGRP16(x *index, s *sink) {
	n := x.skipped(func(r, m int32, window []evs.Trace) {
		if !x.sessions[x.cmsgs[m].sender].dead {
			s.fail(window, "%s misses %s and gets a later one of that session", x.sname(r), x.cmsgText(m))
		}
	})
	s.seen(n)
}

// skipped finds messages ≥ FIFO that a receiver should have got and did not, although it got a later one of the sender.
//
// A gap is legal when receiver and sender were parted in between, or when the message went to groups the receiver was
// not in. So a message counts as skipped only if, from some moment before it until the later message, the receiver was
// in one of its groups and saw no network view of a group that had the sender in it all the time (or both are on one daemon). The
// moment is an earlier message of the same sender, or the view in which the sender was when it sent. It returns
// how many pairs of consecutive messages it looked at.
func (x *index) skipped(f func(r, m int32, window []evs.Trace)) int {
	pairs := 0
	for r := range x.sessions {
		ss := &x.sessions[r]
		type heard struct{ nth, ev int32 } // last message ≥ FIFO got from a sender
		last := map[int32]heard{}
		since := make([]int32, len(ss.groups)) // event of the join view + 1; 0: not a member
		calm := make([]int32, len(ss.groups))  // event of the last network view, or of the join view, + 1
		for ev := range ss.events {
			e := &ss.events[ev]
			switch e.kind {
			case evs.TraceView:
				if e.view < 0 {
					continue
				}
				if since[e.slot] == 0 {
					since[e.slot], calm[e.slot] = int32(ev)+1, int32(ev)+1
				}
				if x.views[e.view].network() {
					calm[e.slot] = int32(ev) + 1
				}
			case evs.TraceSelfLeave:
				since[e.slot], calm[e.slot] = 0, 0
			case evs.TraceClientMsg:
				m := &x.cmsgs[e.msg]
				if m.sender < 0 || m.service < evs.FIFO {
					continue
				}
				l, ok := last[m.sender]
				if !ok {
					l = heard{-1, -1}
				}
				if m.nth <= l.nth {
					continue // out of order: GRP-9
				}
				last[m.sender] = heard{m.nth, int32(ev)}
				pairs++
				if m.nth == l.nth+1 {
					continue
				}
				sender := &x.sessions[m.sender]
				for _, mi := range sender.multicast[l.nth+1 : m.nth] {
					miss := &x.cmsgs[mi]
					if miss.service < evs.FIFO || miss.selfDiscard && miss.sender == int32(r) {
						continue
					}
					for _, g := range miss.groups {
						slot := ss.find(g)
						if g != ss.self && (slot < 0 || since[slot] == 0) {
							continue
						}
						from := int32(0)
						if g != ss.self {
							from = since[slot]
						}
						anchor := x.anchor(int32(r), miss, l.ev, from, int32(ev), calm)
						if anchor < 0 {
							continue
						}
						f(int32(r), mi, x.window(x.srec(int32(r), anchor), miss.mcast, m.mcast, e.rec))
						break
					}
				}
			default:
			}
		}
	}
	return pairs
}

// anchor is an event of session r, before the place of miss in the order, from which on r and the sender of miss were
// together and r was in the group (since event from-1) until now; -1 if there is none.
func (x *index) anchor(r int32, miss *clientMessage, heard, from, now int32, calm []int32) int32 {
	ss, sender := &x.sessions[r], &x.sessions[miss.sender]
	same := ss.id.Daemon == sender.id.Daemon
	if heard >= 0 && heard >= from-1 {
		if same {
			return heard
		}
		for slot := range calm {
			if calm[slot] > 0 && calm[slot]-1 < heard && x.listed(ss, slot, heard, now, sender.id.Name) {
				return heard
			}
		}
	}
	for slot := range calm {
		if calm[slot] == 0 {
			continue
		}
		// The view in which the sender was when it sent.
		theirs := sender.find(ss.groups[slot])
		if theirs < 0 {
			continue
		}
		list := sender.installs[theirs]
		n, _ := slices.BinarySearchFunc(list, miss.at, func(in, at int32) int { return int(x.inst[in].ev - at) })
		if n == 0 {
			continue
		}
		v := &x.views[x.inst[list[n-1]].view]
		if !v.network() && !miss.causal() {
			continue // FIFO may pass a join, the receiver's own included (GRP-4)
		}
		for _, in := range v.installs {
			if ii := &x.inst[in]; ii.session == r && ii.ev >= calm[slot]-1 && ii.ev >= from-1 && ii.ev < now && x.listed(ss, slot, ii.ev, now, sender.id.Name) {
				return ii.ev
			}
		}
	}
	return -1
}

// listed reports whether every view that a session had in a slot between two of its events lists a name. Had the named
// one left and come back in between, a separation in the meantime would not show.
func (x *index) listed(ss *session, slot int, from, to int32, name string) bool {
	list := ss.installs[slot]
	n, _ := slices.BinarySearchFunc(list, to, func(in, at int32) int { return int(x.inst[in].ev - at) })
	for _, in := range slices.Backward(list[:n]) {
		if !x.views[x.inst[in].view].lists(name) {
			return false
		}
		if x.inst[in].ev <= from {
			return true
		}
	}
	return false
}

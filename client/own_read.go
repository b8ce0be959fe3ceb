// SPDX-License-Identifier: Apache-2.0

package client

import (
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// nextOwn is next for Evensong's own dialect. Frames that are answers or signs of life are dealt with here and are no
// events.
func (r *reader) nextOwn() (Event, int, error) {
	for {
		b := r.buf[r.head:r.tail]
		r.need = frame.OwnHeaderSize
		if len(b) < frame.OwnHeaderSize {
			return nil, 0, nil
		}
		h, fault := frame.ParseOwnHeader(b)
		if fault == frame.OwnFine && !h.Type.FromDaemon() {
			fault = frame.OwnFaultType
		}
		if fault != frame.OwnFine {
			return nil, 0, ownIllegal(h.Type, fault)
		}
		r.need += h.Length
		if len(b) < r.need {
			if missing := r.need - len(b); missing >= directBytes && h.Type == frame.OwnMessage && h.Stream == 0 {
				// A fault is most likely that the names are not all there; any other one is found when the frame is.
				m, fault := frame.ParseOwnMessage(b[frame.OwnHeaderSize:])
				if length := len(m.Data) + missing; fault == frame.OwnFine && worthBeginning(length, len(m.Data)) {
					r.begin(r.ownMessage(&m, r.newMessage(m.Data, length)), len(m.Data), h.Length+eventBytes)
				}
			}
			return nil, 0, nil
		}
		t, body, done, fault := r.parts.Add(h, b[frame.OwnHeaderSize:r.need])
		if fault != frame.OwnFine {
			return nil, 0, ownIllegal(h.Type, fault)
		}
		r.head += r.need
		r.need = frame.OwnHeaderSize
		if !done {
			continue
		}
		ev, err := r.ownEvent(t, body, h.Stream != 0)
		if ev != nil || err != nil {
			return ev, len(body) + eventBytes, err
		}
	}
}

// ownEvent turns a whole body into what users see, or deals with it; nil then. joined says that the body came in pieces: it is
// then no part of the buffer, and nobody else's.
func (r *reader) ownEvent(t frame.OwnType, body []byte, joined bool) (ev Event, err error) {
	s := r.conn.own
	fault := frame.OwnFine
	switch t {
	case frame.OwnPing:
		var token [8]byte
		if token, fault = frame.ParseOwnToken(body); fault == frame.OwnFine {
			r.conn.out.hurry(func(buf []byte, _ uint64) []byte { return frame.AppendOwnPong(buf, token) })
		}
	case frame.OwnPong:
		_, fault = frame.ParseOwnToken(body)
	case frame.OwnClose:
		var c frame.OwnCloseInfo
		if c, fault = frame.ParseOwnClose(body); fault == frame.OwnFine {
			return nil, &Error{Op: "receive", Code: ErrConnectionClosed, Reason: c.Reason, Detail: c.Sentence}
		}
	case frame.OwnAck:
		var a frame.OwnAckInfo
		a, fault = frame.ParseOwnAck(body)
		s.answer(a.Request, answer{value: a})
	case frame.OwnReceipt:
		var n uint32
		n, fault = frame.ParseOwnReceipt(body)
		s.answer(n, answer{value: receipt{}})
	case frame.OwnGroups:
		var l frame.OwnGroupList
		l, fault = frame.ParseOwnGroups(body)
		s.answer(l.Request, answer{value: &l})
	case frame.OwnMembers:
		var l frame.OwnMemberList
		l, fault = frame.ParseOwnMembers(body)
		s.answer(l.Request, answer{value: &l})
	case frame.OwnReject:
		var i frame.OwnRejectInfo
		if i, fault = frame.ParseOwnReject(body); fault == frame.OwnFine {
			ev = r.ownReject(&i)
		}
	case frame.OwnMessage:
		var m frame.OwnMsg
		if m, fault = frame.ParseOwnMessage(body); fault == frame.OwnFine {
			if joined && len(m.Data) > len(body)/2 { // else much would be kept for little
				return r.ownMessage(&m, &Message{Data: m.Data}), nil
			}
			return r.ownMessage(&m, r.newMessage(m.Data, len(m.Data))), nil
		}
	case frame.OwnView:
		var v frame.OwnViewInfo
		if v, fault = frame.ParseOwnView(body); fault == frame.OwnFine {
			view := newOwnView(&v)
			view.Primary = r.primary
			return view, nil
		}
	case frame.OwnTransition:
		var group []byte
		var id evs.ViewID
		if group, id, fault = frame.ParseOwnTransition(body); fault == frame.OwnFine {
			return &Transition{Group: r.names.get(group), ID: ViewID(id)}, nil
		}
	case frame.OwnSelfLeave:
		var group []byte
		var why evs.Detail
		if group, _, why, fault = frame.ParseOwnSelfLeave(body); fault == frame.OwnFine {
			return &SelfLeave{Group: r.names.get(group), Detail: Detail(why)}, nil
		}
	case frame.OwnDaemons:
		var list []frame.OwnDaemon
		if list, fault = frame.ParseOwnDaemons(body); fault == frame.OwnFine {
			p := peers(list)
			s.mu.Lock()
			s.daemons = p
			s.mu.Unlock()
			return &Peers{List: p}, nil
		}
	case frame.OwnPrimary:
		var p evs.Primary
		if p, fault = frame.ParseOwnPrimary(body); fault == frame.OwnFine && Primary(p) != r.primary {
			r.primary = Primary(p)
			return &PrimaryChange{Primary: r.primary}, nil
		}
	default: // of the handshake, which is over
		fault = frame.OwnFaultType
	}
	if fault != frame.OwnFine {
		return nil, ownIllegal(t, fault)
	}
	return ev, nil
}

// ownMessage gives ev everything but its data.
func (r *reader) ownMessage(m *frame.OwnMsg, ev *Message) *Message {
	ev.Sender = r.names.get(m.Sender)
	ev.Groups = ev.one[:0:1]
	for g := range m.Groups.All() {
		ev.Groups = append(ev.Groups, r.names.get(g))
	}
	ev.Service = Service(m.Type)
	ev.Type = m.Hint.MessType()
	ev.EndianMismatch = m.Hint.Order() != nativeOrder
	return ev
}

// ownReject is the answer to whoever waits for the request, else an event.
func (r *reader) ownReject(i *frame.OwnRejectInfo) Event {
	refused := &Error{Code: i.Code, Detail: i.Sentence}
	if r.conn.own.answer(i.Request, answer{err: refused}) {
		return nil
	}
	ev := &Rejected{Request: RequestMulticast, Reason: i.Sentence}
	if len(i.Group) > 0 {
		ev.Groups = []string{string(i.Group)}
	}
	switch i.Type {
	case frame.OwnJoin:
		ev.Request = RequestJoin
	case frame.OwnLeave:
		ev.Request = RequestLeave
	}
	return ev
}

func newOwnView(v *frame.OwnViewInfo) *View {
	ev := &View{Group: v.Group, ID: ViewID(v.ID), Members: v.Members, Detail: Detail(v.Detail), Mine: int(v.Own)}
	switch v.Cause {
	case evs.CausedByJoin:
		ev.Cause, ev.Joined = CausedByJoin, v.Changed
	case evs.CausedByLeave:
		ev.Cause, ev.Left = CausedByLeave, v.Changed
	case evs.CausedByDisconnect:
		ev.Cause, ev.Disconnected = CausedByDisconnect, v.Changed
	case evs.CausedByNetwork:
		ev.Cause = CausedByNetwork
		ev.VSSets = make([][]string, v.Sets)
		for i, m := range v.Members {
			ev.VSSets[v.SetOf[i]] = append(ev.VSSets[v.SetOf[i]], m)
		}
		return ev
	}
	ev.VSSets = [][]string{{v.Changed}}
	return ev
}

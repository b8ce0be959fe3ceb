// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// Limits of the protocol (client-protocol 3.4, 3.5).
const (
	// MaxGroups is how many destinations a message may have.
	MaxGroups = frame.MaxGroups
	// MaxGroupsEverywhere is how many destinations the original's daemon handles. It delivers a message with more to
	// nobody, without an error.
	MaxGroupsEverywhere = frame.SafeGroups
	// MaxMessage is how many bytes data and destinations, 32 each, may have together with every daemon, that of the original
	// included: 143120 bytes of data to one group.
	MaxMessage = frame.SafeBody
	// MaxMessageEvensong is the same for Evensong daemons, 143920 bytes of data to one group; see WithMaxMessage.
	MaxMessageEvensong = frame.MaxBody
	// MaxGroupName is the length of the longest group name.
	MaxGroupName = frame.MaxGroupName
	// MaxPrivateName is the length of the longest private name.
	MaxPrivateName = frame.MaxUserName
)

func checkPrivateName(name string) error {
	if name == "" || frame.LegalUser(name) {
		return nil
	}
	if len(name) > MaxPrivateName {
		return &Error{Code: ErrIllegalName, Detail: fmt.Sprintf("%q has %d bytes, %d are possible", name, len(name), MaxPrivateName)}
	}
	return &Error{Code: ErrIllegalName, Detail: fmt.Sprintf("%q has a character outside '$' to '~'", name)}
}

// checkGroup is for join and leave. It returns the concrete type so that the caller can add what was tried; nil is nil.
func checkGroup(name string) *Error {
	if frame.LegalGroup(name) {
		return nil
	}
	return &Error{Code: ErrIllegalGroup, Err: frame.CheckGroup(name)}
}

// checkGroup is for the dialect of the session.
func (c *Conn) checkGroup(name string) *Error {
	if c.own == nil {
		return checkGroup(name)
	}
	if frame.LegalOwnGroup(name) {
		return nil
	}
	return &Error{Code: ErrIllegalGroup, Detail: fmt.Sprintf("%.40q: a group name has 1 to %d bytes of UTF-8 without control characters and #", name, frame.MaxOwnName)}
}

// checkDestination is checkGroup, and lets private groups pass.
func checkDestination(name string) *Error {
	if frame.LegalGroup(name) {
		return nil
	}
	if _, _, ok := frame.SplitPrivate(name); ok {
		return nil
	}
	if strings.HasPrefix(name, "#!") && len(name) < frame.NameSize && strings.Count(name, "#") == 2 {
		return nil // the short name of a session in Evensong's own dialect
	}
	if len(name) > 0 && name[0] == '#' {
		return &Error{Code: ErrIllegalGroup, Detail: fmt.Sprintf("%q is not a private group of the form #name#daemon", name)}
	}
	return &Error{Code: ErrIllegalGroup, Err: frame.CheckGroup(name)}
}

// appendMulticast writes a message whose data is in pieces; the sizes were checked.
func appendMulticast(dst, private []byte, service Service, messType int16, parts [][]byte, dataBytes int, groups []string) []byte {
	h := frame.Header{
		Type:      frame.Type(service),
		Name:      private,
		NumGroups: int32(len(groups)),
		Hint:      frame.NewHint(messType, frame.LittleEndian),
		DataLen:   int32(dataBytes),
	}
	dst = h.Append(dst)
	for _, g := range groups {
		dst = frame.AppendName(dst, g)
	}
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// nativeOrder is this machine's byte order.
var nativeOrder = func() frame.Order {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return frame.LittleEndian
	}
	return frame.BigEndian
}()

// eventBytes is what an event counts for in the receive queue on top of its frame: the structs around the data.
const eventBytes = 160

// next decodes the frame at head. It returns nothing if that is not complete. The event shares no memory with the
// buffer. Frames of a kind that no client knows are passed over (client-protocol 5.7).
func (r *reader) next() (Event, int, error) {
	var m frame.Message
	for {
		b := r.buf[r.head:r.tail]
		r.need = frame.HeaderSize
		if len(b) < frame.HeaderSize {
			return nil, 0, nil
		}
		m.Parse(b)
		if fault := m.CheckDaemon(); fault != frame.FaultNone {
			return nil, 0, r.illegal(fault.String())
		}
		r.need += m.BodySize()
		if len(b) < r.need {
			data := frame.HeaderSize + frame.NameSize*int(m.NumGroups)
			if length, got := r.need-data, len(b)-data; got >= 0 && m.Type.Kind() == frame.KindRegular && worthBeginning(length, got) {
				m.Split(b[frame.HeaderSize:])
				r.begin(r.message(&m, r.newMessage(m.Data, length)), got, r.need+eventBytes)
			}
			return nil, 0, nil
		}
		m.Split(b[frame.HeaderSize:r.need])
		size := r.need
		r.head += size
		r.need = frame.HeaderSize
		ev, err := r.frameEvent(&m)
		if ev != nil || err != nil {
			return ev, size + eventBytes, err
		}
	}
}

// frameEvent turns a frame into what users see; nil for an unknown kind.
func (r *reader) frameEvent(m *frame.Message) (Event, error) {
	switch m.Type.Kind() {
	case frame.KindRegular:
		return r.message(m, r.newMessage(m.Data, len(m.Data))), nil
	case frame.KindReject:
		return r.rejected(m), nil
	case frame.KindView:
		v, own, err := frame.ParseView(m)
		if err != nil {
			return nil, &Error{Op: "receive", Code: ErrIllegalMessage, Err: err}
		}
		return newView(&v, own), nil
	case frame.KindTransition:
		t := &Transition{Group: r.names.get(m.Name)}
		// A body that is too short leaves the zero ID: which view ends is known without it.
		if id, ok := frame.ParseTransition(m); ok {
			t.ID = ViewID(id)
		}
		return t, nil
	case frame.KindSelfLeave:
		return &SelfLeave{Group: r.names.get(m.Name)}, nil
	case frame.KindUnknown:
		return nil, nil
	}
	panic("client: unhandled kind of frame " + m.Type.Kind().String())
}

// newMessage has room for length bytes of data and the first of them.
func (r *reader) newMessage(first []byte, length int) *Message {
	ev := newMessage(r.conn.opts.pooled, length)
	copy(ev.Data, first)
	return ev
}

// message gives ev everything but its data.
func (r *reader) message(m *frame.Message, ev *Message) *Message {
	ev.Sender = r.names.get(m.Name)
	ev.Groups = ev.one[:0:1]
	for _, g := range m.Groups.All() {
		ev.Groups = append(ev.Groups, r.names.get(g))
	}
	ev.Service = Service(m.Type)
	ev.Type = m.Hint.MessType()
	ev.EndianMismatch = m.Hint.Order() != nativeOrder
	return ev
}

func (r *reader) rejected(m *frame.Message) *Rejected {
	ev := &Rejected{Request: RequestMulticast, Groups: m.Groups.Strings()}
	// The daemon puts the sender behind the destinations (client-protocol 4.6).
	if n := len(ev.Groups); n > 0 && ev.Groups[n-1] == r.conn.privateGroup {
		ev.Groups = ev.Groups[:n-1]
	}
	switch {
	case m.OldType&frame.MaskRegular != 0:
		ev.Service, ev.Type, ev.Data = Service(m.OldType), m.Hint.MessType(), slices.Clone(m.Data)
	case m.OldType&(frame.TypeCausedByJoin|frame.TypeJoin) != 0:
		ev.Request = RequestJoin
	case m.OldType&(frame.TypeCausedByLeave|frame.TypeLeave) != 0:
		ev.Request = RequestLeave
	}
	return ev
}

func newView(v *frame.View, own int) *View {
	ev := &View{Group: v.Group, ID: ViewID(v.ID), Members: v.Members, VSSets: v.Sets, Mine: own}
	changed, _ := v.Changed()
	switch v.Cause {
	case evs.CausedByJoin:
		ev.Cause, ev.Joined = CausedByJoin, changed
	case evs.CausedByLeave:
		ev.Cause, ev.Left = CausedByLeave, changed
	case evs.CausedByDisconnect:
		ev.Cause, ev.Disconnected = CausedByDisconnect, changed
	case evs.CausedByNetwork:
		ev.Cause = CausedByNetwork
	}
	return ev
}

func (r *reader) illegal(what string) error {
	return &Error{Op: "receive", Code: ErrIllegalMessage, Detail: what}
}

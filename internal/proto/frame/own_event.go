// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"

	"evensong/internal/proto/evs"
)

// OwnMsg is a message as a client receives it. After ParseOwnMessage, Sender, Groups and Data alias its input.
//
//	type word 4 · hint 4 · number of groups 2 · zero 1 · sender (length 1, bytes)
//	groups (length 1, bytes each) · data, to the end
type OwnMsg struct {
	Type   Type // as sent, without a mark
	Hint   Hint // as sent
	Sender []byte
	Groups OwnNames
	Count  int // of groups
	Data   []byte
}

// OwnMessageBody is the size of the body of a MESSAGE, which OwnSize turns into that on the wire.
func OwnMessageBody(sender string, groups [][]byte, data int) int {
	n := 12 + len(sender) + data
	for _, g := range groups {
		n += 1 + len(g)
	}
	return n
}

// AppendOwnMessage writes the MESSAGE frame, in pieces named by stream if one frame cannot hold it.
func AppendOwnMessage(dst []byte, stream uint16, t Type, hint Hint, sender string, groups [][]byte, data []byte) []byte {
	at := len(dst)
	dst = appendOwnMessageHead(beginOwn(dst, OwnMessage), t, hint, sender, groups)
	return endOwn(append(dst, data...), at, stream)
}

// AppendOwnMessageHead is AppendOwnMessage for the caller who has so many bytes of data where they belong, right behind what it appends.
// It reports false, and appends nothing, if one frame cannot hold them.
func AppendOwnMessageHead(dst []byte, t Type, hint Hint, sender string, groups [][]byte, data int) ([]byte, bool) {
	n := OwnMessageBody(sender, groups, data)
	if n > OwnFragment {
		return dst, false
	}
	h := OwnHeader{Length: n, Type: OwnMessage}
	return appendOwnMessageHead(h.Append(dst), t, hint, sender, groups), true
}

// appendOwnMessageHead writes the body of a MESSAGE up to its data.
func appendOwnMessageHead(dst []byte, t Type, hint Hint, sender string, groups [][]byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t)&^Mark)
	dst = append(dst, hint[:]...)
	dst = append(binary.LittleEndian.AppendUint16(dst, uint16(len(groups))), 0)
	dst = appendText(dst, sender)
	for _, g := range groups {
		dst = appendText(dst, g)
	}
	return dst
}

// ParseOwnMessage reads the body of a MESSAGE.
func ParseOwnMessage(body []byte) (m OwnMsg, fault OwnFault) {
	r := reader{b: body}
	m.Type = Type(r.u32())
	copy(m.Hint[:], r.take(4))
	m.Count = int(r.u16())
	r.zero(1)
	m.Sender = r.name()
	m.Groups, m.Data = r.names(m.Count), r.rest()
	return m, r.end()
}

// OwnViewInfo is a membership of a group (own-dialect 6.2).
//
//	view id 3×4 · cause 1 · detail 1 · zero 2 · number of members 4 · number of sets 4 · own set 4
//	group · changed  (length 1, bytes each)
//	per member: set 4 · name (length 1, bytes)
//
// For the causes join, leave and disconnect Changed is who joined, left or disconnected, all members came along, and
// there are no sets. For network Changed is empty and SetOf tells for each member in which of Sets sets it is: members of
// one set come from one view and delivered the same messages in it.
type OwnViewInfo struct {
	Group   string
	ID      evs.ViewID
	Cause   evs.Cause
	Detail  evs.Detail
	Changed string
	Members []string
	SetOf   []uint32 // by member; nil if there are no sets
	Sets    uint32
	Own     uint32 // the receiver's set
}

// Size is the size of the frame.
func (v *OwnViewInfo) Size() int {
	n := 30 + len(v.Group) + len(v.Changed)
	for _, m := range v.Members {
		n += 5 + len(m)
	}
	return OwnSize(n)
}

// AppendOwnView writes the VIEW frame, in pieces named by stream if one frame cannot hold it.
func AppendOwnView(dst []byte, stream uint16, v *OwnViewInfo) []byte {
	at, le := len(dst), binary.LittleEndian
	dst = appendViewID(beginOwn(dst, OwnView), LittleEndian, v.ID)
	dst = append(dst, byte(v.Cause), byte(v.Detail), 0, 0)
	dst = le.AppendUint32(dst, uint32(len(v.Members)))
	dst = le.AppendUint32(le.AppendUint32(dst, v.Sets), v.Own)
	dst = appendText(appendText(dst, v.Group), v.Changed)
	for i, m := range v.Members {
		set := uint32(0)
		if v.SetOf != nil {
			set = v.SetOf[i]
		}
		dst = appendText(le.AppendUint32(dst, set), m)
	}
	return endOwn(dst, at, stream)
}

// ParseOwnView reads the body of a VIEW; the result is a copy.
func ParseOwnView(body []byte) (v OwnViewInfo, fault OwnFault) {
	r := reader{b: body}
	v.ID, v.Cause, v.Detail = r.viewID(), evs.Cause(r.u8()), evs.Detail(r.u8())
	r.zero(2)
	count := r.u32()
	v.Sets, v.Own = r.u32(), r.u32()
	v.Group, v.Changed = string(r.name()), string(r.bytes())
	network := v.Cause == evs.CausedByNetwork
	switch {
	case r.fault != OwnFine:
	case v.Cause < evs.CausedByJoin || v.Cause > evs.CausedByNetwork:
		r.bad(OwnFaultIndex)
	case int64(count)*5 > int64(len(r.b)):
		r.bad(OwnFaultShort)
	case network != (v.Changed == ""), network != (v.Sets != 0), v.Sets > count, v.Own >= max(v.Sets, 1):
		r.bad(OwnFaultIndex)
	}
	if r.fault != OwnFine {
		return OwnViewInfo{}, r.fault
	}
	v.Members = make([]string, 0, count)
	if network {
		v.SetOf = make([]uint32, 0, count)
	}
	for range count {
		set, name := r.u32(), r.name()
		if set >= max(v.Sets, 1) {
			r.bad(OwnFaultIndex)
		}
		if r.fault != OwnFine {
			return OwnViewInfo{}, r.fault
		}
		v.Members = append(v.Members, string(name))
		if network {
			v.SetOf = append(v.SetOf, set)
		}
	}
	if fault = r.end(); fault != OwnFine {
		return OwnViewInfo{}, fault
	}
	return v, OwnFine
}

// SetMembers are the members of a set, in the order of the view.
func (v *OwnViewInfo) SetMembers(set uint32) (names []string) {
	for i, m := range v.Members {
		if v.SetOf == nil || v.SetOf[i] == set {
			names = append(names, m)
		}
	}
	return names
}

// OwnTransitionSize is the size of the TRANSITION frame of a group.
func OwnTransitionSize(group string) int { return OwnHeaderSize + 13 + len(group) }

// AppendOwnTransition writes the TRANSITION frame: the transitional signal of a group; id is the view that ends.
//
//	view id 3×4 · group (length 1, bytes)
func AppendOwnTransition(dst []byte, group string, id evs.ViewID) []byte {
	at := len(dst)
	return endOwn(appendText(appendViewID(beginOwn(dst, OwnTransition), LittleEndian, id), group), at, 0)
}

// ParseOwnTransition reads the body of a TRANSITION frame; the group aliases it.
func ParseOwnTransition(body []byte) (group []byte, id evs.ViewID, fault OwnFault) {
	r := reader{b: body}
	id, group = r.viewID(), r.name()
	return group, id, r.end()
}

// OwnSelfLeaveSize is the size of the SELF_LEAVE frame of a group.
func OwnSelfLeaveSize(group string) int { return OwnHeaderSize + 14 + len(group) }

// AppendOwnSelfLeave writes the SELF_LEAVE frame: the receiver is out of the group, by its own wish or evicted; id is
// the view that the others have from here on.
//
//	view id 3×4 · detail 1 · group (length 1, bytes)
func AppendOwnSelfLeave(dst []byte, group string, id evs.ViewID, why evs.Detail) []byte {
	at := len(dst)
	dst = append(appendViewID(beginOwn(dst, OwnSelfLeave), LittleEndian, id), byte(why))
	return endOwn(appendText(dst, group), at, 0)
}

// ParseOwnSelfLeave reads the body of a SELF_LEAVE frame; the group aliases it.
func ParseOwnSelfLeave(body []byte) (group []byte, id evs.ViewID, why evs.Detail, fault OwnFault) {
	r := reader{b: body}
	id, why, group = r.viewID(), evs.Detail(r.u8()), r.name()
	return group, id, why, r.end()
}

// OwnPrimarySize is the size of the PRIMARY frame.
const OwnPrimarySize = OwnHeaderSize + 4

// AppendOwnPrimary writes the PRIMARY frame: what holds for all messages and views behind it.
//
//	primary 1 · zero 3
func AppendOwnPrimary(dst []byte, p evs.Primary) []byte {
	at := len(dst)
	return endOwn(append(beginOwn(dst, OwnPrimary), byte(p), 0, 0, 0), at, 0)
}

// ParseOwnPrimary reads the body of a PRIMARY frame. A number of a later version claims nothing that is known here.
func ParseOwnPrimary(body []byte) (p evs.Primary, fault OwnFault) {
	r := reader{b: body}
	if p = evs.Primary(r.u8()); p > evs.PrimaryYes {
		p = evs.PrimaryUnclaimed
	}
	r.zero(3)
	return p, r.end()
}

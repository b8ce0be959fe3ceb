// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"

	"evensong/internal/proto/evs"
)

// OwnStatus is the outcome of a request that took its place in the order.
type OwnStatus uint8

// The outcomes.
const (
	OwnDone      OwnStatus = 0 // the view was changed
	OwnUnchanged OwnStatus = 1 // join: member already; leave, evict: no member
	OwnVoid      OwnStatus = 2 // evict: the view is no longer the group's
	OwnForbidden OwnStatus = 3 // evict: who asked is no member of the group
)

// String is the outcome in lower-case words.
func (s OwnStatus) String() string {
	switch s {
	case OwnDone:
		return "done"
	case OwnUnchanged:
		return "unchanged"
	case OwnVoid:
		return "void"
	case OwnForbidden:
		return "forbidden"
	}
	return "OwnStatus(" + strconv.Itoa(int(s)) + ")"
}

// OwnAckInfo answers a join, leave or evict at its place in the order, behind the view or self-leave that it caused.
//
//	request 4 · status 1 · zero 3 · view id 3×4
type OwnAckInfo struct {
	Request uint32
	Status  OwnStatus
	View    evs.ViewID // of the group at this place in the order; zero if there is no such group any more
}

// OwnAckSize is the size of the ACK frame.
const OwnAckSize = OwnHeaderSize + 20

// AppendOwnAck writes the ACK frame.
func AppendOwnAck(dst []byte, a OwnAckInfo) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(beginOwn(dst, OwnAck), a.Request)
	return endOwn(appendViewID(append(dst, byte(a.Status), 0, 0, 0), LittleEndian, a.View), at, 0)
}

// ParseOwnAck reads the body of an ACK frame.
func ParseOwnAck(body []byte) (a OwnAckInfo, fault OwnFault) {
	r := reader{b: body}
	a.Request, a.Status = r.u32(), OwnStatus(r.u8())
	r.zero(3)
	a.View = r.viewID()
	return a, r.end()
}

// OwnReceiptSize is the size of the RECEIPT frame.
const OwnReceiptSize = OwnHeaderSize + 4

// AppendOwnReceipt writes the RECEIPT frame: a message with this request number has been delivered at this daemon, in
// the sense of its service.
//
//	request 4
func AppendOwnReceipt(dst []byte, request uint32) []byte {
	at := len(dst)
	return endOwn(binary.LittleEndian.AppendUint32(beginOwn(dst, OwnReceipt), request), at, 0)
}

// ParseOwnReceipt reads the body of a RECEIPT frame.
func ParseOwnReceipt(body []byte) (request uint32, fault OwnFault) {
	r := reader{b: body}
	request = r.u32()
	return request, r.end()
}

// OwnRejectInfo tells that a request was refused and did nothing; the session goes on. After ParseOwnReject, Group
// aliases its input.
//
//	request 4 · code 1 (signed) · frame type 1 · group (length 1, bytes) · sentence, to the end
type OwnRejectInfo struct {
	Request  uint32
	Code     Code
	Type     OwnType // what was refused
	Group    []byte  // which group it was about; the first destination of a message
	Sentence string
}

// OwnRejectSize is the most that AppendOwnReject writes.
func OwnRejectSize(r *OwnRejectInfo) int {
	return OwnHeaderSize + 7 + len(r.Group) + len(r.Sentence)
}

// AppendOwnReject writes the REJECT frame.
func AppendOwnReject(dst []byte, i *OwnRejectInfo) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(beginOwn(dst, OwnReject), i.Request)
	dst = appendText(append(dst, i.Code.Byte(), byte(i.Type)), i.Group)
	return endOwn(append(dst, cutText(i.Sentence)...), at, 0)
}

// ParseOwnReject reads the body of a REJECT frame.
func ParseOwnReject(body []byte) (i OwnRejectInfo, fault OwnFault) {
	r := reader{b: body}
	i = OwnRejectInfo{Request: r.u32(), Code: Code(r.u8()), Type: OwnType(r.u8()), Group: r.bytes()}
	sentence := r.rest()
	if !utf8.Valid(sentence) {
		r.bad(OwnFaultText)
	}
	if fault = r.end(); fault != OwnFine {
		return OwnRejectInfo{}, fault
	}
	i.Sentence = string(sentence)
	return i, OwnFine
}

// OwnQueryFlags says more about an answer to a query.
type OwnQueryFlags uint8

// The flags.
const (
	OwnQueryMore     OwnQueryFlags = 1 // further entries exist: ask for the next page
	OwnQuerySettling OwnQueryFlags = 2 // daemons are exchanging their tables, which may change this at any moment
	OwnQueryNone     OwnQueryFlags = 4 // there is no such group
)

const ownQueryFlags = OwnQueryMore | OwnQuerySettling | OwnQueryNone

// OwnPage bounds the entries of an answer to a query, in bytes; at least one entry is in every page.
const OwnPage = 60 << 10

// OwnGroupEntry is one group of a GROUPS frame.
type OwnGroupEntry struct {
	Name    string
	View    evs.ViewID
	Members uint32
}

// Size is the entry's size on the wire.
func (e *OwnGroupEntry) Size() int { return 17 + len(e.Name) }

// OwnGroupList answers LIST_GROUPS.
//
//	request 4 · flags 1 · zero 1 · count 2 · per group: view id 3×4 · members 4 · name (length 1, bytes)
type OwnGroupList struct {
	Request uint32
	Flags   OwnQueryFlags
	Groups  []OwnGroupEntry
}

// Size is the size of the frame.
func (l *OwnGroupList) Size() int {
	n := 8
	for i := range l.Groups {
		n += l.Groups[i].Size()
	}
	return OwnSize(n)
}

// AppendOwnGroups writes the GROUPS frame.
func AppendOwnGroups(dst []byte, l *OwnGroupList) []byte {
	at, le := len(dst), binary.LittleEndian
	dst = append(le.AppendUint32(beginOwn(dst, OwnGroups), l.Request), byte(l.Flags), 0)
	dst = le.AppendUint16(dst, uint16(len(l.Groups)))
	for i := range l.Groups {
		e := &l.Groups[i]
		dst = le.AppendUint32(appendViewID(dst, LittleEndian, e.View), e.Members)
		dst = appendText(dst, e.Name)
	}
	return endOwn(dst, at, 1)
}

// ParseOwnGroups reads the body of a GROUPS frame; the result is a copy.
func ParseOwnGroups(body []byte) (l OwnGroupList, fault OwnFault) {
	r := reader{b: body}
	l.Request, l.Flags = r.u32(), OwnQueryFlags(r.u8())
	r.zero(1)
	if l.Flags&^ownQueryFlags != 0 {
		r.bad(OwnFaultFlags)
	}
	for range r.u16() {
		e := OwnGroupEntry{View: r.viewID(), Members: r.u32(), Name: string(r.name())}
		if r.fault != OwnFine {
			break
		}
		l.Groups = append(l.Groups, e)
	}
	if fault = r.end(); fault != OwnFine {
		return OwnGroupList{}, fault
	}
	return l, OwnFine
}

// OwnMemberList answers LIST_MEMBERS. Pages with one View belong together; with another one, begin again.
//
//	request 4 · flags 1 · zero 1 · count 2 · first 4 · total 4 · view id 3×4 · names (length 1, bytes each)
type OwnMemberList struct {
	Request uint32
	Flags   OwnQueryFlags
	First   uint32 // number of the first member here
	Total   uint32 // members of the group
	View    evs.ViewID
	Members []string
}

// Size is the size of the frame.
func (l *OwnMemberList) Size() int {
	n := 28
	for _, s := range l.Members {
		n += 1 + len(s)
	}
	return OwnSize(n)
}

// AppendOwnMembers writes the MEMBERS frame.
func AppendOwnMembers(dst []byte, l *OwnMemberList) []byte {
	at, le := len(dst), binary.LittleEndian
	dst = append(le.AppendUint32(beginOwn(dst, OwnMembers), l.Request), byte(l.Flags), 0)
	dst = le.AppendUint16(dst, uint16(len(l.Members)))
	dst = le.AppendUint32(le.AppendUint32(dst, l.First), l.Total)
	dst = appendViewID(dst, LittleEndian, l.View)
	for _, s := range l.Members {
		dst = appendText(dst, s)
	}
	return endOwn(dst, at, 1)
}

// ParseOwnMembers reads the body of a MEMBERS frame; the result is a copy.
func ParseOwnMembers(body []byte) (l OwnMemberList, fault OwnFault) {
	r := reader{b: body}
	l.Request, l.Flags = r.u32(), OwnQueryFlags(r.u8())
	r.zero(1)
	if l.Flags&^ownQueryFlags != 0 {
		r.bad(OwnFaultFlags)
	}
	count := int(r.u16())
	l.First, l.Total, l.View = r.u32(), r.u32(), r.viewID()
	names := r.names(count)
	if fault = r.end(); fault != OwnFine {
		return OwnMemberList{}, fault
	}
	l.Members = names.Strings()
	return l, OwnFine
}

// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"
	"math/bits"

	"evensong/internal/proto/evs"
)

// Capabilities that a hello may ask for. A daemon refuses others by name.
const (
	OwnCapEvict   = "evict"   // EVICT
	OwnCapQuery   = "query"   // LIST_GROUPS, LIST_MEMBERS
	OwnCapReceipt = "receipt" // a MULTICAST with a request number is answered with RECEIPT
	OwnCapPrimary = "primary" // PRIMARY
)

// AppendOwnPing writes the PING frame; its eight bytes come back in a PONG.
func AppendOwnPing(dst []byte, token [8]byte) []byte { return appendToken(dst, OwnPing, token) }

// AppendOwnPong writes the PONG frame.
func AppendOwnPong(dst []byte, token [8]byte) []byte { return appendToken(dst, OwnPong, token) }

func appendToken(dst []byte, t OwnType, token [8]byte) []byte {
	at := len(dst)
	return endOwn(append(beginOwn(dst, t), token[:]...), at, 0)
}

// ParseOwnToken reads the body of a PING or PONG frame.
func ParseOwnToken(body []byte) (token [8]byte, fault OwnFault) {
	r := reader{b: body}
	copy(token[:], r.take(8))
	return token, r.end()
}

// AppendOwnBye writes the BYE frame, which has no body.
func AppendOwnBye(dst []byte) []byte {
	at := len(dst)
	return endOwn(beginOwn(dst, OwnBye), at, 0)
}

// ParseOwnBye reads the body of a BYE frame.
func ParseOwnBye(body []byte) OwnFault {
	r := reader{b: body}
	return r.end()
}

// AppendOwnJoin writes the JOIN frame. request is what the answer repeats; zero wants none.
//
//	request 4 · group (length 1, bytes)
func AppendOwnJoin(dst []byte, request uint32, group string) []byte {
	return appendOwnGroup(dst, OwnJoin, request, group)
}

// AppendOwnLeave writes the LEAVE frame, whose layout is that of JOIN.
func AppendOwnLeave(dst []byte, request uint32, group string) []byte {
	return appendOwnGroup(dst, OwnLeave, request, group)
}

func appendOwnGroup(dst []byte, t OwnType, request uint32, group string) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(beginOwn(dst, t), request)
	return endOwn(appendText(dst, group), at, 0)
}

// ParseOwnGroup reads the body of a JOIN or LEAVE frame; the group aliases it. Whether the name is legal is not checked.
func ParseOwnGroup(body []byte) (request uint32, group []byte, fault OwnFault) {
	r := reader{b: body}
	request, group = r.u32(), r.bytes()
	return request, group, r.end()
}

// OwnCast is a message on its way to the daemon. After ParseOwnMulticast, Groups and Data alias its input.
//
//	request 4 · type word 4 · hint 4 · number of groups 2 · zero 2
//	groups (length 1, bytes each) · data, to the end
type OwnCast struct {
	Request uint32 // what the receipt or refusal repeats; zero: no receipt
	Type    Type   // one service, SELF_DISCARD if wanted, and what daemons transport; without a mark
	Hint    Hint   // message type, in the byte order that the data has
	Groups  OwnNames
	Count   int // of groups
	Data    []byte
}

// ownCastHeader is the size of the fixed fields.
const ownCastHeader = 16

// OwnMulticastSize is the size of AppendOwnMulticast's result.
func OwnMulticastSize(groups []string, data int) int {
	n := ownCastHeader + data
	for _, g := range groups {
		n += 1 + len(g)
	}
	return OwnSize(n)
}

// AppendOwnMulticast writes a MULTICAST frame; in pieces named by stream, which must be free, if one frame cannot hold
// it. Names have at most 255 bytes.
func AppendOwnMulticast(dst []byte, stream uint16, request uint32, t Type, hint Hint, groups []string, data []byte) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(beginOwn(dst, OwnMulticast), request)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t)&^Mark)
	dst = append(dst, hint[:]...)
	dst = append(binary.LittleEndian.AppendUint16(dst, uint16(len(groups))), 0, 0)
	for _, g := range groups {
		dst = appendText(dst, g)
	}
	return endOwn(append(dst, data...), at, stream)
}

// ParseOwnMulticast reads the body of a MULTICAST and checks all that concerns the message alone. Destinations may be
// any bytes, as in the original: nobody receives at a name that cannot be joined.
func ParseOwnMulticast(body []byte) (c OwnCast, fault OwnFault) {
	r := reader{b: body}
	c.Request, c.Type = r.u32(), Type(r.u32())
	copy(c.Hint[:], r.take(4))
	c.Count = int(r.u16())
	r.zero(2)
	if c.Count > MaxOwnGroups {
		return c, OwnFaultCount
	}
	c.Groups, c.Data = r.names(c.Count), r.rest()
	switch {
	case r.fault != OwnFine:
	case bits.OnesCount32(uint32(c.Type&MaskRegular)) != 1 || c.Type&(MaskCommand|MaskDaemonOnly) != 0 || uint32(c.Type)&Mark != 0:
		r.bad(OwnFaultService)
	case !c.Hint.Valid():
		r.bad(OwnFaultHint)
	}
	return c, r.end()
}

// OwnEviction asks that Member leaves Group, if View is still the group's view when the request takes its place in the
// order (VS-8). After ParseOwnEvict the names alias its input.
//
//	request 4 · view id 3×4 · group · member  (length 1, bytes each)
type OwnEviction struct {
	Request       uint32
	View          evs.ViewID
	Group, Member []byte
}

// AppendOwnEvict writes the EVICT frame.
func AppendOwnEvict(dst []byte, request uint32, view evs.ViewID, group, member string) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(beginOwn(dst, OwnEvict), request)
	dst = appendViewID(dst, LittleEndian, view)
	return endOwn(appendText(appendText(dst, group), member), at, 0)
}

// ParseOwnEvict reads the body of an EVICT frame.
func ParseOwnEvict(body []byte) (e OwnEviction, fault OwnFault) {
	r := reader{b: body}
	e = OwnEviction{Request: r.u32(), View: r.viewID(), Group: r.bytes(), Member: r.bytes()}
	return e, r.end()
}

func (r *reader) viewID() (id evs.ViewID) {
	for i := range id {
		id[i] = r.u32()
	}
	return id
}

// OwnGroupQuery asks for the names of groups behind After, in the order of their bytes. After aliases the input of
// ParseOwnListGroups.
//
//	request 4 · most 2 · after (length 1, bytes)
type OwnGroupQuery struct {
	Request uint32
	Most    int // entries in the answer, at most; zero: as many as fit
	After   []byte
}

// AppendOwnListGroups writes the LIST_GROUPS frame. after is empty for the first page, then the last name of the page
// before.
func AppendOwnListGroups(dst []byte, request uint32, most uint16, after string) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(beginOwn(dst, OwnListGroups), request)
	dst = binary.LittleEndian.AppendUint16(dst, most)
	return endOwn(appendText(dst, after), at, 0)
}

// ParseOwnListGroups reads the body of a LIST_GROUPS frame.
func ParseOwnListGroups(body []byte) (q OwnGroupQuery, fault OwnFault) {
	r := reader{b: body}
	q = OwnGroupQuery{Request: r.u32(), Most: int(r.u16()), After: r.bytes()}
	return q, r.end()
}

// OwnMemberQuery asks for members of a group, from number First on in the order of views. Group aliases the input of
// ParseOwnListMembers.
//
//	request 4 · first 4 · most 2 · group (length 1, bytes)
type OwnMemberQuery struct {
	Request uint32
	First   uint32
	Most    int // as in OwnGroupQuery
	Group   []byte
}

// AppendOwnListMembers writes the LIST_MEMBERS frame. first is zero for the first page.
func AppendOwnListMembers(dst []byte, request, first uint32, most uint16, group string) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(beginOwn(dst, OwnListMembers), request)
	dst = binary.LittleEndian.AppendUint32(dst, first)
	dst = binary.LittleEndian.AppendUint16(dst, most)
	return endOwn(appendText(dst, group), at, 0)
}

// ParseOwnListMembers reads the body of a LIST_MEMBERS frame.
func ParseOwnListMembers(body []byte) (q OwnMemberQuery, fault OwnFault) {
	r := reader{b: body}
	q = OwnMemberQuery{Request: r.u32(), First: r.u32(), Most: int(r.u16()), Group: r.bytes()}
	return q, r.end()
}
